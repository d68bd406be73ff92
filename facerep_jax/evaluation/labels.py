"""Which examples a subset of the labels holds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facerep_jax.data.pipeline import Subset
from facerep_jax.evaluation.problem import Indices, Problem, size, take
from facerep_jax.evaluation.statistics import label_subset

FEWEST = 2  # labels that anything is learnt from


class Labels(NamedTuple):
    """One subset of the labels, as rows of the splits."""

    seed: int
    train: Indices
    validation: Indices


def draw(problem: Problem, fraction: float, seeds: Sequence[int], least: int) -> list[Labels]:
    """A subset for each seed: a fraction of the training labels and of the validation labels, of these at least some.

    Args:
        least: validation labels, where there are so many; a choice among heads needs some whatever the fraction.
    """
    if not seeds:
        raise ValueError("seeds is empty; an evaluation needs at least one subset of the labels")
    drawn = []
    for seed in seeds:
        train = label_subset(problem.train["id"], fraction, seed)
        if int(len(problem.train["id"]) * fraction) < FEWEST:
            raise ValueError(
                f"a fraction of {fraction:g} of {len(problem.train['id'])} training examples is less than "
                f"{FEWEST} labels; nothing can be learnt from them"
            )
        held_out = problem.validation["id"]
        validation = label_subset(held_out, fraction, seed, least=least) if held_out else ()
        drawn.append(Labels(seed, rows_of(train, problem.train["id"]), rows_of(validation, held_out)))
    return drawn


def labelled(problem: Problem, labels: Sequence[Labels]) -> tuple[Problem, list[Labels]]:
    """The problem with just those training examples that some subset labels, and the subsets as rows of these."""
    used = np.unique(np.concatenate([subset.train for subset in labels]))
    if len(used) == size(problem.train):
        return problem, list(labels)
    fewer = problem._replace(train=take(problem.train, used), source=Subset(problem.source, used.tolist()))
    return fewer, [subset._replace(train=np.searchsorted(used, subset.train)) for subset in labels]


def rows_of(names: Sequence[str], ids: Sequence[str]) -> Indices:
    """Where names stand among ids."""
    place = {name: row for row, name in enumerate(ids)}
    return np.array([place[name] for name in names], int)
