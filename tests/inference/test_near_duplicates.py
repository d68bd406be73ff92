"""Cosines of copies against definitions; the command is tested in tests/test_audit.py.

Planted and seen red: copies not left out of what the least cosine is found from; the tail's power turned around.
"""

import numpy as np
import pytest

from facerep_jax.data.near_duplicates import Held
from facerep_jax.inference import near_duplicates
from facerep_jax.inference.near_duplicates import cosines, least_cosine, nearest_others, unit


def test_the_nearest_other_is_no_copy_and_nobody_known(monkeypatch):
    """Compared with the definition, pair by pair, over several blocks."""
    monkeypatch.setattr(near_duplicates, "COLUMNS", 7)
    monkeypatch.setattr(near_duplicates, "BLOCK", 9)
    rng = np.random.default_rng(0)
    count, bits = 40, 40
    vectors = unit(rng.normal(size=(2, count, 4))).astype(np.float16)
    views = rng.integers(0, 2**63, (2, count, 3, 4)).astype(np.uint64)
    views[:, 5] = views[:, 4]  # copies
    views[1, 9, 2], views[0, 8, 0] = (views[0, 3, 0],) * 2  # by a mirror image's crop
    sets, people = np.repeat([0, 1], 20).astype(np.int32), rng.integers(-1, 6, count).astype(np.int32)
    names = tuple(f"{n}" for n in range(count))
    held = Held(names, sets, people, views)

    def differ(one, other):
        return min(int(np.bitwise_count(one ^ view).sum()) for view in other)

    expected = []
    exact = vectors.astype(np.float64)
    for i in range(count):
        near = []
        for j in range(count):
            same = sets[i] == sets[j] and people[i] == people[j] != -1
            ways = [differ(views[0, i, 0], views[way, j]) for way in (0, 1)]
            ways += [differ(views[way, j, 0], views[0, i]) for way in (0, 1)]
            if i != j and not same and min(ways) > bits:
                near.append(max(exact[0, i] @ exact[way, j] for way in (0, 1)))
        expected.append(max(near))
    np.testing.assert_allclose(nearest_others(vectors, held, bits), expected, atol=1e-3)


def test_an_image_without_others_is_left_out():
    views = np.zeros((2, 3, 1, 4), np.uint64)  # all are copies of each other
    held = Held(("a", "b", "c"), np.zeros(3, np.int32), np.full(3, -1, np.int32), views)
    assert len(nearest_others(np.ones((2, 3, 2), np.float16), held, 40)) == 0


def test_a_cosine_is_that_of_the_nearer_way():
    held = np.array([[[1, 0], [0, 1]], [[0, 1], [0, -1]]], np.float16)
    (found,) = cosines(np.array([[0, 1.0], [-1, 0]], np.float32), held)
    assert found[0] == range(2)
    np.testing.assert_array_equal(found[1], [[1, 1], [0, 0]])


@pytest.mark.parametrize("width", [5, 10])
@pytest.mark.parametrize("train", [300, 30_000])
def test_one_in_a_hundred_is_taken_for_a_copy(width, train):
    """Of random directions, against as many others as there are to train on."""
    rng = np.random.default_rng(0)
    held, others, unseen = (unit(rng.normal(size=(count, width))) for count in (500, 300, train))
    least = least_cosine((held @ others.T).max(1), len(others), train)
    assert ((held @ others.T).max(1) >= np.float32(least.seen)).sum() == 6  # at most five are above it
    alarms = ((held @ unseen.T).max(1) >= np.float32(least.cosine)).mean()
    assert alarms <= 0.03
    if train > len(others):
        assert ((held @ unseen.T).max(1) >= np.float32(least.seen)).mean() > 0.3  # had it not been raised
        assert alarms > 0


def test_equal_features_leave_no_copies():
    assert least_cosine(np.ones(30, np.float32), 29, 10_000).cosine > 1
