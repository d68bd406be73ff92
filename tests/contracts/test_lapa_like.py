"""A stranger's data set goes the whole way: its folders, `facerep prepare`, records, meta, transforms, an
evaluation and its report.

Planted and seen red: a digest over images and masks alone, with which moved landmarks go unnoticed; names of classes
that a flip leaves where they are.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facerep_jax import cli, face_world
from facerep_jax.config import spec
from facerep_jax.data import datasets
from facerep_jax.data.alignment import AlignToTemplate
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import may_show_images
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.transforms import Flip, decode
from tests import processes

SIZE = 96
COUNTS = {"train": 4, "val": 2, "test": 3}
IBUG = face_world.META["landmarks"]["flip"]


def middle(points, *indices):
    return points[list(indices)].mean(0)


def eye(points, mirror):
    """Nine points of an eye, by iBUG's points of the left one, or of their mirror images."""
    of = [IBUG[i] if mirror else i for i in range(68)]
    corners = [points[of[i]] for i in range(36, 42)]
    return [*corners, *(middle(points, of[a], of[b]) for a, b in ((36, 37), (38, 39), (37, 41)))]


def lapas(points):
    """106 landmarks in LaPa's order, where iBUG's 68 are."""
    between = [middle(points, i, i + 1) for i in range(68 - 1)]
    contour = [points[i // 2] if i % 2 == 0 else between[i // 2] for i in range(33)]
    brows = [*points[17:22], *between[17:21], *points[22:27], *between[22:26]]
    along = np.linspace(31, 35, 11)
    nostrils = np.stack([np.interp(along, range(31, 36), points[31:36, axis]) for axis in (0, 1)], -1)
    pupils = [points[36:42].mean(0), points[42:48].mean(0)]
    eyes = [*eye(points, mirror=False), *eye(points, mirror=True)]
    return np.stack([*contour, *brows, *points[27:31], *nostrils, *eyes, *points[48:68], *pupils])


@pytest.fixture
def raw(tmp_path) -> Path:
    """Generated faces, in LaPa's folders."""
    folder, index = tmp_path / "LaPa", 0
    for split, count in COUNTS.items():
        for sub in ("images", "labels", "landmarks"):
            (folder / split / sub).mkdir(parents=True)
        for _ in range(count):
            face, name = face_world.face(0, index, SIZE), f"{index:05d}"
            Image.fromarray(face["image"]).save(folder / split / "images" / f"{name}.jpg")
            Image.fromarray(face["mask"]).save(folder / split / "labels" / f"{name}.png")
            lines = ["106", *(f"{x:.3f} {y:.3f}" for x, y in lapas(face["landmarks"]))]
            (folder / split / "landmarks" / f"{name}.txt").write_text("\n".join(lines) + "\n")
            index += 1
    return folder


def prepare(raw, data, *flags):
    flags = (f"--manual_dir={raw}", f"--data_dir={data}", *flags)
    return cli.main(["facerep", "prepare", "tests.contracts.lapa_like", *flags])


@pytest.fixture
def data(raw, tmp_path) -> Path:
    assert prepare(raw, tmp_path / "data") == 0
    return tmp_path / "data"


def test_its_files_become_records_that_need_no_module(raw, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "tests.contracts.lapa_like", None)  # importing it now fails
    assert "lapa_like" not in datasets.names()
    dataset = open_dataset("lapa_like/default", data)
    assert dataset.splits == {"train": 4, "validation": 2, "test": 3}
    assert dataset.features == ("id", "image", "mask", "landmarks")
    assert len(dataset.meta["classes"]) == 11
    for record in (*dataset.source("validation"), *dataset.source("test")):
        split, name = record["id"].decode().split("/")
        assert record["image"] == (raw / split / "images" / f"{name}.jpg").read_bytes()
        mask = np.asarray(Image.open(raw / split / "labels" / f"{name}.png"))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(record["mask"]))), mask)
        landmarks = lapas(face_world.face(0, int(name), SIZE)["landmarks"])
        np.testing.assert_allclose(record["landmarks"], landmarks, atol=1e-3)


def test_its_licence_travels_with_it(data):
    meta = open_dataset("lapa_like/default", data).meta
    assert not may_show_images(meta)
    assert meta["research_only"] is True
    assert meta["licence"].startswith("LaPa")
    assert meta["agreement"].startswith("cite")


