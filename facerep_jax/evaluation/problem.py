"""A task on a data set, and an encoder to judge: what every protocol is given."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from facerep_jax.data.library import Source
from facerep_jax.data.transforms import Transform
from facerep_jax.typing import Encoder, Metric, Task

Arrays = Mapping[str, Any]  # a split: arrays over examples, on the host; `id` is a list
Indices = Int[np.ndarray, "_"]


class Problem(NamedTuple):
    """A task on a data set, and an encoder to judge."""

    encoder: Encoder
    make_task: Callable[[int], Task]  # from a seed
    metric: Metric
    train: Arrays
    validation: Arrays
    test: Arrays
    source: Source  # the training records, for protocols that augment
    transforms: tuple[Transform, ...]  # of those
    selection: str = "validation"  # one of `selection.SELECTIONS`
    folder: Path = Path()  # where large intermediate results may lie


def size(data: Arrays) -> int:
    """Examples of a split."""
    return len(data["id"])


def take(data: Arrays, rows: Indices) -> dict[str, Any]:
    """Some examples of a split."""
    return {name: [x[row] for row in rows] if name == "id" else x[rows] for name, x in data.items()}


def labels_of(data: Arrays) -> dict[str, Any]:
    """All arrays of a split but its images and ids."""
    return {name: x for name, x in data.items() if name not in ("id", "image")}
