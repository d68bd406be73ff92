"""Planted and seen red: width and height taken for a corner."""

import shutil

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, sides, text, write
from tests.data.datasets.test_celeba import points5

IMAGES = {"train": ("n000002/0001_01", "n000002/0002_02", "n000003/0001_01"), "test": ("n000001/0019_01",)}
HEADERS = {
    "bb": "NAME_ID,X,Y,W,H",
    "landmark": "NAME_ID," + ",".join(f"P{i}{axis}" for i in range(1, 6) for axis in "XY"),
}
BOX = (4, -2, 30, 40)


@pytest.fixture
def raw(tmp_path):
    index = 0
    for split, names in IMAGES.items():
        rows = {"bb": [], "landmark": []}
        for name in names:
            write(tmp_path / split / f"{name}.jpg", face(index)["image"])
            rows["bb"].append(",".join((f'"{name}"', *map(str, BOX))))
            points = (f"{value:.3f}" for value in points5(face(index)["landmarks"]).ravel())
            rows["landmark"].append(",".join((f'"{name}"', *points)))
            index += 1
        for kind, lines in rows.items():
            text(tmp_path / "bb_landmark" / f"loose_{kind}_{split}.csv", HEADERS[kind], *lines)
    return tmp_path


def test_folders_and_tables_become_records(raw, tmp_path, capsys):
    dataset = prepared("vggface2", raw, tmp_path / "data")
    assert "3 images in split train, but VGGFace2 was published with 3141890" in capsys.readouterr().out
    assert dataset.splits == {"train": 3, "test": 1}
    assert dataset.meta["identities"] == ["n000001", "n000002", "n000003"]
    found = records(dataset)
    for index, name in enumerate((*IMAGES["train"], *IMAGES["test"])):
        record = found[name]
        assert dataset.meta["identities"][record["identity"]] == name.split("/")[0]
        np.testing.assert_array_equal(record["landmarks"], points5(face(index)["landmarks"]))
        np.testing.assert_array_equal(record["bbox"], [3.5, -2.5, 33.5, 37.5])
        sides(dataset, record, [0, 3], [1, 4])


def test_without_tables_there_are_people_alone(raw, tmp_path):
    shutil.rmtree(raw / "bb_landmark")
    assert prepared("vggface2", raw, tmp_path / "data").features == ("id", "image", "identity")


def test_another_table_is_refused(raw, tmp_path, capsys):
    text(raw / "bb_landmark" / "loose_bb_test.csv", "NAME_ID,X0,Y0,X1,Y1")
    assert prepare("vggface2", raw, tmp_path / "data") == 2
    assert "loose_bb_test.csv: its header must have NAME_ID, X, Y, W, H, but lacks X, Y, W" in capsys.readouterr().err
