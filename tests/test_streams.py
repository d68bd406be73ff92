import zlib

import jax
import numpy as np
import pytest

from facerep_jax.streams import stream

KEYS = jax.random.split(jax.random.key(0), 500)


def draws(keys):
    return np.asarray(jax.vmap(jax.random.uniform)(keys))


def test_a_stream_is_the_key_folded_by_the_crc_of_its_name():
    """So that runs can be taken up by a later version. tried: Python's own hash, which each process salts."""
    expected = jax.random.fold_in(KEYS[3], 907_060_870)
    assert zlib.crc32(b"hello") == 907_060_870
    assert jax.random.key_data(stream(KEYS, "hello")[3]).tolist() == jax.random.key_data(expected).tolist()
    assert jax.random.key_data(stream(KEYS[3], "hello")).tolist() == jax.random.key_data(expected).tolist()


def test_keys_belong_to_the_example_and_not_to_its_row():
    """tried: keys split anew for the batch."""
    order = np.random.default_rng(0).permutation(len(KEYS))
    np.testing.assert_array_equal(draws(stream(KEYS[order], "a")), draws(stream(KEYS, "a"))[order])
    np.testing.assert_array_equal(draws(jax.jit(lambda keys: stream(keys, "a"))(KEYS)), draws(stream(KEYS, "a")))


@pytest.mark.parametrize("other", ["b", "A", "a ", "aa", ""])
def test_streams_of_other_names_are_independent(other):
    """tried: the length of the name."""
    keys = (stream(KEYS, "a"), stream(KEYS, other), KEYS)
    data = np.concatenate([jax.random.key_data(x) for x in keys])
    assert len(np.unique(data, axis=0)) == 3 * len(KEYS)
    one, two, own = map(draws, keys)
    for x, y in ((one, two), (one, own), (two, own)):
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / len(KEYS) ** 0.5


def test_streams_of_streams_are_told_apart_by_their_order():
    one, two = stream(stream(KEYS, "a"), "b"), stream(stream(KEYS, "b"), "a")
    assert not np.isin(draws(one), draws(two)).any()
