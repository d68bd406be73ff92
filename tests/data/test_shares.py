"""Planted and seen red: Python's own hash, which changes from run to run; validation taken from where test ends."""

import pytest

from facerep_jax.data.shares import check, split_of

NAMES = [f"person {i}" for i in range(2000)]


def drawn(validation, test):
    return {name: split_of(name, validation=validation, test=test) for name in NAMES}


def test_shares_are_as_wanted_and_never_change():
    found = drawn(0.1, 0.2)
    counts = [list(found.values()).count(split) for split in ("train", "validation", "test")]
    for count, share in zip(counts, (0.7, 0.1, 0.2), strict=True):
        assert abs(count - share * 2000) < 5 * (2000 * share * (1 - share)) ** 0.5
    assert [found[name] for name in NAMES[:8]] == FROZEN
    assert set(drawn(0.0, 0.0).values()) == {"train"}
    larger = drawn(0.3, 0.4)
    assert all(split == "train" or larger[name] == split for name, split in found.items())


FROZEN = ["train", "train", "train", "test", "train", "train", "train", "validation"]


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.0), (0.0, -0.1), (0.5, 0.5), (float("nan"), 0.0)])
def test_what_leaves_nothing_for_training_is_refused(validation, test):
    with pytest.raises(ValueError, match="validation and test are shares from 0 on, below 1 together, not "):
        check(validation, test)
