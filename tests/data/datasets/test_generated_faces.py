import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from facerep_jax.data import face_world, features
from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.meta import checked_meta

SMALL = "size=32,train=9,validation=3,test=2,seed=5"


def build(data_dir: Path, arg=SMALL):
    raw = generated_faces.read(arg, None)
    plan = generated_faces.plan(raw)
    import dataclasses

    import tensorflow_datasets as tfds

    plan = dataclasses.replace(plan, meta={**plan.meta, "digest": raw.digest})
    config = tfds.core.BuilderConfig(name="x", version="1.0.0")
    generated_faces.Builder(plan, data_dir=data_dir, config=config, file_format="array_record").download_and_prepare()
    return features.open_dataset("generated_faces/x", data_dir)


def test_a_record_is_the_generators_face(tmp_path):
    dataset = build(tmp_path)
    assert dataset.splits == {"train": 9, "validation": 3, "test": 2}
    for record in dataset.source("train"):
        index = int(record["id"].split(b"-")[1])
        face = face_world.face(5, index, 32)
        decoded = simplejpeg.decode_jpeg(record["image"])
        assert simplejpeg.decode_jpeg_header(record["image"])[:4] == (32, 32, "YCbCr", "444")
        assert np.abs(decoded.astype(int) - face["image"]).mean() < 4
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(record["mask"]))), face["mask"])
        assert dataset.meta["identities"][record["identity"]] == face["identity"]
        assert [caption.decode() for caption in record["caption"]] == list(face["caption"])
        for name in ("landmarks", "landmarks_3d", "visible", "bbox", "attributes", "vertices", "camera"):
            np.testing.assert_array_equal(record[name], face[name], err_msg=name)


def test_splits_share_neither_faces_nor_identities():
    plan = generated_faces.plan(generated_faces.read("train=50,validation=30,test=11", None))
    for place in (0, 1):  # index, identity
        sets = [{record[place] for record in plan.records[split]} for split in features.SPLITS]
        assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]
    labels = {record[1] for records in plan.records.values() for record in records}
    assert labels == set(range(len(plan.meta["identities"])))
    assert len(set(plan.meta["identities"])) == len(labels)


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
    assert len(meta.pop("identities")) == 5
    assert len(meta["attributes"]) == plan.sizes["attributes"]
    assert len(meta["landmarks"]["flip"]) == plan.sizes["landmarks"]
    assert len(meta["vertex_flip"]) == plan.sizes["vertices"]
    checked_meta(meta)


def test_processes_give_what_one_process_gives(monkeypatch):
    plan = generated_faces.plan(generated_faces.read("size=32,train=5,validation=0,test=0", None))
    alone = list(map(plan.example, plan.records["train"]))
    before = dict(os.environ)
    monkeypatch.setattr(generated_faces, "FEW", 0)
    together = list(generated_faces._in_processes(plan.example, plan.records["train"]))
    assert dict(os.environ) == before
    assert [key for key, _ in together] == [key for key, _ in alone]
    for (_, a), (_, b) in zip(alone, together, strict=True):
        assert a["image"] == b["image"]
        assert a["mask"] == b["mask"]
        np.testing.assert_array_equal(a["vertices"], b["vertices"])


def test_the_digest_depends_on_every_argument():
    digests = {
        generated_faces.read(arg, None).digest
        for arg in (None, "size=48", "train=1", "validation=1", "test=1", "seed=1")
    }
    assert len(digests) == 6
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
    ],
)
def test_wrong_arguments_are_one_line(arg, message):
    with pytest.raises(ValueError, match=message):
        generated_faces.read(arg, None)


def test_it_needs_no_raw_folder(tmp_path):
    with pytest.raises(ValueError, match="takes no --manual_dir"):
        generated_faces.read(None, tmp_path)
