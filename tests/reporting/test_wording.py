import math

import pytest

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
    assert wording.numbers(values) == want


def test_numbers():
    assert wording.signed(-1.194, ".2f") == f"{wording.MINUS}1.19"
    assert wording.interval(0.0119, -0.001, 0.02) == f"+1.19 [{wording.MINUS}0.10, +2.00]"
    assert wording.measured("f1", {"mean": 0.5, "std": 0.01, "values": [0.49, 0.51]}) == "50.00 ± 1.00"
    assert wording.measured("f1", {"mean": 0.5, "std": 0.0, "values": [0.5]}) == "50.00"
    assert wording.measured("images", {"mean": 1000.0, "std": 0.0, "values": [1000.0] * 2}) == "1,000"
    for nothing in (wording.measured("f1", None), wording.percent(math.nan), wording.number(math.inf)):
        assert nothing == wording.NOTHING
    assert (wording.number(12345.6), wording.number(-0.00012345)) == ("12,346", f"{wording.MINUS}0.0001234")


def test_names():
    assert wording.words("nme_inter_ocular") == "NME inter-ocular"
    assert wording.words("miou") == "mIoU"
    assert wording.words("accuracy") == "Accuracy"
    assert wording.selection("by_hand") == "selection: by hand"
