import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerep_jax.data.mixture import PERIOD, Mixture

BATCH = 7


def choices(weights, count, *, start=0, sets=3):
    mixture = Mixture(weights, BATCH, sets=sets, seed=5)
    return [mixture[position] for position in range(start, start + count)]


def numbered(found):
    """{data set: its indices in the order of positions}"""
    return {which: [index for w, index in found if w == which] for which in {w for w, _ in found}}


@st.composite
def segments(draw):
    steps = sorted(draw(st.sets(st.integers(1, 600), max_size=4)))
    weight = st.floats(0, 10).filter(lambda w: w == 0 or w > 1e-3)
    weights = st.tuples(weight, weight, weight).filter(any)
    return tuple((step, draw(weights)) for step in (0, *steps))


@given(segments())
@settings(max_examples=30, deadline=None)
def test_each_data_set_is_read_in_order_without_a_gap_or_repetition(weights):
    """Tried: counts that begin anew with each segment."""
    for indices in numbered(choices(weights, BATCH * 700)).values():
        assert indices == list(range(len(indices)))


@given(segments(), st.integers(601, 700), st.tuples(*[st.floats(0.1, 1)] * 3))
@settings(max_examples=30, deadline=None)
def test_a_segment_at_the_end_changes_nothing_before_it(weights, step, more):
    longer = (*weights, (step, more))
    assert choices(weights, BATCH * step) == choices(longer, BATCH * step)
    assert choices(longer, 20, start=BATCH * step) == choices(longer, BATCH * step + 20)[-20:]


def test_shares_are_the_weights():
    found = [which for which, _ in choices(((0, (5, 3, 2)),), 3 * PERIOD)]
    assert np.bincount(found).tolist() == [1500, 900, 600]
    for start in range(0, 2 * PERIOD, 100):  # well mixed: the standard deviation of a draw without return is 4.5
        assert abs(found[start : start + 100].count(0) - 50) < 25
    thirds = [which for which, _ in choices(((0, (1, 1, 1)),), PERIOD)]
    assert sorted(np.bincount(thirds).tolist()) == [333, 333, 334]


def test_a_weight_of_zero_reads_nothing_and_loses_no_place():
    weights = ((0, (1, 1, 0)), (10, (0, 1, 1)), (20, (1, 0, 0)))
    found = choices(weights, BATCH * 30)
    assert {w for w, _ in found[: BATCH * 10]} == {0, 1}
    assert {w for w, _ in found[BATCH * 10 : BATCH * 20]} == {1, 2}
    assert {w for w, _ in found[BATCH * 20 :]} == {0}
    for indices in numbered(found).values():
        assert indices == list(range(len(indices)))


def test_far_positions_are_as_quick_as_near_ones():
    mixture = Mixture(((0, (1.0, 2.0)),), BATCH, sets=2, seed=0)
    far = 10**12
    near = [mixture[far + offset] for offset in range(2 * PERIOD)]
    for a, b in itertools.pairwise(sorted(index for which, index in near if which == 1)):
        assert b == a + 1


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ((), "from step 0 on"),
        (((5, (1, 1)),), "from step 0 on"),
        (((0, (1, 1)), (9, (1, 1)), (3, (1, 1))), "in order of steps"),
        (((0, (1,)),), "1 weights for 2 data sets"),
        (((0, (1, -1)),), "not negative"),
        (((0, (0, 0)),), "not all 0"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        Mixture(weights, BATCH, sets=2, seed=0)
