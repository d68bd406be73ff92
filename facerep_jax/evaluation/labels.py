"""Which examples a subset of the labels holds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from facerep_jax.data.pipeline import Subset
from facerep_jax.evaluation.label_metrics import MultiLabel, listed
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
    drawn = [
        Labels(seed, rows_of(train, key, fraction, seed), rows_of(validation, key, fraction, seed, least=least))
        for seed in seeds
    ]
    if size(train):
        require_enough(problem, fraction, seeds)
    return distinct(drawn)


def distinct(drawn: list[Labels]) -> list[Labels]:
    """Subsets as they are, or the first alone if all hold the same examples."""
    one, *others = ({"train": {*subset.train}, "validation": {*subset.validation}} for subset in drawn)
    return drawn if any(other != one for other in others) else drawn[:1]


def require_enough(problem: Problem, fraction: float, seeds: Sequence[int]) -> None:
    """Check that the subsets hold `FEWEST` labels, and an example of each class that the training split has.

    Raises:
        ValueError: one of them does not; the message says which fraction would for all of these seeds.
    """
    train, key = problem.splits["train"], problem.task.drawn_by
    names = names_of(train, key)
    count, what = len({*names}), "examples" if key == "id" else f"values of {key!r}"

    def least(needed: int) -> str:
        shares = (share / 10_000 for share in range(math.ceil(10_000 * needed / count), 10_001))
        return f"{next((share for share in shares if int(count * share) >= needed), 1.0):g}"  # 0.29 * 100 is below 29

    if int(count * fraction) < FEWEST:
        enough = f"the smallest fraction is {least(FEWEST)}" if count >= FEWEST else "no fraction is enough"
        raise ValueError(
            f"a fraction of {fraction:g} of {count} training {what} is less than {FEWEST} labels; nothing can be "
            f"learnt from them: {enough}"
        )
    if (classes := classes_in(problem)) is None:
        return
    having: dict[int, set[str]] = {each: set() for each in np.unique(classes[classes >= 0]).tolist()}
    for name, each in zip(names, classes.tolist(), strict=True):
        if each >= 0:
            having[each].add(name)
    needed: dict[tuple[int, int], int] = {}  # what is drawn first of each class, counted from 1
    for seed in seeds:
        place = {name: number for number, name in enumerate(label_subset([*{*names}], 1, seed), 1)}
        needed |= {(each, seed): min(place[name] for name in of) for each, of in having.items()}
    (each, seed), most = max(needed.items(), key=lambda item: item[1], default=((0, 0), 0))
    if most > int(count * fraction):
        raise ValueError(
            f"a fraction of {fraction:g} of {count} training {what} has no example of class {each} for seed {seed}: "
            f"the smallest fraction with one of each of {len(having)} classes for these seeds is {least(most)}"
        )


def classes_in(problem: Problem) -> Int[np.ndarray, "n"] | None:
    """The class of each training example, below 0 if it is not known; None for a task without classes."""
    if not getattr(problem.task, "classes", 0):
        return None
    return np.asarray(problem.splits["train"][problem.task.label]).astype(int)


def one_sided(problem: Problem, labels: Sequence[Labels]) -> tuple[str, ...]:
    """Which yes-or-no labels have training examples of both kinds, but not so in each subset: what a reader must know.

    A head learns the other labels all the same.
    """
    metric = problem.metric
    if not isinstance(metric, MultiLabel) or not size(problem.splits["train"]):
        return ()
    label = np.asarray(problem.splits["train"][metric.key])
    notes = []
    for known, what in ((label > 0.5, "positive"), ((label >= 0) & (label <= 0.5), "negative")):
        lacking = known.any(0) & ~np.all([known[subset.train].any(0) for subset in labels], axis=0)
        if lacking.any():
            named = listed([metric.labels[place] for place in np.flatnonzero(lacking)])
            notes.append(f"a subset of the labels has no {what} of {named}, though the training split has")
    return tuple(notes)


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
