"""Planted and seen red: boxes as x0 y0 x1 y1, -1 kept in place of 0."""

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from facerep_jax import cli
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, text, write

NAMES = [f"Attribute_{i}" for i in range(40)]
PARTS = {"000001.jpg": 0, "000002.jpg": 0, "000003.jpg": 1, "000004.jpg": 2}
BOXES = [(4, 5, 30, 36), (0, 0, 0, 0), (3, 3, 20, 25), (2, 6, 40, 40)]


def flags(index):
    return np.random.default_rng(index).choice([-1, 1], 40)


def points5(ibug):
    eyes = ibug[36:42].mean(0), ibug[42:48].mean(0)
    return np.rint([*eyes, ibug[30], ibug[48], ibug[54]]).astype(int)


@pytest.fixture
def raw(tmp_path):
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    attributes, aligned, wild, sides_of = [], [], [], []
    for index, name in enumerate(PARTS):
        write(tmp_path / "Img" / "img_align_celeba" / name, face(index)["image"])
        write(tmp_path / "Img" / "img_celeba" / name, face(index, 64)["image"])
        attributes.append(f"{name} {' '.join(f'{flag:2d}' for flag in flags(index))}")
        for lines, size in ((aligned, 48), (wild, 64)):
            lines.append(f"{name} {' '.join(map(str, points5(face(index, size)['landmarks']).ravel()))}")
        sides_of.append(f"{name}   {' '.join(map(str, BOXES[index]))}")
    anno = tmp_path / "Anno"
    text(anno / "list_attr_celeba.txt", "4", " ".join(NAMES) + " ", *attributes)
    text(anno / "list_landmarks_align_celeba.txt", "4", header, *aligned)
    text(anno / "list_landmarks_celeba.txt", "4", header, *wild)
    text(anno / "list_bbox_celeba.txt", "4", "image_id x_1 y_1 width height", *sides_of)
    text(anno / "identity_CelebA.txt", "000001.jpg 2880", "000002.jpg 2937", "000003.jpg 2880", "000004.jpg 31")
    text(tmp_path / "Eval" / "list_eval_partition.txt", *(f"{name} {part}" for name, part in PARTS.items()))
    return tmp_path


def test_its_five_points_are_learnt_and_scored_by_the_distance_of_the_eyes(raw, tmp_path):
    dataset = prepared("celeba", raw, tmp_path / "data")
    config = f"configs/evaluate/landmarks.py:dataset=celeba/default,data_dir='{tmp_path / 'data'}',protocol=ridge,"
    config += "variant=Nano/8,size=48"
    flags = ["--config.seeds=(0,)", "--config.devices=1", "--config.baselines=('mean_shape',)"]
    where = ("--checkpoint=random", f"--workdir={tmp_path / 'out'}")
    assert cli.main(["facerep", "evaluate", f"--config={config}", *where, *flags]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (row,) = (
        pq.read_table(tmp_path / "out" / "predictions.parquet").filter(pc.field("encoder") == "encoder").to_pylist()
    )
    truth = points5(face(3)["landmarks"])  # the whole image is as large as what the encoder sees
    error = np.linalg.norm(np.reshape(row["prediction"], (5, 2)) - truth, axis=1).mean()
    expected = error / np.linalg.norm(truth[0] - truth[1])
    assert results["metrics"]["nme_inter_ocular"]["mean"] == pytest.approx(expected, rel=1e-3)
    assert dataset.meta["landmarks"]["flip"] == [1, 0, 2, 4, 3]


@pytest.mark.parametrize(("arg", "size"), [("", 48), (":images=wild", 64)])
def test_lists_become_records(raw, tmp_path, capsys, arg, size):
    dataset = prepared(f"celeba{arg}", raw, tmp_path / "data")
    assert "2 images in split train, but CelebA was published with 162770" in capsys.readouterr().out
    assert dataset.splits == {"train": 2, "validation": 1, "test": 1}
    assert dataset.meta["attributes"] == NAMES
    assert dataset.meta["attribute_flip"] == [*range(40)]
    found = records(dataset)
    for index, (name, record) in enumerate(found.items()):
        assert name == f"{index + 1:06d}"
        np.testing.assert_array_equal(record["landmarks"], points5(face(index, size)["landmarks"]))
        np.testing.assert_array_equal(record["attributes"], flags(index) == 1)
        sides(dataset, record, [0, 3], [1, 4])
        if arg:
            x, y, w, h = BOXES[index]
            expected = [x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5] if w else [np.nan] * 4
            np.testing.assert_array_equal(record["bbox"], expected)
    assert ("bbox" in dataset.features) == bool(arg)
    people = [dataset.meta["identities"][record["identity"]] for record in found.values()]
    assert people == ["2880", "2937", "2880", "31"]


def test_all_may_lie_in_one_folder(raw, tmp_path):
    for path in (*raw.glob("Anno/*"), *raw.glob("Eval/*"), raw / "Img" / "img_align_celeba"):
        path.rename(raw / path.name)
    assert prepared("celeba", raw, tmp_path / "data").splits == {"train": 2, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("Anno/list_attr_celeba.txt", ("4", "Bald Bangs"), "the number of images and 40 names are expected"),
        ("Anno/list_attr_celeba.txt", ("1", " ".join(NAMES), "000001.jpg" + " 1" * 40), "000002.jpg has no attributes"),
        ("Anno/list_landmarks_align_celeba.txt", ("4", "x", "000001.jpg 1 2 3"), "11 columns are expected, not 4"),
        ("Eval/list_eval_partition.txt", ("000001.jpg 7",), "000001.jpg has no split or box"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, file, lines, message):
    text(raw / file, *lines)
    assert prepare("celeba", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_other_images_are_refused(raw, tmp_path, capsys):
    assert prepare("celeba:images=big", raw, tmp_path / "data") == 2
    assert "images must be align or wild, not 'big'" in capsys.readouterr().err
