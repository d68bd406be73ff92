import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from facerep_jax import face_world
from facerep_jax.data import features, processes
from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import checked_meta
from facerep_jax.data.records import Builder
from facerep_jax.face_world.photo import encoded

SMALL = "size=32,train=9,validation=3,test=2,seed=5"


def build(data_dir: Path, arg=SMALL):
    raw = generated_faces.read(arg, None)
    plan = generated_faces.plan(raw)
    plan = dataclasses.replace(plan, meta={**plan.meta, "digest": raw.digest})
    Builder(plan, family="generated_faces", name="x", version="1.0.0", data_dir=data_dir).download_and_prepare()
    return open_dataset("generated_faces/x", data_dir)


def test_a_record_is_the_generators_face(tmp_path):
    dataset = build(tmp_path)
    assert dataset.splits == {"train": 9, "validation": 3, "test": 2}
    for record in dataset.source("train"):
        world, seed, number = record["id"].split(b"-")
        assert (world, seed) == (b"pretrain", b"5")
        face = face_world.face(5, int(number), 32)
        photo = face_world.sample_scene(5, int(number)).photo
        decoded = simplejpeg.decode_jpeg(record["image"])
        assert simplejpeg.decode_jpeg_header(record["image"])[:4] == (32, 32, "YCbCr", photo.subsampling)
        assert record["image"] == encoded(photo, face["image"])
        assert np.abs(decoded.astype(int) - face["image"]).mean() < 12
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(record["mask"]))), face["mask"])
        assert dataset.meta["identities"][record["identity"]] == face["identity"]
        assert [caption.decode() for caption in record["caption"]] == list(face["caption"])
        assert record["oracle_caption"].decode() == face["oracle_caption"]
        numbers = set(features.NUMBERS) - {"identity", "age"}  # which drawn faces do not have
        assert numbers <= set(record)
        for name in numbers:
            np.testing.assert_array_equal(record[name], np.float32(face[name]), err_msg=name)


def test_splits_share_neither_faces_nor_identities():
    plan = generated_faces.plan(generated_faces.read("train=50,validation=30,test=11", None))
    for place in (0, 1):  # index, identity
        sets = [{record[place] for record in plan.records[split]} for split in features.SPLITS]
        assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]
    labels = {record[1] for records in plan.records.values() for record in records}
    assert labels == set(range(len(plan.meta["identities"])))
    assert len(set(plan.meta["identities"])) == len(labels)


@pytest.mark.parametrize("arg", ["sessions=3,frames=7", "frames=1000,sessions=1", "world=evaluate"])
def test_splits_share_no_identity_whatever_the_settings(arg):
    """Also where a person's pictures would not divide a split's numbers."""
    plan = generated_faces.plan(generated_faces.read(f"size=32,train=50,validation=30,test=11,{arg}", None))
    labels = [{record[1] for record in plan.records[split]} for split in features.SPLITS]
    assert not labels[0] & labels[1] | labels[0] & labels[2] | labels[1] & labels[2]
    people = [
        {
            face_world.sample_scene(0, index, generated_faces.read(arg, None).settings).identity
            for index, _ in plan.records[split]
        }
        for split in features.SPLITS
    ]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    named = {plan.meta["identities"][label] for _, label in plan.records["train"]}
    assert named == people[0]


def test_settings_reach_the_records():
    """Sessions, frames and world are those that were asked for."""
    arg = "size=32,train=12,validation=0,test=0,sessions=2,frames=3,world=evaluate,correlation=4,mismatched=0"
    request = generated_faces.read(arg, None)
    plan = generated_faces.plan(request)
    examples = [plan.example(record)[1] for record in plan.records["train"]]
    assert [int(example["session"]) for example in examples] == [0, 0, 0, 1, 1, 1] * 2
    assert [int(example["frame"]) for example in examples] == [0, 1, 2] * 4
    assert [int(example["identity"]) for example in examples] == [0] * 6 + [1] * 6
    face = face_world.face(0, 7, 32, request.settings)
    assert examples[7]["id"] == face["id"] == "evaluate-0-00000007"
    assert examples[7]["caption"] == list(face["caption"])
    np.testing.assert_array_equal(examples[7]["action_units"], face["action_units"])


