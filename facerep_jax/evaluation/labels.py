"""Which examples a subset of the labels holds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from facerep_jax.data.pipeline import Subset
from facerep_jax.evaluation.problem import Arrays, Indices, Problem, size, take
from facerep_jax.evaluation.statistics import label_subset

FEWEST = 2  # labels that anything is learnt from


class Labels(NamedTuple):
    """One subset of the labels, as rows of the splits."""

    seed: int
    train: Indices
    validation: Indices


def check_seeds(seeds: Sequence[Any]) -> None:
    """Raise ValueError if there is no seed, one that no network can be made from, or the same one twice."""
    if not seeds:
        raise ValueError("seeds is empty; an evaluation needs at least one subset of the labels")
    for place, seed in enumerate(seeds):
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seeds has {seed!r}; a seed is a whole number from 0 to {2**32 - 1}")
        if seed in seeds[:place]:
            raise ValueError(f"seeds has {seed} twice; equal subsets of the labels show no spread")


def draw(problem: Problem, fraction: float, seeds: Sequence[int], least: int) -> list[Labels]:
    """A subset for each seed: a fraction of the training labels and of the validation labels, of these at least some.

    If all would be one and the same, as with all labels, there is only that of the first seed.

    A task draws over records, or over the values of another key, such as all records of a person. A task without a
    training split has subsets without examples.

    Args:
        seeds: as `check_seeds` allows them.
        least: validation labels, if there are so many; a choice among heads needs some whatever the fraction.
    """
    train, validation, key = problem.splits["train"], problem.splits["validation"], problem.task.drawn_by
    names = {*names_of(train, key)}
    drawn = [
        Labels(seed, rows_of(train, key, fraction, seed), rows_of(validation, key, fraction, seed, least=least))
        for seed in seeds
    ]
    if names:
        require_enough(len(names), fraction, key, getattr(problem.task, "classes", 0))
    return distinct(drawn)


def distinct(drawn: list[Labels]) -> list[Labels]:
    """Subsets as they are, or the first alone if all hold the same examples."""
    one, *others = ({"train": {*subset.train}, "validation": {*subset.validation}} for subset in drawn)
    return drawn if any(other != one for other in others) else drawn[:1]


def require_enough(count: int, fraction: float, key: str, classes: int) -> None:
    """Check that a fraction of so many labels holds one for each class on average, and `FEWEST` at least.

    Raises:
        ValueError: it does not; the message says which fraction would.
    """
    needed, what = max(FEWEST, classes), "examples" if key == "id" else f"values of {key!r}"
    if int(count * fraction) >= needed:
        return
    of = f", one for each of {classes} classes" if classes > FEWEST else ""
    least = math.ceil(10_000 * needed / count) / 10_000  # rounded up, so that it is enough
    raise ValueError(
        f"a fraction of {fraction:g} of {count} training {what} is less than {needed} labels; nothing can be learnt "
        f"from them{of}: " + (f"the smallest fraction is {least:g}" if count >= needed else "no fraction is enough")
    )


def rows_of(data: Arrays, key: str, fraction: float, seed: int, *, least: int = 1) -> Indices:
    """The examples of a split whose value of `key` is in the subset of these values, in the subset's order."""
    if not size(data):
        return np.zeros(0, int)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names_of(data, key)):
        rows.setdefault(name, []).append(row)
    return np.concatenate([rows[name] for name in label_subset([*rows], fraction, seed, least=least)])


def names_of(data: Arrays, key: str) -> list[str]:
    """What each example of a split is drawn by: its id, or its value of another key as text."""
    return [str(value) for value in data[key]] if size(data) else []


def labelled(problem: Problem, labels: Sequence[Labels]) -> tuple[Problem, list[Labels]]:
    """The problem with just those training examples that some subset labels, and the subsets as rows of these."""
    train = problem.splits["train"]
    used = np.unique(np.concatenate([subset.train for subset in labels]))
    if len(used) == size(train):
        return problem, list(labels)
    splits = {**problem.splits, "train": take(train, used)}
    fewer = problem._replace(splits=splits, source=Subset(problem.source, used.tolist()))
    return fewer, [subset._replace(train=np.searchsorted(used, subset.train)) for subset in labels]
