"""What lines of `faces.jsonl` may hold is tested in `datasets/test_manifest`; here is what a module may give beside."""

import numpy as np
import pytest

from facerep_jax.data import values
from facerep_jax.data.features import NUMBERS


def test_arrays_may_stand_for_lists():
    points = np.array([[1, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(values.points(points, 2), np.float32(points))
    np.testing.assert_array_equal(values.visible(np.array([1, 0, 1])), [1, 0, 1])
    np.testing.assert_array_equal(values.KINDS["bbox"](np.array([0, 1, 2, 3])), np.float32([0, 1, 2, 3]))
    assert values.counted(np.int64(3)) == 3
    assert values.captions(("one", "two")) == ("one", "two")


def test_every_number_of_the_vocabulary_has_a_kind():
    assert set(NUMBERS) <= set(values.KINDS)


def test_added_features_are_checked_by_type_and_shape():
    more = {"template": (np.int32, ()), "pose": (np.float32, (3,)), "seen": (np.int32, ("landmarks",))}
    kinds = values.kinds_with(more)
    assert kinds["template"](7) == 7
    assert kinds["pose"]([1, 2, 3]).dtype == np.float32
    assert kinds["seen"]([1, 0]).dtype == np.int32
    assert kinds["image"] is values.KINDS["image"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("template", -1, "must be an integer from 0 on, not -1"),
        ("template", True, "must be an integer from 0 on, not true"),
        ("template", 1.5, "must be an integer from 0 on, not 1.5"),
        ("pose", np.zeros(2), r"must be 3 numbers, not \[0.0, 0.0\]"),
        ("frame", "one", 'must be an integer from 0 on, not "one"'),
        ("landmarks", np.zeros((3, 3)), "must be K x 2 numbers"),
    ],
)
def test_what_is_wrong_is_shown(name, value, message):
    kinds = values.kinds_with({"template": (np.int32, ()), "pose": (np.float32, (3,))})
    with pytest.raises(ValueError, match=message):
        kinds[name](value)
