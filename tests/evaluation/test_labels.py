"""Planted and seen red: rows not translated after unlabelled examples are left out, records of all examples left."""

import numpy as np
import pytest

from facerep_jax.data.library import Kept
from facerep_jax.evaluation.labels import draw, labelled
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.statistics import label_subset


def problem(train=40, validation=20):
    splits = [
        {"id": [f"{name}{i:02d}" for i in reversed(range(n))], "image": np.arange(n)[::-1].reshape(-1, 1)}
        for name, n in (("t", train), ("v", validation), ("x", 3))
    ]
    return Problem(None, None, None, *splits, Kept(splits[0]["id"]), ())


def ids(data, rows):
    return [data["id"][row] for row in rows]


def test_each_seed_has_its_subset_of_either_split():
    given = problem()
    drawn = draw(given, 0.2, (3, 5), least=6)
    for seed, labels in zip((3, 5), drawn, strict=True):
        assert labels.seed == seed
        assert tuple(ids(given.train, labels.train)) == label_subset(given.train["id"], 0.2, seed)
        assert len(labels.train) == 8
        assert tuple(ids(given.validation, labels.validation)) == label_subset(given.validation["id"], 0.3, seed)
    assert len(draw(problem(validation=4), 0.2, (0,), least=6)[0].validation) == 4  # all there are
    assert len(draw(problem(validation=0), 0.2, (0,), least=6)[0].validation) == 0


def test_only_what_is_labelled_is_left():
    given = problem()
    drawn = draw(given, 0.1, (0, 1), least=1)
    fewer, moved = labelled(given, drawn)
    for before, after in zip(drawn, moved, strict=True):
        assert ids(given.train, before.train) == ids(fewer.train, after.train)
        assert [fewer.source[row] for row in after.train] == ids(given.train, before.train)
        np.testing.assert_array_equal(given.train["image"][before.train], fewer.train["image"][after.train])
    whole = draw(given, 1.0, (0, 1), least=1)
    assert labelled(given, whole)[0] is given
    assert len(fewer.train["id"]) == len(set(drawn[0].train) | set(drawn[1].train)) < 9


def test_too_few_labels_are_refused():
    with pytest.raises(ValueError, match=r"0.04 of 40 training examples is less than 2 labels"):
        draw(problem(), 0.04, (0,), least=1)
    assert len(draw(problem(), 0.05, (0,), least=1)[0].train) == 2
    with pytest.raises(ValueError, match="seeds is empty"):
        draw(problem(), 0.5, (), least=1)
    with pytest.raises(ValueError, match="at most 1"):
        draw(problem(), 1.5, (0,), least=1)
