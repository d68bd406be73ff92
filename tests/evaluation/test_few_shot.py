"""Planted and seen red: one order for all persons that counts rows of files, a draw that fewer shots are no part of."""

import json

import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.evaluation.few_shot import draw
from tests.evaluation.test_labels import Task, ids, problem

FACES = "generated_faces:size=48,train=40,validation=16,test=16,sessions=2,frames=2"


class OfClasses(Task):
    classes, label, title = 3, "expression", "Expressions"


def with_classes(label):
    given = problem(task=OfClasses)
    train = {**given.splits["train"], "expression": np.asarray(label)}
    return given._replace(splits={**given.splits, "train": train})


def reordered(given, seed=1):
    """The same problem with the training examples in another order."""
    order = np.random.default_rng(seed).permutation(len(given.splits["train"]["id"]))
    train = {
        name: [x[i] for i in order] if name == "id" else np.asarray(x)[order]
        for name, x in given.splits["train"].items()
    }
    return given._replace(splits={**given.splits, "train": train})


def test_each_person_gives_as_many_examples():
    given = problem()
    train = given.splits["train"]
    for labels in draw(given, 2, "", (0, 1), least=1):
        persons, counts = np.unique(train["identity"][labels.train], return_counts=True)
        assert (persons.tolist(), counts.tolist()) == (list(range(10)), [2] * 10)
        assert len({*labels.train}) == 20
        assert len(labels.validation) == 10  # half of 20, as of the training examples


def test_subsets_go_by_seed_and_id_alone_and_fewer_are_a_part_of_more():
    given = problem()
    one, three = (draw(given, shots, "identity", (0, 1), least=1) for shots in (1, 3))
    for few, more in zip(one, three, strict=True):
        assert {*few.train} < {*more.train}
    assert {*one[0].train} != {*one[1].train}
    again = reordered(given)
    (found, _) = draw(again, 3, "identity", (0, 1), least=1)
    assert {*ids(again.splits["train"], found.train)} == {*ids(given.splits["train"], three[0].train)}
    offsets = {row % 4 for row in one[0].train}  # persons have four images each: not the same place of each
    assert len(offsets) > 1


def test_each_class_gives_as_many_examples():
    given = with_classes([0] * 30 + [1] * 6 + [2] * 3 + [-1])
    (labels, *_) = draw(given, 3, "", (0, 1), least=1)
    assert np.bincount(given.splits["train"]["expression"][labels.train]).tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match=r"4 shots of each class are more than class 2 has, 3 .*: at most shots=3"):
        draw(given, 4, "", (0,), least=1)
    people = draw(given, 2, "identity", (0,), least=1)[0]
    assert np.bincount(given.splits["train"]["identity"][people.train]).tolist() == [2] * 10


def test_shots_of_each_person_hold_an_example_of_each_class():
    given = with_classes([0, 0, 0, 1] * 10)
    (few, *_) = draw(given, 1, "identity", (0, 1), least=1)
    assert {*given.splits["train"]["expression"][few.train]} == {0, 1}
    given = with_classes([0] * 39 + [1])  # one face of one person
    seeds, train = (0, 1, 2), given.splits["train"]
    with pytest.raises(ValueError, match=r"1 shots of each person have no example of class 1 for seed \d: ") as error:
        draw(given, 1, "identity", seeds, least=1)
    fewest = int(str(error.value).split("=")[-1])
    assert str(error.value).endswith(f"the fewest for these seeds are shots={fewest}")
    assert all(39 in labels.train for labels in draw(given, fewest, "identity", seeds, least=1))
    with pytest.raises(ValueError, match="no example of class 1"):
        draw(given, fewest - 1, "identity", seeds, least=1)
    train["identity"][39] = -1
    with pytest.raises(ValueError, match="no number of shots is enough"):
        draw(given, 4, "identity", seeds, least=1)


def test_persons_with_fewer_images_give_all_of_them(capsys):
    given = problem()
    identity = np.where(np.arange(40) < 2, 0, np.arange(40) // 4)
    identity[2:4] = -1  # nobody known
    given.splits["train"]["identity"] = identity
    (labels, *_) = draw(given, 3, "", (0, 1), least=1)
    assert np.bincount(identity[labels.train]).tolist() == [2] + [3] * 9
    assert "1 of 10 persons have fewer than 3 training images" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_refused():
    given = problem()
    with pytest.raises(ValueError, match=r"shots is at least 1, .* not -1"):
        draw(given, -1, "", (0,), least=1)
    with pytest.raises(ValueError, match="shots_per is identity or class, not 'person'"):
        draw(given, 1, "person", (0,), least=1)
    with pytest.raises(ValueError, match="need a task with classes, and 'Landmarks' has none"):
        draw(given._replace(task=type("Points", (Task,), {"title": "Landmarks"})), 1, "class", (0,), least=1)
    given.splits["train"]["identity"] = np.zeros(40, int)
    with pytest.raises(ValueError, match="nothing can be learnt from 1 shots of one identity: raise shots"):
        draw(given, 1, "", (0,), least=1)
    del given.splits["train"]["identity"]
    with pytest.raises(ValueError, match="shots of each person need a data set with 'identity'"):
        draw(given, 1, "", (0,), least=1)


def test_an_evaluation_learns_from_shots_and_keeps_their_ids(tmp_path, capsys):
    config = f"configs/evaluate/emotion.py:dataset='{FACES}',protocol=ridge,shots=1,variant=Nano/8,size=48"
    where = ["--checkpoint=random", f"--workdir={tmp_path / 'out'}", "--config.seeds=(0,1,2)", "--config.devices=1"]
    assert cli.main(["facerep", "evaluate", f"--config={config}", *where]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["shots"], results["labels"], results["fraction"]) == (1, 10, 0.25)
    assert "10 labels (25%, 1 shot each), 3 subsets" in capsys.readouterr().out
    subsets = json.loads((tmp_path / "out" / "subsets.json").read_text())
    assert [len(subset["train"]) for subset in subsets] == [10] * 3
    assert len({tuple(sorted(subset["train"])) for subset in subsets}) > 1
    assert cli.main(["facerep", "evaluate", f"--config={config},fraction=0.5", *where]) == 2
    assert "say a fraction of the labels or shots, not both: fraction=0.5, shots=1" in capsys.readouterr().err