def test_a_drawn_set_reads_like_a_prepared_one(tmp_path):
    prepared = build(tmp_path).source("train")
    drawn = open_dataset(f"generated_faces:{SMALL}", tmp_path).source("train")
    ids = [record["id"] for record in drawn]
    for record in prepared:
        twin = drawn[ids.index(record["id"])]
        assert set(twin) == set(record)
        for name, value in record.items():
            np.testing.assert_array_equal(value, twin[name], err_msg=name)


def test_a_longer_split_keeps_the_faces_of_all():
    few = generated_faces.plan(generated_faces.read("train=8,validation=4,test=4", None)).records
    many = generated_faces.plan(generated_faces.read("train=12,validation=4,test=4", None)).records
    assert many["train"][:8] == few["train"]
    assert [index for index, _ in many["test"]] == [index for index, _ in few["test"]]


def test_a_split_may_be_empty():
    plan = generated_faces.plan(generated_faces.read("size=32,train=4,validation=0,test=0", None))
    assert list(plan.records) == ["train"]


def test_meta_is_valid_as_that_of_a_manifest():
    plan = generated_faces.plan(generated_faces.read(SMALL, None))
    meta = json.loads(json.dumps(plan.meta))
    assert len(meta.pop("identities")) == 4
    assert len(meta["action_units"]) == plan.sizes["action_units"]
    assert len(meta["expressions"]) == 7
    assert len(meta["attributes"]) == plan.sizes["attributes"]
    assert len(meta["landmarks"]["flip"]) == plan.sizes["landmarks"]
    assert len(meta["vertex_flip"]) == plan.sizes["vertices"]
    checked_meta(meta)


def test_it_is_drawn_on_all_cores():
    plan = generated_faces.plan(generated_faces.read("size=32,train=5,validation=0,test=0", None))
    assert plan.mapped is processes.mapped


def test_the_digest_depends_on_every_argument():
    digests = {
        generated_faces.read(arg, None).digest
        for arg in (
            *(None, "size=48", "train=1", "validation=1", "test=1", "seed=1", "world=evaluate", "sessions=3"),
            *("frames=2", "correlation=8", "informativeness=0.5", "mismatched=1"),
        )
    }
    assert len(digests) == 12
    assert generated_faces.read("size=112", None).digest == generated_faces.read(None, None).digest


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("size=31", "size must be between 32 and 256 pixels, not 31"),
        ("size=257", "size must be between 32 and 256 pixels, not 257"),
        ("size=big", "size is of type int, not 'big'"),
        ("trian=3", "'trian' is not known; did you mean 'train'"),
        ("train=-1", "train must be between 0 and"),
        ("train=0,validation=0,test=0", "at least one of train, validation and test"),
        ("seed=-1", "seed must not be negative"),
        ("world=mars", "world must be pretrain or evaluate, not 'mars'"),
        ("frames=0", "frames must be between 1 and 1000, not 0"),
        ("sessions=1001", "sessions must be between 1 and 1000"),
        ("correlation=0", "correlation must be between 0.1 and 1e6 frames, not 0.0"),
        ("correlation=nan", "correlation must be between"),
        ("informativeness=1.5", "informativeness is a share, between 0 and 1, not 1.5"),
        ("mismatched=nan", "mismatched is a share"),
    ],
)
def test_wrong_arguments_are_one_line(arg, message):
    with pytest.raises(ValueError, match=message):
        generated_faces.read(arg, None)


def test_it_needs_no_raw_folder(tmp_path):
    with pytest.raises(ValueError, match="takes no --manual_dir"):
        generated_faces.read(None, tmp_path)
