"""Planted and seen red: ids that are not there left out, the list's order taken for that of the split."""

import json
import re

import pytest

from facerep_jax import cli
from facerep_jax.evaluation.label_lists import listed_labels
from facerep_jax.evaluation.labels import draw
from tests.evaluation.test_labels import ids, problem

FACES = "generated_faces:size=48,train=40,validation=16,test=16,sessions=2,frames=2"


def written(path, subsets):
    path.write_text(subsets if isinstance(subsets, str) else json.dumps(subsets))
    return str(path)


def test_what_is_listed_is_labelled(tmp_path):
    given, path = problem(), tmp_path / "lists.json"
    subsets = [{"train": ["t07", "t30", "t01"], "validation": ["v03"]}, {"train": ["t00", "t02"], "seed": 7}]
    one, two = listed_labels(given, written(path, subsets), 6)
    assert (one.seed, two.seed) == (0, 7)
    assert ids(given.splits["train"], one.train) == ["t07", "t30", "t01"]
    assert ids(given.splits["validation"], one.validation) == ["v03"]
    assert ids(given.splits["train"], two.train) == ["t00", "t02"]
    (drawn,) = draw(given, 0.05, (7,), least=6)
    assert two.validation.tolist() == drawn.validation.tolist()
    again = [{"train": ["t00", "t02"], "validation": []}, {"train": ["t02", "t00"], "validation": []}]
    assert len(listed_labels(given, written(path, again), 6)) == 1  # one and the same


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        ("{", "is not JSON"),
        ({}, "must be a list with an object for each subset"),
        ([], "must be a list with an object for each subset"),
        ([["t01", "t02"]], 'subset 0 must be an object with a list of ids, "train"'),
        ([{"validation": []}], 'subset 0 must be an object with a list of ids, "train"'),
        ([{"train": ["t01"]}], "seed 0: nothing can be learnt from 1 labels"),
        ([{"train": ["t01", "t02", "t01"]}], "seed 0: train has the id 't01' twice"),
        ([{"train": ["t01", "x", "v01"], "seed": 3}], "seed 3: 2 of 3 ids of train are not those of train examples"),
        ([{"train": ["t01", "t02"], "validation": ["t03"]}], "1 of 1 ids of validation are not those"),
        ([{"train": ["t01", "t02"], "seed": 1}, {"train": ["t01", "t03"]}], "seeds has 1 twice"),
    ],
)
def test_what_is_no_such_list_is_refused(tmp_path, subsets, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        listed_labels(problem(), written(tmp_path / "lists.json", subsets), 6)
    assert "\n" not in str(error.value)


def test_an_example_that_is_held_out_is_told_of(tmp_path):
    given = problem()._replace(held_out=20)
    path = written(tmp_path / "lists.json", [{"train": ["v01", "t02"]}])
    with pytest.raises(ValueError, match="the first is 'v01', since it is held out for validation: list it there"):
        listed_labels(given, path, 6)
    with pytest.raises(ValueError, match=r"config\.subsets names a file of ids, and there is none at nowhere\.json"):
        listed_labels(given, "nowhere.json", 6)


def test_an_evaluation_learns_from_the_subsets_of_another(tmp_path, capsys):
    config = f"--config=configs/evaluate/head_pose.py:dataset='{FACES}',protocol=ridge,variant=Nano/8,size=48"
    more = ("--checkpoint=random", "--config.devices=1", "--config.baselines=()")

    def evaluated(name, *flags):
        status = cli.main(["facerep", "evaluate", config, *more, f"--workdir={tmp_path / name}", *flags])
        return status, tmp_path / name / "results.json"

    status, first = evaluated("first", "--config.fraction=0.2", "--config.seeds=(3,5)")
    assert status == 0
    lists = f"--config.subsets={first.parent / 'subsets.json'}"
    status, second = evaluated("second", lists)
    assert status == 0
    one, two = (json.loads(path.read_text()) for path in (first, second))
    assert one["metrics"] == two["metrics"]
    assert (two["seeds"], two["labels"], two["fraction"]) == ([3, 5], 8, 0.2)
    assert two["config"]["subsets"] == lists.partition("=")[2]
    assert two["notes"][0].startswith(f"the labelled examples are those that {two['config']['subsets']} lists (SHA-256")
    assert json.loads((second.parent / "subsets.json").read_text()) == json.loads(
        (first.parent / "subsets.json").read_text()
    )
    capsys.readouterr()
    assert evaluated("third", lists, "--config.shots=1")[0] == 2
    assert "lists the labels: leave fraction and shots as they are" in capsys.readouterr().err
