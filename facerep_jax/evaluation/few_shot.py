"""Subsets of the labels by number: so many examples of each person, or of each class."""

import math
import random
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from facerep_jax.evaluation.labels import FEWEST, Labels, classes_in, distinct, rows_of
from facerep_jax.evaluation.problem import PERSON, Arrays, Indices, Problem, size

CLASS = "class"
GROUPS = (PERSON, CLASS)  # of which each gives its shots


def draw(problem: Problem, shots: int, per: str, seeds: Sequence[int], least: int) -> list[Labels]:
    """A subset for each seed: so many training examples of each person or class, and as large a share of validation.

    With one seed fewer shots are a part of more. A person with fewer images gives all of them, which is said; a class
    with fewer is refused.

    Args:
        per: `identity` or `class`; "" for the classes of a task that has them, and else for persons.
        seeds: as `labels.check_seeds` allows them.
        least: validation labels, if there are so many.

    Raises:
        ValueError: the data set does not know persons, the task has no classes, or a class has too few examples, none
            if shots are of persons.
    """
    if shots < 1:
        raise ValueError(f"shots is at least 1, examples of each person or class, not {shots}")
    per = per or (CLASS if classes_of(problem) else PERSON)
    if per not in GROUPS:
        raise ValueError(f"shots_per is {' or '.join(GROUPS)}, not {per!r}")
    train, validation, key = problem.splits["train"], problem.splits["validation"], problem.task.drawn_by
    groups = by_class(problem, shots) if per == CLASS else by_person(train, shots)
    drawn = []
    for seed in seeds:
        chosen = np.concatenate([some(train, rows, shots, seed, name) for name, rows in groups.items()])
        held_out = rows_of(validation, key, len(chosen) / size(train), seed, least=least)
        drawn.append(Labels(seed, chosen, held_out))
    if per == PERSON:
        require_classes(problem, groups, shots, seeds)
    if len(drawn[0].train) < FEWEST:
        raise ValueError(f"nothing can be learnt from {shots} shots of one {per}: raise shots")
    return distinct(drawn)


def by_class(problem: Problem, shots: int) -> dict[int, Indices]:
    """The training examples of each class of the task."""
    classes = classes_of(problem)
    if not classes:
        raise ValueError(f"shots of each class need a task with classes, and {problem.task.title!r} has none")
    label = np.asarray(problem.splits["train"][problem.task.label])
    groups = {each: np.flatnonzero(label == each) for each in range(classes)}
    rarest = min(groups, key=lambda each: len(groups[each]))
    if len(groups[rarest]) < shots:
        raise ValueError(
            f"{shots} shots of each class are more than class {rarest} has, {len(groups[rarest])} training examples: "
            f"at most shots={len(groups[rarest])}"
        )
    return groups


def require_classes(problem: Problem, groups: Mapping[int, Indices], shots: int, seeds: Sequence[int]) -> None:
    """Check that shots of each person have an example of each class that the training split has.

    Raises:
        ValueError: they do not; the message says how many would for all of these seeds.
    """
    train, classes = problem.splits["train"], classes_in(problem)
    if classes is None:
        return
    needed = {(each, seed): math.inf for each in np.unique(classes[classes >= 0]).tolist() for seed in seeds}
    for seed in seeds:
        for name, rows in groups.items():
            for number, row in enumerate(some(train, rows, len(rows), seed, name), 1):
                if (key := (int(classes[row]), seed)) in needed:
                    needed[key] = min(needed[key], number)
    (each, seed), most = max(needed.items(), key=lambda item: item[1], default=((0, 0), 0))
    if most > shots:
        least = "no number of shots is enough" if math.isinf(most) else f"the fewest for these seeds are shots={most}"
        raise ValueError(f"{shots} shots of each person have no example of class {each} for seed {seed}: {least}")


def by_person(train: Arrays, shots: int) -> dict[int, Indices]:
    """The training examples of each person who is known."""
    if PERSON not in train or not (np.asarray(train[PERSON]) >= 0).any():
        raise ValueError(f"shots of each person need a data set with {PERSON!r}; say a fraction instead")
    person = np.asarray(train[PERSON])
    groups = {int(each): np.flatnonzero(person == each) for each in np.unique(person[person >= 0])}
    if fewer := sum(len(rows) < shots for rows in groups.values()):
        print(
            f"{fewer} of {len(groups)} persons have fewer than {shots} training images and give all of them",
            file=sys.stderr,
        )
    return groups


def classes_of(problem: Problem) -> int:
    """How many classes a task has of which each example is one; 0 if it has none."""
    return getattr(problem.task, "classes", 0)


def some(train: Arrays, rows: Indices, shots: int, seed: int, group: int) -> Indices:
    """The first of a group's examples in an order by seed, whatever the order of the files."""
    ordered = sorted(rows.tolist(), key=train["id"].__getitem__)
    random.Random(f"{seed}/{group}").shuffle(ordered)
    return np.array(ordered[:shots])
