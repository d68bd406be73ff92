"""Predictions without a network, which every encoder should be held against."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from facerep_jax.evaluation.labels import Labels
from facerep_jax.evaluation.problem import Arrays, Problem, take
from facerep_jax.evaluation.results import NETWORKS
from facerep_jax.suggestions import nearest


def without_network(
    wanted: Collection[str] | None, problem: Problem, labels: Sequence[Labels], meta: Mapping[str, Any]
) -> dict[str, list[np.ndarray]]:
    """Predictions of the task's baselines for each subset of the labels.

    Args:
        wanted: names of baselines, of which those of networks are left out; None for all of the task's.
        meta: of the data set.

    Raises:
        ValueError: the task has no baseline of a name.
    """
    found: dict[str, list[np.ndarray]] = {}
    names = None if wanted is None else [name for name in wanted if name not in NETWORKS]
    for subset in labels if names is None or names else ():
        made = problem.task.baselines(*learnt_from(problem, subset), problem.splits["test"], meta)
        for name in made if names is None else names:
            if name not in made:
                raise ValueError(f"no baseline {name!r}; {nearest(name, (*made, *NETWORKS))}")
            found.setdefault(name, []).append(np.asarray(made[name]))
    return found


def learnt_from(problem: Problem, subset: Labels) -> tuple[Arrays, Arrays]:
    """Training and validation examples of a subset; without validation examples, a tenth of its labels serves."""
    train, validation = problem.splits["train"], problem.splits["validation"]
    if len(subset.validation):
        return take(train, subset.train), take(validation, subset.validation)
    tenth = max(1, len(subset.train) // 10)
    return take(train, subset.train[tenth:]), take(train, subset.train[:tenth])
