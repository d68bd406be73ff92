"""Which checkpoint of a training is scored: the best on validation, the last, or the best on the test set."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from facerep_jax.data.arrays import Stack
from facerep_jax.evaluation.metrics import rows_of, score
from facerep_jax.evaluation.network import Weights
from facerep_jax.evaluation.problem import Indices, Problem, size, take, truth_of
from facerep_jax.suggestions import nearest

SELECTIONS = {  # name: in words
    "validation": "the best on validation",
    "last": "the last step, of several trainings that which is best on validation",
    "test_best": "the best on the test set itself, which is not a fair number",
}


class Candidate(NamedTuple):
    """One moment of a training."""

    weights: Weights
    settings: dict[str, float]  # step, learning rate
    last: bool  # of its training


class Outcome(NamedTuple):
    """What came of one subset of the labels."""

    prediction: Stack  # of the test examples
    selected: dict[str, float]  # the settings that count, and their score on `validation` or `test` if that decided
    weights: Weights | None = None  # what predicted, on the host; None if nothing was learnt


def check(selection: str) -> None:
    """Raise ValueError if there is no such selection."""
    if selection not in SELECTIONS:
        raise ValueError(f"no selection {selection!r}; {nearest(selection, SELECTIONS)}")


def choose(
    candidates: Iterable[Candidate],
    problem: Problem,
    held_out: Indices,
    predict: Callable[[Weights, str, Indices], Stack],
    *,
    single: bool,
) -> Outcome:
    """The candidate that counts by the problem's selection, and its predictions of all test examples.

    Args:
        held_out: the validation examples that may be looked at.
        predict: (weights, `validation` or `test`, examples of that split) -> predictions.
        single: whether all candidates are of one training, so that the last of them needs no score.

    Raises:
        ValueError: there is nothing to choose by.
    """
    check(problem.selection)
    everything = np.arange(size(problem.splits["test"]))
    on_test, only_last = problem.selection == "test_best", problem.selection == "last"
    split, rows = ("test", everything) if on_test else ("validation", held_out)
    truth = take(truth_of(problem.splits[split]), rows)
    if not (only_last and single) and not len(rows):
        raise ValueError(
            "to choose among learning rates or penalties takes validation examples, and there are none; give one alone"
        )
    metric = problem.metric if on_test else problem.validation_metric or problem.metric
    best, lowest, tried = None, math.inf, 0
    for candidate in candidates:
        if only_last and not candidate.last:
            continue
        loss, tried = 0.0, tried + 1
        if not (only_last and single):
            prediction = predict(candidate.weights, split, rows)
            value = score(metric, rows_of(metric, prediction, truth).statistics)[metric.headline]
            candidate.settings[split] = value
            loss = math.inf if not math.isfinite(value) else value if metric.lower_is_better else -value
        if loss < lowest:
            best, lowest = candidate, loss
    if not tried:
        raise ValueError("nothing was trained that could be chosen")
    if best is None:
        raise ValueError(
            f"{metric.headline} on the {len(rows)} examples of {split} is not a number for any of {tried} candidates, "
            "so none is the best: set --config.selection=last, which needs no score of a single training"
        )
    return Outcome(predict(best.weights, "test", everything), best.settings, best.weights)
