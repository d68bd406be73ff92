import math

import pytest

from facerep_jax.evaluation.results import Scale, Summary
from facerep_jax.evaluation.selection import SELECTIONS
from facerep_jax.reporting import wording


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([0, 1, 2, 3, 4], "0\N{EN DASH}4"),
        ([0, 1], "0, 1"),
        ([3], "3"),
        ([1, 2, 3, 7, 9, 10], "1\N{EN DASH}3, 7, 9, 10"),
    ],
)
def test_seeds(values, want):
    assert wording.ranges(values) == want


def test_numbers():
    assert wording.signed_number(-1.194, ".2f") == f"{wording.MINUS}1.19"
    assert wording.improvement(0.0119, -0.001, 0.02) == f"+1.19 [{wording.MINUS}0.10, +2.00]"
    assert wording.measurement(Summary(0.5, 0.01, (0.49, 0.51))) == "50.00 ± 1.00"
    assert wording.measurement(Summary(0.5, 0.0, (0.5,))) == "50.00"
    assert wording.measurement(Summary(1000.0, 0.0, (1000.0, 1000.0)), count=True) == "1,000"
    for nothing in (wording.measurement(None), wording.percent(math.nan), wording.number(math.inf)):
        assert nothing == wording.NOTHING
    assert (wording.number(12345.6), wording.number(-0.00012345)) == ("12,346", f"{wording.MINUS}0.0001234")


def test_plurals():
    assert [wording.plural(n, "identity") for n in (1, 1000)] == ["1 identity", "1,000 identities"]
    assert [wording.plural_noun(noun) for noun in ("image", "day")] == ["images", "days"]


def test_selections():
    assert wording.selection("by_hand") == "selection: by hand"
    said = {(name, labels): wording.row_selection(name, labels) for name in SELECTIONS for labels in (None, 0, 7)}
    assert said["validation", 7] == "selected on 7 validation labels"
    assert said["validation", 0] == "nothing selected"  # such as by nearest neighbours
    assert said["last", 0] == "last step, nothing selected"
    assert said["last", 7] == "last step, settings selected on 7 validation labels"
    assert {said["test_best", labels] for labels in (None, 0, 7)} == {wording.SELECTIONS["test_best"]}
    assert [said[name, None] for name in ("validation", "last")] == ["selected on validation", "last step"]


def test_values_that_are_no_fractions_stand_in_their_own_unit():
    degrees, plain = Scale(1.0, 3, "°"), Scale(1.0, 3, "")
    metric = Summary(mean=4.5123, std=0.25, values=(4.2, 4.8))
    assert wording.measurement(metric, degrees) == "4.512 ± 0.250"
    assert wording.measurement(metric) == "451.23 ± 25.00"
    assert wording.improvement(0.0312, -0.01, 0.0727, plain) == "+0.031 [\N{MINUS SIGN}0.010, +0.073]"
    assert wording.written(None, degrees) == wording.NOTHING
