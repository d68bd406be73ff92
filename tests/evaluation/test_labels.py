"""Planted and seen red: rows not translated after unlabelled examples are left out, records of all examples left."""

import re

import numpy as np
import pytest

from facerep_jax.data.library import Kept
from facerep_jax.evaluation.labels import check_seeds, draw, labelled
from facerep_jax.evaluation.problem import Problem, divided
from facerep_jax.evaluation.statistics import label_subset


class Task:
    splits, drawn_by = ("train", "validation", "test"), "id"


class OfPersons(Task):
    drawn_by = "identity"


class Untrained(Task):
    splits = ("test",)


def problem(train=40, validation=20, task=Task):
    splits = {
        role: {
            "id": [f"{role[0]}{i:02d}" for i in reversed(range(n))],
            "image": np.arange(n)[::-1].reshape(-1, 1),
            "identity": np.arange(n) // 4,
        }
        for role, n in (("train", train), ("validation", validation), ("test", 3))
    }
    return Problem(
        encoder=None,
        make_task=None,
        task=task,
        metric=None,
        splits=splits,
        source=Kept(splits["train"]["id"]),
        transforms=(),
    )


def ids(data, rows):
    return [data["id"][row] for row in rows]


def test_each_seed_has_its_subset_of_either_split():
    given = problem()
    drawn = draw(given, 0.2, (3, 5), least=6)
    train, held_out = given.splits["train"], given.splits["validation"]
    for seed, labels in zip((3, 5), drawn, strict=True):
        assert labels.seed == seed
        assert tuple(ids(train, labels.train)) == label_subset(train["id"], 0.2, seed)
        assert len(labels.train) == 8
        assert tuple(ids(held_out, labels.validation)) == label_subset(held_out["id"], 0.3, seed)
    assert len(draw(problem(validation=4), 0.2, (0,), least=6)[0].validation) == 4  # all there are
    assert len(draw(problem(validation=0), 0.2, (0,), least=6)[0].validation) == 0


def test_only_what_is_labelled_is_left():
    given = problem()
    drawn = draw(given, 0.1, (0, 1), least=1)
    fewer, moved = labelled(given, drawn)
    all_, some = given.splits["train"], fewer.splits["train"]
    for before, after in zip(drawn, moved, strict=True):
        assert ids(all_, before.train) == ids(some, after.train)
        assert [fewer.source[row] for row in after.train] == ids(all_, before.train)
        np.testing.assert_array_equal(all_["image"][before.train], some["image"][after.train])
    whole = draw(given, 1.0, (0,), least=1)
    assert labelled(given, whole)[0] is given
    assert len(fewer.splits["train"]["id"]) == len(set(drawn[0].train) | set(drawn[1].train)) < 9


def test_all_labels_are_one_subset_whatever_the_seeds():
    (drawn,) = draw(problem(), 1.0, (3, 5), least=6)
    assert drawn.seed == 3
    assert sorted(drawn.train) == list(range(40))
    assert len(draw(problem(), 0.9, (3, 5), least=6)) == 2


def test_a_part_of_the_training_split_is_held_out_by_person_where_persons_are_known():
    train = problem().splits["train"]
    by_person, by_image = divided(train, "id", 0.2), divided({**train, "identity": np.full(40, -1)}, "id", 0.2)
    for parts in (by_person, by_image):
        assert sorted(parts["train"]["id"] + parts["validation"]["id"]) == sorted(train["id"])
        assert len(parts["validation"]["id"]) == 8
    assert not {*by_person["train"]["identity"]} & {*by_person["validation"]["identity"]}
    assert by_image["validation"]["id"] != by_person["validation"]["id"]
    assert len(divided(train, "id", 1e-9)["validation"]["id"]) == 4  # at least one person
    for share, message in ((0.0, "held_out is above 0"), (1.0, "held_out is above 0")):
        with pytest.raises(ValueError, match=message):
            divided(train, "id", share)
    with pytest.raises(ValueError, match="one training example is too few"):
        divided({"id": ["a"]}, "id", 0.1)


def test_too_few_labels_are_refused():
    with pytest.raises(ValueError, match=r"0.04 of 40 training examples is less than 2 labels"):
        draw(problem(), 0.04, (0,), least=1)
    assert len(draw(problem(), 0.05, (0,), least=1)[0].train) == 2
    with pytest.raises(ValueError, match="at most 1"):
        draw(problem(), 1.5, (0,), least=1)


def test_a_fraction_holds_a_label_for_each_class():
    class OfClasses(Task):
        classes = 7

    with pytest.raises(
        ValueError, match=r"less than 7 labels; .*one for each of 7 classes: the smallest fraction is 0.175"
    ):
        draw(problem(task=OfClasses), 0.15, (0,), least=1)
    assert len(draw(problem(task=OfClasses), 0.175, (0,), least=1)[0].train) == 7
    with pytest.raises(ValueError, match="no fraction is enough"):
        draw(problem(train=6, task=OfClasses), 1.0, (0,), least=1)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ((), "seeds is empty; an evaluation needs"),
        ((0, 0, 1), "seeds has 0 twice; equal subsets of the labels show no spread"),
        ((0, 1.5), "seeds has 1.5; a seed is a whole number from 0 to 4294967295"),
        (("0",), "seeds has '0'; a seed is"),
        ((-1,), "seeds has -1; a seed is"),
        ((2**32,), "seeds has 4294967296; a seed is"),
    ],
)
def test_seeds_are_whole_numbers_that_differ(seeds, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_seeds(seeds)
    check_seeds((3, 0, 2**32 - 1))


def test_whole_persons_are_drawn_if_the_task_says_so():
    given = problem(task=OfPersons)
    (drawn,) = draw(given, 0.3, (3,), least=2)
    identities = given.splits["train"]["identity"]
    people = label_subset([str(i) for i in range(10)], 0.3, 3)
    assert [str(i) for i in identities[drawn.train]] == [person for person in people for _ in range(4)]
    assert len(drawn.validation) == 8  # of two of five people
    with pytest.raises(ValueError, match=r"0\.1 of 10 training values of 'identity' is less than 2 labels"):
        draw(given, 0.1, (0,), least=1)


def test_a_task_that_learns_nothing_has_empty_subsets():
    (drawn,) = draw(problem(train=0, validation=0, task=Untrained), 1.0, (0,), least=1)
    assert (len(drawn.train), len(drawn.validation)) == (0, 0)
    assert labelled(problem(train=0, validation=0), [drawn])[1] == [drawn]