def test_it_flips_by_its_own_meta(data):
    dataset = open_dataset("lapa_like/default", data)
    (flip,) = build_transforms((spec(Flip, probability=1.0),), dataset.meta)
    for record in dataset.source("train"):
        plain = decode(record)
        flipped = flip(plain, np.random.default_rng(0))
        np.testing.assert_array_equal(flipped["image"], plain["image"][:, ::-1])
        np.testing.assert_allclose(flipped["landmarks"][104], [SIZE - 1, 0] + plain["landmarks"][105] * [-1, 1])
        # Sides stay sides: contour, brows, eyes and corners of the mouth.
        for left, right in ((0, 32), (33, 46), (66, 75), (84, 90), (104, 105)):
            assert flipped["landmarks"][left, 0] < flipped["landmarks"][right, 0]
        for left, right in ((2, 3), (4, 5)):
            before, after = plain["mask"], flipped["mask"]
            np.testing.assert_array_equal(after == left, (before == right)[:, ::-1])
            np.testing.assert_array_equal(after == right, (before == left)[:, ::-1])
        again = flip(flipped, np.random.default_rng(0))
        for name in ("image", "mask", "landmarks"):
            np.testing.assert_allclose(again[name], plain[name], atol=1e-4)


def test_it_aligns_by_its_own_five_points(data):
    dataset = open_dataset("lapa_like/default", data)
    (align,) = build_transforms((spec(AlignToTemplate),), dataset.meta, size=64)
    assert align.points == ((104,), (105,), (54,), (84,), (90,))
    for record in dataset.source("train"):
        aligned = align(decode(record), np.random.default_rng(0))
        assert aligned["image"].shape == (64, 64, 3)
        assert aligned["mask"].shape == (64, 64)
        five = aligned["landmarks"][[104, 105, 54, 84, 90]]
        assert np.linalg.norm(five - align.template, axis=1).mean() < 3


def test_a_broken_image_is_left_out_and_listed(raw, tmp_path, capsys):
    broken = raw / "test" / "images" / "00007.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    assert prepare(raw, tmp_path / "data") == 2
    assert "1 of 9 images are rejected" in capsys.readouterr().err
    assert prepare(raw, tmp_path / "data", "--max_rejected=0.2") == 0
    dataset = open_dataset("lapa_like/default", tmp_path / "data")
    assert dataset.splits == {"train": 4, "validation": 2, "test": 2}
    (rejected,) = map(json.loads, (dataset.path / "rejected.jsonl").read_text().splitlines())
    assert (rejected["id"], rejected["image"]) == ("test/00007", "test/images/00007.jpg")
    assert set(rejected) == {"id", "image", "reason"}


def test_a_second_time_nothing_happens(raw, data, capsys):
    def files():
        return {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}

    before = files()
    assert prepare(raw, data) == 0
    assert "Prepared already" in capsys.readouterr().out
    assert files() == before
    moved = raw / "train" / "landmarks" / "00000.txt"
    moved.write_text(moved.read_text().replace("106\n", "106\n1"))
    assert prepare(raw, data) == 2
    assert "prepared from another input" in capsys.readouterr().err
    assert files() == before


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("val/landmarks/00004.txt", b"68\n1 2\n", "val/landmarks/00004.txt: a line with 106"),
        ("val/labels/00004.png", b"nothing", "val/00004: mask: val/labels/00004.png cannot be decoded"),
    ],
)
def test_a_file_that_is_wrong_is_named(raw, tmp_path, capsys, file, content, message):
    (raw / file).write_bytes(content)
    assert prepare(raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "data").glob("*"))


@pytest.mark.parametrize(("task", "headline"), [("landmarks", "nme_inter_ocular"), ("parsing", "f1_mean_foreground")])
def test_a_tiny_encoder_is_judged_on_it_and_no_face_is_shown(data, tmp_path, task, headline):
    workdir, licence = tmp_path / "result", open_dataset("lapa_like/default", data).meta["licence"]
    config = (
        f"--config=configs/evaluate/{task}.py:dataset=lapa_like/default,data_dir={data},variant=Nano/8,size=32,small"
    )
    short = (
        "--config.seeds=(0,)",
        "--config.protocol.steps=6",
        "--config.devices=1",
        "--config.encoder.depth=2",
        "--config.task.taps=(1.0,)",
    )
    status, said = processes.here("evaluate", workdir, config, "--checkpoint=random", *short)
    assert status == 0, said
    assert "images of lapa_like/default may not be shown" in said
    results = json.loads((workdir / "results.json").read_text())
    assert results["headline"] == headline
    assert np.isfinite([of["metrics"][headline]["mean"] for of in (results, *results["baselines"].values())]).all()
    assert (results["test_images"], results["labels"], results["licence"]["licence"]) == (3, 4, licence)
    assert results["licence"]["may_show_images"] is False
    prediction = pq.read_table(workdir / "predictions.parquet").to_pylist()[0]["prediction"]
    assert len(prediction) == 106 * 2 if task == "landmarks" else Image.open(io.BytesIO(prediction)).size == (32, 32)
    page = tmp_path / "page"
    assert cli.main(["facerep", "report", str(workdir), f"--out={page}"]) == 0
    text = (page / "report.html").read_text()
    assert licence in text
    assert "data:image/png" not in text
    assert "data:image/jpeg" not in text
    assert not [path for path in (*workdir.rglob("*"), *page.rglob("*")) if path.suffix in (".png", ".jpg", ".jpeg")]
