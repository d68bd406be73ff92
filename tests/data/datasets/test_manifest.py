import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data.datasets import manifest
from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.records import Builder

RGB = Image.merge("RGB", [Image.effect_noise((9, 8), 60)] * 3)


def write(folder: Path, lines, meta=None):
    """A manifest whose images are made as it names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for line in lines:
        RGB.save(folder / line["image"])
    (folder / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if meta:
        (folder / "faces.meta.json").write_text(json.dumps(meta))
    return folder


def build(raw: Path, data_dir: Path) -> Dataset:
    read = manifest.read(None, raw)
    plan = manifest.plan(read)
    plan = dataclasses.replace(plan, meta={**plan.meta, "digest": read.digest})
    Builder(plan, family="manifest", name="x", version="1.0.0", data_dir=data_dir).download_and_prepare()
    return open_dataset("manifest/x", data_dir)


def by_id(dataset, split="train"):
    return {record["id"].decode(): record for record in dataset.source(split)}


def test_ages_are_years(tmp_path):
    lines = [{"image": "a.jpg", "age": 31.5}, {"image": "b.jpg"}]
    records = by_id(build(write(tmp_path / "raw", lines), tmp_path / "data"))
    np.testing.assert_array_equal([records["a.jpg"]["age"], records["b.jpg"]["age"]], [31.5, np.nan])
    with pytest.raises(ValueError, match="age: must be between 0 and 150, not -1"):
        build(write(tmp_path / "wrong", [{"image": "a.jpg", "age": -1}]), tmp_path / "none")


def test_names_become_numbers_and_files_their_contents(tmp_path):
    lines = [
        {"image": "a.jpg", "identity": "zoe", "attributes": {"hat": 1, "age": 30}, "action_units": {"AU2": 2.5}},
        {"image": "b.png", "identity": "ann", "attributes": {"hat": False}, "expression": "sad", "caption": "x"},
        {"image": "c.webp", "mask": "m.png", "vertices": "v.npy", "action_units": {"AU1": 0, "AU2": 5}},
    ]
    raw = write(tmp_path / "raw", lines, {"classes": ["background", "skin"], "expressions": ["happy", "sad"]})
    ids = np.arange(72, dtype=np.uint8).reshape(8, 9) % 2
    Image.fromarray(ids).save(raw / "m.png")
    vertices = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.save(raw / "v.npy", vertices)

    dataset = build(raw, tmp_path / "data")
    records = by_id(dataset)
    a, b, c = (records[line["image"]] for line in lines)
    assert dataset.meta["identities"] == ["ann", "zoe"]
    assert [r["identity"] for r in (a, b, c)] == [1, 0, -1]
    assert [r["expression"] for r in (a, b, c)] == [-1, 1, -1]
    assert dataset.meta["attributes"] == ["age", "hat"]
    np.testing.assert_array_equal(a["attributes"], [30, 1])
    np.testing.assert_array_equal(b["attributes"], [np.nan, 0])
    np.testing.assert_array_equal(a["action_units"], [np.nan, 2.5])
    np.testing.assert_array_equal(c["action_units"], [0, 5])
    assert [r["caption"] for r in (a, b, c)] == [[], [b"x"], []]
    assert a["image"] == (raw / "a.jpg").read_bytes()
    assert b["image"] == (raw / "b.png").read_bytes()
    assert Image.open(io.BytesIO(c["image"])).format == "PNG"
    assert c["mask"] == (raw / "m.png").read_bytes()
    blank = np.asarray(Image.open(io.BytesIO(a["mask"])))
    assert blank.shape == (8, 9)
    assert (blank == 255).all()
    np.testing.assert_array_equal(c["vertices"], vertices)
    assert np.isnan(a["vertices"]).all()


def test_a_feature_exists_if_any_record_has_it(tmp_path):
    lines = [{"image": "a.jpg", "valence": 0.5}, {"image": "b.jpg", "valence": None, "arousal": None}]
    dataset = build(write(tmp_path / "raw", lines), tmp_path / "data")
    assert dataset.features == ("id", "image", "valence")
    records = by_id(dataset)
    assert records["a.jpg"]["valence"] == 0.5
    assert np.isnan(records["b.jpg"]["valence"])


def test_a_feature_of_a_rejected_record_alone_does_not_exist(tmp_path):
    lines = [{"image": "a.jpg"}, {"image": "b.jpg", "caption": "x", "split": "test"}]
    raw = write(tmp_path / "raw", lines)
    (raw / "b.jpg").write_bytes(b"no image")
    plan = manifest.plan(manifest.read(None, raw))
    assert plan.names == ("id", "image")
    assert list(plan.records) == ["train"]
    assert plan.lines == 2
    assert plan.rejected == ({"line": 2, "id": "b.jpg", "image": "b.jpg", "reason": "not an image"},)


def test_identities_with_one_image_for_training_are_counted(tmp_path):
    names = {"a": "zoe", "b": "zoe", "c": "ann", "d": "bob", "e": "bob"}
    lines = [{"image": f"{image}.jpg", "identity": name} for image, name in names.items()]
    lines[-1]["split"] = "test"
    assert build(write(tmp_path / "raw", lines), tmp_path / "data").meta["identities_with_one_image"] == 2
    whole = build(write(tmp_path / "two", lines[:2]), tmp_path / "other")
    assert "identities_with_one_image" not in whole.meta


def test_conversions_are_told(tmp_path):
    plan = manifest.plan(manifest.read(None, write(tmp_path, [{"image": "a.jpg"}, {"image": "c.webp"}])))
    assert plan.notes == ("1 images stored as PNG: not an upright 8-bit RGB or grey JPEG or PNG",)


LINES = ('{"image": "a.jpg", "caption": "größe"}', "", '{"image": "b.jpg", "caption": "李"}')
WRITTEN = {
    "byte order mark": "\n".join(LINES).encode("utf-8-sig"),
    "two files with marks": b"\n".join(line.encode("utf-8-sig") for line in LINES),
    "windows": "\r\n".join(LINES).encode(),
    "old mac": "\r".join(LINES).encode(),
    **{encoding: "\r\n".join(LINES).encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")},
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_manifest_is_read_in_whatever_form_of_unicode_it_is_saved(tmp_path, written):
    raw = write(tmp_path, [{"image": "a.jpg"}, {"image": "b.jpg"}])
    (raw / "faces.jsonl").write_bytes(written)
    (raw / "faces.meta.json").write_bytes('{"classes": ["größe"]}'.encode("utf-16"))
    read = manifest.read(None, raw)
    assert [(sample.id, sample.values["caption"], sample.line) for sample in read.samples] == [
        ("a.jpg", ("größe",), 1),
        ("b.jpg", ("李",), 3),
    ]
    assert read.meta["classes"] == ["größe"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('{"image": "ä.jpg"}'.encode("latin-1"), "line 1, byte 12 is not UTF-8; save the file as UTF-8"),
        ('{"image": "a.jpg"}\n{"image": "ä.jpg"}'.encode("latin-1"), "line 2, byte 12 is not UTF-8"),
        ('{"image": "a.jpg"}\n'.encode("utf-16") + b"\0", "line 2, .*truncated data"),
        (b'[{"image": "a.jpg"},\n{"image": "b.jpg"}]', "line 1, invalid JSON .*; each line must hold one whole object"),
        (b'{\n"image": "a.jpg"\n}', "line 1, invalid JSON .*; each line must hold one whole object"),
        (b"image,split\na.jpg,train\n", "line 1, invalid JSON at column 1"),
    ],
)
def test_a_manifest_in_another_form_is_refused_with_the_cure(tmp_path, written, message):
    (write(tmp_path, [{"image": "a.jpg"}, {"image": "b.jpg"}]) / "faces.jsonl").write_bytes(written)
    with pytest.raises(ValueError, match=rf"faces\.jsonl {message}") as error:
        manifest.read(None, tmp_path)
    assert "\n" not in str(error.value)


def test_an_id_is_the_path_as_it_is_written(tmp_path):
    """So that it does not depend on how a file system spells accents, or on which names it takes."""
    (tmp_path / "images").mkdir()
    raw = write(tmp_path, [{"image": "images/a.jpg"}])
    (raw / "faces.jsonl").write_text(json.dumps({"image": "images\\a.jpg "}))
    read = manifest.read(None, raw)
    assert [(sample.id, sample.values["image"]) for sample in read.samples] == [("images\\a.jpg ", "images/a.jpg")]
    assert read.digest


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="'manifest' takes no arguments after the colon, but got 'size=3'"):
        manifest.read("size=3", tmp_path)
    with pytest.raises(ValueError, match=r"'manifest' needs --manual_dir: the folder with faces\.jsonl"):
        manifest.read(None, None)


def test_real_faces(real_faces, tmp_path):
    raw = tmp_path / "raw"
    for sub in ("images", "vertices"):
        (raw / sub).mkdir(parents=True)
    lines = [json.loads(line) for line in (real_faces / "faces.jsonl").read_text().splitlines()[:16]]
    for line in lines:
        for key in ("image", "vertices"):
            shutil.copy(real_faces / line[key], raw / line[key])
    shutil.copy(real_faces / "faces.meta.json", raw)
    (raw / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    dataset = build(raw, tmp_path / "data")
    assert sum(dataset.splits.values()) == 16
    assert dataset.features == (*("id", "image", "caption", "bbox", "landmarks", "identity", "attributes", "vertices"),)
    records = {k: r for split in dataset.splits for k, r in by_id(dataset, split).items()}
    for line in lines:
        record = records[line["id"]]
        assert record["image"] == (raw / line["image"]).read_bytes()
        np.testing.assert_array_equal(record["landmarks"], np.float32(line["landmarks"]))
        np.testing.assert_array_equal(record["vertices"], np.load(raw / line["vertices"]))
        assert record["caption"] == [line["caption"].encode()]
        assert dataset.meta["identities"][record["identity"]] == line["identity"]
