"""Arrays that are read as they are needed equal those in memory."""

import os
import threading

import numpy as np
import pytest

from facerep_jax.data.arrays import Lazy, ahead, filed, in_parts

WHOLE = np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)


def lazy():
    asked = []

    def read(rows):
        asked.append(rows.tolist())
        return WHOLE[rows]

    return Lazy(read, WHOLE.shape, WHOLE.dtype), asked


def test_it_is_indexed_as_an_array_along_its_first_axis_and_reads_no_more():
    x, asked = lazy()
    assert (x.shape, x.dtype, x.ndim, len(x), x.nbytes) == ((10, 3, 2), np.float32, 3, 10, WHOLE.nbytes)
    for index in (3, -1, slice(2, 7, 2), np.array([5, 1, 5]), [0, 9], np.arange(10) > 6):
        np.testing.assert_array_equal(x[index], WHOLE[index])
    assert asked == [[3], [9], [2, 4, 6], [5, 1, 5], [0, 9], [7, 8, 9]]
    assert x[:0].shape == (0, 3, 2)
    with pytest.raises(IndexError):
        x[10]
    np.testing.assert_array_equal(np.asarray(x), WHOLE)
    np.testing.assert_array_equal(np.stack(list(x)), WHOLE)


def test_some_of_its_examples_are_not_read_before_they_are_asked_for():
    x, asked = lazy()
    some = x.take(np.array([7, 2, 4])).take(np.array([2, 0]))
    assert (some.shape, asked) == ((2, 3, 2), [])
    np.testing.assert_array_equal(some[:], WHOLE[[4, 7]])
    assert asked == [[4, 7]]


def test_parts_come_in_order_whether_they_lie_in_memory_or_not():
    x, asked = lazy()
    for stack in (x, WHOLE):
        parts = list(in_parts(stack, 4))
        assert [len(part) for part in parts] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(parts), WHOLE)
    assert len(asked) == 3


def test_the_next_item_is_made_in_a_thread_and_its_error_is_raised():
    def items():
        yield threading.current_thread()
        raise OSError("no more")

    made = ahead(items())
    assert next(made) is not threading.current_thread()
    with pytest.raises(OSError, match="no more"):
        next(made)


def test_parts_are_filed_without_a_name_and_read_back(tmp_path):
    parts = ({"a": part, "b": part[:, 0].astype(np.float16)} for part in (WHOLE[:4], WHOLE[4:8], WHOLE[[8, 9, 9, 9]]))
    found = filed(parts, 10, tmp_path)
    assert not os.listdir(tmp_path)
    np.testing.assert_array_equal(np.asarray(found["a"]), WHOLE)
    np.testing.assert_array_equal(found["b"][[9, 0]], WHOLE[[9, 0], 0].astype(np.float16))
    with pytest.raises(OSError, match="No such file"):
        filed([{"a": WHOLE}], 10, tmp_path / "nowhere")
