"""Groups of test examples: values by hand, intervals that hold the truth, and what is too small.

Planted and seen red: intervals that draw rows and not persons.
"""

import numpy as np
import pytest

from facerep_jax.evaluation.breakdown import broken_down, examples_of
from facerep_jax.evaluation.conditions import Axis
from facerep_jax.evaluation.metrics import ratio
from facerep_jax.evaluation.statistics import interval, resampled_parts
from facerep_jax.typing import Rows

SIDE = Axis("side", ("left", "right", "behind"), (0.5, 1.5), ("side",), lambda record: record["side"])
HAT = Axis("hat", ("no", "yes"), (0.5,), ("hat",), lambda record: record["hat"])


class MeanError:
    headline, lower_is_better, columns, unit = "error", True, ("error",), "image"
    optional, belongs_to, per_row, error_limit, names, counts, explains = (), "person", True, None, {}, (), ()

    def rows(self, prediction, split):
        raise NotImplementedError

    def compute(self, statistics, weights):
        total, count = (weights @ statistics).T
        return {"error": ratio(total, count)}


class Score(MeanError):
    lower_is_better = False


def rows(errors, units=None, ids=None):
    errors = np.asarray(errors, float)
    ids = [f"face {i}" for i in range(len(errors))] if ids is None else ids
    return Rows(ids, ids if units is None else list(units), np.column_stack([errors, np.ones(len(errors))]))


def test_values_and_gaps_by_hand():
    side = np.array([0] * 12 + [1] * 12 + [2] * 4 + [np.nan] * 2)
    errors = np.array([1.0] * 12 + [3.0] * 12 + [9.0] * 4 + [50.0] * 2)
    hat = np.tile([0.0, 1.0], 15)
    split = {"id": [f"face {i}" for i in range(30)], "conditions": np.column_stack([side, hat])}
    found = broken_down(MeanError(), [rows(errors), rows(errors + 1)], split, [SIDE, HAT])
    left, right, behind, no, yes = found.groups
    assert (left.axis, left.name, left.rows, left.units, left.enough) == ("side", "left", 12, 12, True)
    assert left.value == pytest.approx(1.5)  # mean over label subsets
    assert left.gap == pytest.approx(1 - (12 * 3 + 4 * 9) / 16)  # nobody of whom the side is not known
    assert (behind.enough, behind.value, behind.low, behind.decided) == (False, 9.5, None, False)
    assert found.small == ("side: behind",)
    assert no.rows == yes.rows == 15
    assert no.gap == pytest.approx(-yes.gap)
    assert right.metrics == {"error": 3.5}
    assert max(found.groups, key=lambda group: group.value).name == "behind"
    assert found.worst in ("hat: no", "hat: yes")  # of those that are large enough
    best_first = broken_down(Score(), [rows(errors)], split | {"conditions": side[:, None]}, [SIDE])
    assert best_first.worst == "side: left"


def test_the_worst_group_is_decided_if_it_is_far_off_and_seldom_if_it_is_not():
    rng = np.random.default_rng(0)
    decided, worst = [], []
    for trial in range(40):
        conditions = rng.integers(0, 2, (80, 12)).astype(float)
        axes = [HAT._replace(name=f"axis {i}") for i in range(12)]
        split = {"id": [f"face {i}" for i in range(80)], "conditions": conditions}
        errors = rng.normal(5, 1, 80) + (3 * conditions[:, 4] if trial >= 34 else 0)
        found = broken_down(MeanError(), [rows(errors)], split, axes)
        decided.append(found.decided)
        worst.append(found.worst)
    assert np.mean(decided[:34]) < 0.15  # 5 % or less are due, though the worst of 24 groups is looked at
    assert decided[34:] == [True] * 6
    assert worst[34:] == ["axis 4: yes"] * 6


def test_persons_are_drawn_and_not_their_images():
    """Eight images of a person that are alike are no eight persons: the interval is as wide as that of one each."""
    rng = np.random.default_rng(1)
    people = rng.normal(5, 1, 40)
    hat = rng.integers(0, 2, 40).astype(float)
    one = {"id": [f"face {i}" for i in range(40)], "conditions": hat[:, None]}
    alone = broken_down(MeanError(), [rows(people)], one, [HAT]).groups[0]
    names = [f"face {i}" for i in range(320)]
    split = {"id": names, "conditions": np.repeat(hat, 8)[:, None]}
    units = [f"person {i // 8}" for i in range(320)]
    many = broken_down(MeanError(), [rows(np.repeat(people, 8), units)], split, [HAT]).groups[0]
    assert many.units == alone.units
    assert many.rows == 8 * alone.rows
    assert many.high - many.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_intervals_are_those_of_the_t_distribution_for_a_mean():
    from scipy import stats

    x = np.random.default_rng(2).gamma(4, 1, 60)
    names = [str(i) for i in range(60)]
    parts = [np.arange(60) < 40, np.arange(60) >= 40]

    def value(rows, weights):
        return MeanError().compute(rows, weights)["error"]

    statistics = rows(x).statistics[None]
    every = resampled_parts(statistics, value, parts, units=names, resamples=4000)
    assert every.drawn == (40, 20)
    for number, part in enumerate(parts):
        expected = stats.t.interval(0.95, part.sum() - 1, x[part].mean(), x[part].std() / np.sqrt(part.sum()))
        np.testing.assert_allclose(
            interval(every.values[number], every.draws[number], int(part.sum())), expected, rtol=0.05
        )
    gap = interval(every.values[0] - every.values[1], every.draws[0] - every.draws[1], 20)
    spread = np.sqrt(sum(x[part].var() / part.sum() for part in parts))
    centre = x[parts[0]].mean() - x[parts[1]].mean()
    np.testing.assert_allclose(gap, stats.t.interval(0.95, 19, centre, spread), rtol=0.1)


def test_a_pair_is_in_a_group_if_both_of_its_images_are():
    known = ["a b", "c", "d"]
    np.testing.assert_array_equal(examples_of(["a b c", "c d"], known), [[0, 1], [1, 2]])
    np.testing.assert_array_equal(examples_of(["d", "a b"], known), [[2, 2], [0, 0]])
    assert examples_of(["12 in 0"], known) is None
    split = {"id": known, "conditions": np.array([[0.0], [0.0], [1.0]])}
    pairs = rows([1, 2, 3], ids=["a b c", "c d", "d d"])
    assert [(group.title, group.rows) for group in broken_down(MeanError(), [pairs], split, [HAT]).groups] == [
        ("hat: no", 1),
        ("hat: yes", 1),
    ]


def test_what_has_no_groups_says_why():
    split = {"id": ["a", "b"], "conditions": np.array([[0.0], [0.0]])}
    assert broken_down(MeanError(), [rows([1, 2], ids=["a", "b"])], split, []).note == "the records tell of no groups"
    assert broken_down(MeanError(), [rows([1, 2], ids=["a", "b"])], split, [HAT]).note.startswith("all test examples")
    assert "each image is of several" in broken_down(MeanError(), [rows([1, 2], ids=["x", "b"])], split, [HAT]).note
