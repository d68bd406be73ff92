import math

import pytest

from facerep_jax.evaluation.results import Summary
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
