"""Planted and seen red: rows not translated after unlabelled examples are left out, records of all examples left."""

import re

import numpy as np
import pytest

from facerep_jax.data.library import Kept
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.labels import check_seeds, draw, labelled, one_sided
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


class OfClasses(Task):
    classes, label = 7, "expression"


@pytest.mark.parametrize("key", ["id", "identity"])
def test_each_subset_holds_an_example_of_each_class(key):
    """Of 700 unbalanced faces a hundredth are as many labels as classes, but of one or two of these."""
    given = problem(train=700, task=type("Drawn", (OfClasses,), {"drawn_by": key}))
    rng, train = np.random.default_rng(0), given.splits["train"]
    train["expression"] = rng.choice([-1, *range(6)], 700, p=[0.1, 0.85, 0.01, 0.01, 0.01, 0.01, 0.01])
    seeds, names = (3, 5), [str(name) for name in train[key]]

    def held(fraction, seed):
        kept = {*label_subset([*{*names}], fraction, seed)}
        return {each for name, each in zip(names, train["expression"].tolist(), strict=True) if name in kept} - {-1}

    def enough(fraction):
        return all(held(fraction, seed) == {*range(6)} for seed in seeds)  # nobody is of class 6

    with pytest.raises(ValueError, match=r"has no example of class \d for seed [35]") as error:
        draw(given, 0.02, seeds, least=1)
    least = float(str(error.value).split()[-1])
    assert str(error.value).endswith(f"with one of each of 6 classes for these seeds is {least:g}")
    assert enough(least)
    assert not enough(least - 1 / len({*names}))
    assert len(draw(given, least, seeds, least=1)) == 2
    train["expression"][:] = -1
    assert len(draw(given, 0.02, seeds, least=1)) == 2  # nothing is known of any


def test_the_smallest_fraction_is_enough_however_it_is_rounded():
    given = problem(train=100, task=OfClasses)
    order = label_subset(given.splits["train"]["id"], 1, 0)
    given.splits["train"]["expression"] = np.array([name == order[28] for name in given.splits["train"]["id"]], int)
    with pytest.raises(ValueError, match=r"for these seeds is 0\.2901$"):  # 0.29 * 100 is less than 29
        draw(given, 0.28, (0,), least=1)
    assert len(draw(given, 0.2901, (0,), least=1)[0].train) == 29


def test_yes_or_no_labels_that_a_subset_has_of_one_kind_are_named():
    given = problem()._replace(metric=MultiLabel(("beard", "hat", "pale", "wig")))
    train, first = given.splits["train"], draw(problem(), 0.2, (3, 5), least=1)
    label = np.zeros((40, 4))
    label[:, 0] = np.arange(40) % 2
    label[min({*range(40)} - {*first[0].train}), 1] = 1  # one positive, which subset 0 lacks
    label[:, 2], label[min({*range(40)} - {*first[1].train}), 2] = 1, 0.2
    label[:, 3] = -1  # not known
    train["attributes"] = label
    assert one_sided(given, first) == (
        "a subset of the labels has no positive of hat, though the training split has",
        "a subset of the labels has no negative of pale, though the training split has",
    )
    assert one_sided(given, draw(problem(), 1.0, (3,), least=1)) == ()
    assert one_sided(problem(), first) == ()


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
