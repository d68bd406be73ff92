"""A task on a data set, and an encoder to judge: what every protocol is given."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Int
from ml_collections import ConfigDict

from facerep_jax.config import build, build_with, locate
from facerep_jax.data.library import Dataset, Source
from facerep_jax.data.pipeline import Subset, build_transforms, load
from facerep_jax.data.transforms import Transform
from facerep_jax.typing import Encoder, Metric, Task

# A split: arrays over examples, on the host; `id`, a list of strings; and `tables`, side tables by name, each a mapping
# from a column to an array over the table's rows.
Arrays = Mapping[str, Any]
Indices = Int[np.ndarray, "_"]

NONE: Arrays = MappingProxyType({"id": [], "tables": {}})  # a split without examples
ROLES = ("train", "validation", "test")  # of splits that each problem has, if without examples


class Problem(NamedTuple):
    """A task on a data set, and an encoder to judge. Built by keywords."""

    encoder: Encoder
    make_task: Callable[[int], Task]  # from a seed
    task: Task  # of one seed, for what is the same for all: label, taps, needs, the structure of its head
    metric: Metric
    splits: Mapping[str, Arrays]  # by role: those of ROLES, and what else the task names
    source: Source  # the training records, for protocols that augment
    transforms: tuple[Transform, ...]  # of those
    selection: str = "validation"  # one of `selection.SELECTIONS`
    folder: Path = Path()  # where large intermediate results may lie


def make_problem(config: ConfigDict, dataset: Dataset, encoder: Encoder, folder: Path) -> Problem:
    """The task on the splits of the data set that it names, which are loaded into memory.

    There may be no validation split if the selection looks at none.
    """
    task = locate(config.task)
    names = {role: config.data.get("splits", {}).get(role, role) for role in task.splits}
    needed = [name for role, name in names.items() if role != "validation" or config.selection == "validation"]
    if missing := [name for name in needed if not dataset.splits.get(name)]:
        there = ", ".join(f"{name} ({count})" for name, count in dataset.splits.items())
        raise ValueError(
            f"an evaluation needs the splits {', '.join(needed)}; {missing[0]!r} of {dataset.name!r} is empty: {there}"
        )
    metric = build(task.metric(dataset.meta))
    given = {"size": config.data.size, "whole": config.data.crop == "whole"}
    transforms = build_transforms(config.data.transforms, dataset.meta, **given)
    keys = tuple(name for name in dict.fromkeys((*task.needs, task.drawn_by)) if name != "id")
    tables = {name: dataset.table(name) for name in task.tables}
    splits = dict.fromkeys(ROLES, NONE)
    for role, name in names.items():
        if dataset.splits.get(name):
            data = load(dataset.source(name), transforms, keys, optional=metric.optional, name=dataset.name)
            splits[role] = {**data, "tables": tables}
    pixels, label_shape = splits["test"]["image"].shape[1], splits["test"][task.label].shape[1:]

    def make_task(seed: int) -> Task:
        offered = {"label_shape": label_shape}
        return build_with(
            config.task, offered, encoder, image_size=pixels, meta=dataset.meta, rngs=nnx.Rngs(params=seed)
        )

    return Problem(
        encoder=encoder,
        make_task=make_task,
        task=make_task(0),
        metric=metric,
        splits=splits,
        source=dataset.source(names["train"]) if "train" in names else Subset(dataset.source(names["test"]), ()),
        transforms=build_transforms(config.data.augmentations, dataset.meta, **given),
        selection=config.selection,
        folder=folder,
    )


def size(data: Arrays) -> int:
    """Examples of a split."""
    return len(data["id"])


def labels_of(data: Arrays) -> dict[str, np.ndarray]:
    """The arrays over examples of a split but its images."""
    return {name: x for name, x in data.items() if name not in ("id", "tables", "image")}


def truth_of(data: Arrays) -> Arrays:
    """What a metric reads of a split: all but its images."""
    return {name: x for name, x in data.items() if name != "image"}


def take(data: Arrays, rows: Indices) -> dict[str, Any]:
    """Some examples of a split, and all of its tables."""

    def some(name: str, x: Any) -> Any:
        if name == "tables":
            return x
        return [x[row] for row in rows] if name == "id" else x[rows]

    return {name: some(name, x) for name, x in data.items()}
