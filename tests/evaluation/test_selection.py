"""Planted and seen red: the lowest score not kept, NaN taken for a score, of several trainings the last, the
test set in place of validation.
"""

import numpy as np
import pytest

from facerep_jax.evaluation.network import Weights
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.selection import Candidate, check, choose
from facerep_jax.typing import Rows

RIGHT = {"validation": 5.0, "test": 7.0}  # the weight that predicts best


class Error:
    """The mean distance from `truth`."""

    headline, lower_is_better, sign = "error", True, 1
    columns, optional, unit, belongs_to, per_row, error_limit = ("error",), (), "image", "person", True, None
    names, counts, explains = {}, (), ()

    def rows(self, prediction, split):
        distance = np.abs(prediction - split["truth"])
        return Rows(split["id"], split["id"], np.stack([distance, np.ones(len(distance))], axis=1))

    def compute(self, statistics, weights):
        sums = weights @ statistics
        return {"error": self.sign * sums[:, 0] / sums[:, 1]}


class Agreement(Error):
    lower_is_better, sign = False, -1


def problem(selection, metric=None, validation=4, validation_metric=None):
    splits = {
        role: {"id": [str(i) for i in range(n)], "image": np.zeros((n, 2)), "truth": np.full(n, right)}
        for role, n, right in (
            ("train", 3, 0.0),
            ("validation", validation, RIGHT["validation"]),
            ("test", 6, RIGHT["test"]),
        )
    }
    return Problem(
        encoder=None,
        make_task=None,
        task=None,
        metric=metric or Error(),
        splits=splits,
        source=[],
        transforms=(),
        selection=selection,
        validation_metric=validation_metric,
    )


def candidates(*trainings):
    """Of each training its weights in order."""
    for rate, weights in enumerate(trainings):
        for step, weight in enumerate(weights, 1):
            settings = {"step": float(step), "learning_rate": float(rate)}
            yield Candidate(Weights(weight, None), settings, last=step == len(weights))


def chosen(selection, *trainings, metric=None, validation_metric=None, held_out=2, single=False):
    asked = []

    def predict(weights, split, rows):
        asked.append((split, len(rows)))
        return np.full(len(rows), weights.params)

    given = problem(selection, metric, validation_metric=validation_metric)
    outcome = choose(candidates(*trainings), given, np.arange(held_out), predict, single=single)
    assert outcome.prediction.shape == (6,)
    return outcome.prediction[0], outcome.selected, asked[:-1]


@pytest.mark.parametrize("metric", [Error(), Agreement()])
def test_validation_takes_the_best_on_the_examples_that_may_be_looked_at(metric):
    weight, selected, asked = chosen("validation", [1.0, 4.0, 8.0], [0.0, 7.0], metric=metric)
    assert weight == 4
    assert selected["step"] == 2
    assert abs(selected["validation"]) == 1
    assert asked == [("validation", 2)] * 5


def test_test_best_takes_the_best_on_the_test_set_and_says_so():
    weight, selected, asked = chosen("test_best", [1.0, 4.0, 8.5], [0.0, 7.0])
    assert weight == 7
    assert selected == {"step": 2, "learning_rate": 1, "test": 0}
    assert asked == [("test", 6)] * 5


def test_a_metric_of_validation_chooses_by_validation_examples_alone():
    class Distance(Error):
        """Of which the largest is best."""

        headline, lower_is_better = "distance", False

        def compute(self, statistics, weights):
            return {"distance": super().compute(statistics, weights)["error"]}

    weight, selected, _ = chosen("validation", [4.0, 9.0], validation_metric=Distance())
    assert (weight, selected["validation"]) == (9, 4)
    assert chosen("test_best", [4.0, 9.0], validation_metric=Distance())[:2] == (
        9,
        {"step": 2, "learning_rate": 0, "test": 2},
    )


def test_last_takes_the_last_and_looks_only_where_trainings_compete():
    weight, selected, asked = chosen("last", [5.0, 9.0], single=True)
    assert (weight, selected, asked) == (9, {"step": 2, "learning_rate": 0}, [])
    weight, selected, asked = chosen("last", [5.0, 9.0], [5.0, 7.0], [5.0, 0.0])
    assert (weight, selected["learning_rate"], selected["validation"]) == (7, 1, 2)
    assert len(asked) == 3


def test_what_has_no_score_loses_to_all_that_have_one():
    assert chosen("validation", [np.nan, 40.0])[0] == 40
    assert chosen("validation", [40.0, np.nan])[0] == 40
    assert chosen("validation", [np.inf, 40.0], metric=Agreement())[0] == 40


@pytest.mark.parametrize("selection", ["validation", "test_best", "last"])
def test_where_nothing_has_a_score_nothing_is_chosen(selection):
    split, rows, tried = (
        ("test", 6, 4) if selection == "test_best" else ("validation", 2, 4 - 2 * (selection == "last"))
    )
    message = f"error on the {rows} examples of {split} is not a number for any of {tried} candidates.*selection=last"
    with pytest.raises(ValueError, match=message):
        chosen(selection, [np.nan, np.nan], [np.nan, np.inf])
    assert np.isnan(chosen("last", [np.nan, np.nan], single=True)[0])  # that was asked for


def test_what_cannot_be_chosen_is_said():
    with pytest.raises(ValueError, match="no selection 'tset_best'; did you mean 'test_best'"):
        check("tset_best")
    with pytest.raises(ValueError, match="validation examples, and there are none; give one alone"):
        chosen("last", [1.0], [2.0], held_out=0)
    with pytest.raises(ValueError, match="nothing was trained"):
        chosen("validation")
