"""Planted and seen red: the test set's splits for both; one digest alone; names that are not compared."""

from dataclasses import replace

import pytest
from ml_collections import ConfigDict

from facerep_jax.data.library import open_dataset
from facerep_jax.evaluation.sets import Sets, open_sets

TEST, TRAIN = "generated_faces:size=32,train=4,test=3", "generated_faces:world=evaluate,size=32,train=5,test=2"
META = {
    "classes": ["skin", "hair"],
    "attributes": ["hat"],
    "action_units": ["AU1"],
    "expressions": ["neutral"],
    "vertex_landmarks": [*range(68)],
    "landmarks": {"flip": [1, 0], "normaliser": {"kind": "box"}},
}


def test_one_set_or_two():
    one = open_sets(ConfigDict(dict(dataset=TEST, data_dir="nowhere", train_set="")))
    assert not one.two
    assert (one.name, one.digest) == (TEST, one.test.digest)
    assert one.of("train") is one.of("test") is one.test
    two = open_sets(ConfigDict(dict(dataset=TEST, data_dir="nowhere", train_set=TRAIN)))
    assert two.two
    assert two.name == f"{TEST}, learnt from {TRAIN}"
    assert two.digest == f"{open_dataset(TEST, 'nowhere').digest}+{open_dataset(TRAIN, 'nowhere').digest}"
    assert two.of("train") is two.of("validation") is two.train
    assert two.of("test") is two.test
    assert not open_sets(ConfigDict(dict(dataset=TEST, data_dir="nowhere", train_set=TEST))).two


@pytest.mark.parametrize(
    ("feature", "change", "message"),
    [
        ("mask", {"classes": ["hair", "skin"]}, r'classes is \["hair", "skin"\] in the one and \["skin", "hair"\] in'),
        ("attributes", {"attributes": ["hat", "smile"]}, "attributes is "),
        ("action_units", {"action_units": ["AU2"]}, "action_units is "),
        ("expression", {"expressions": ["joy"]}, "expressions is "),
        ("vertices", {"vertex_landmarks": None}, "vertex_landmarks is null in the one"),
        ("landmarks_3d", {"landmarks": {"flip": [0, 1]}}, "landmarks.flip is "),
        ("landmarks", {"landmarks": {"flip": [0, 1]}}, r"landmarks.flip is \[0, 1\] in the one and \[1, 0\] in the"),
    ],
)
def test_numbers_that_mean_something_else_are_refused(feature, change, message):
    tested = replace(open_dataset(TEST, "nowhere"), name="tested", meta=META)
    sets = Sets(tested, replace(tested, name="learnt", meta=META | change))
    with pytest.raises(ValueError, match=f"learnt from 'learnt' cannot be tested on 'tested': {message}"):
        sets.require_alike(("image", feature))


def test_how_errors_are_divided_is_the_test_sets_own_affair():
    tested = replace(open_dataset(TEST, "nowhere"), meta=META)
    inter_ocular = {"landmarks": META["landmarks"] | {"normaliser": {"kind": "inter_ocular", "left": 0, "right": 1}}}
    Sets(tested, replace(tested, meta=META | inter_ocular)).require_alike(("landmarks",))
