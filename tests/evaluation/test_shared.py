"""Planted and seen red: features known by the row alone and not by the split."""

import numpy as np
import pytest

from facerep_jax.evaluation.shared import ENCODERS, Shared


class Counted:
    """Features of images that are known by their records, and which images were encoded."""

    def __init__(self, rows, *names):
        self.rows, self.names, self.seen = np.array(rows), names, []

    def __call__(self, places):
        self.seen += self.rows[places].tolist()
        return {name: self.of(name, self.rows[places]) for name in self.names}

    @staticmethod
    def of(name, rows):
        return np.asarray(rows, np.float32)[:, None] + [0.0, 0.25] + 100 * len(name)


def asked(shared, encoder, images, rows, *names):
    encode = Counted(rows, *names)
    found = shared.features(encoder, images, encode.rows, names, encode)
    for name in names:
        assert found[name].shape == (len(rows), 2)
        np.testing.assert_array_equal(np.asarray(found[name]), Counted.of(name, rows))
        np.testing.assert_array_equal(found[name][[-1, 0]], Counted.of(name, [rows[-1], rows[0]]))
    return encode.seen


def test_an_image_is_encoded_when_it_is_first_needed():
    shared, encoder = Shared(), object()
    assert asked(shared, encoder, "train", [7, 3, 5], "pooled", "map1") == [7, 3, 5]
    assert asked(shared, encoder, "train", [5, 9, 7, 1], "pooled", "map1") == [9, 1]
    assert asked(shared, encoder, "train", [1, 3, 5, 7, 9], "pooled") == []  # fewer features of the same images
    assert asked(shared, encoder, "train", [3], "pooled", "map2") == [3]  # another map
    assert asked(shared, encoder, "test", [7], "pooled") == [7]
    assert asked(shared, object(), "train", [7], "pooled") == [7]
    assert shared.encoded == 8


def test_no_encoder_takes_the_place_of_one_that_is_gone():
    """An encoder is known by its identity, and so is kept as long as its features are."""
    shared = Shared()
    for _ in range(20):
        assert asked(shared, object(), "train", [1, 2], "pooled") == [1, 2]


def test_what_is_made_once_is_kept_until_its_kind_is_forgotten():
    shared, made = Shared(), []

    def once(*key):
        return shared.once(key, lambda: made.append(key) or len(made))

    assert [once("splits", 1), once(ENCODERS, 1), once("splits", 1), once(ENCODERS, 1)] == [1, 2, 1, 2]
    asked(shared, made, "train", [1], "pooled")
    shared.forget(ENCODERS)
    assert [once("splits", 1), once(ENCODERS, 1)] == [1, 3]
    assert asked(shared, made, "train", [1], "pooled") == [1]


def test_what_fails_is_not_kept():
    shared = Shared()
    with pytest.raises(ZeroDivisionError):
        shared.once("x", lambda: 1 // 0)
    assert shared.once("x", lambda: 5) == 5
