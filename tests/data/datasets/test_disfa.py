"""Planted and seen red: frames counted from 0, the folds of training and testing exchanged."""

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
PEOPLE = ("SN001", "SN003", "SN013")  # of the test split in fold 3, 1 and 2
FRAMES = 3


def intensity(person, unit, frame):
    return (int(person[2:]) + unit + frame) % 6


@pytest.fixture
def raw(tmp_path):
    for person in PEOPLE:
        for frame in range(1, FRAMES + 1):
            write(tmp_path / "Frames" / person / f"{frame:05d}.jpg", face(frame)["image"])
        for unit in UNITS:
            lines = (f"{frame},{intensity(person, unit, frame)}" for frame in range(1, FRAMES + 1))
            text(tmp_path / "ActionUnit_Labels" / person / f"{person}_au{unit}.txt", *lines)
    return tmp_path


@pytest.mark.parametrize(("arg", "test"), [("", "SN003"), (":fold=2", "SN013"), (":fold=3", "SN001")])
def test_labels_and_frames_become_records(raw, tmp_path, capsys, arg, test):
    write(raw / "Frames" / "SN001" / "00004.jpg", face(4)["image"])  # beyond the labels
    dataset = prepared(f"disfa{arg}", raw, tmp_path / "data")
    assert "1 frames left out that have no labels" in capsys.readouterr().out
    assert dataset.splits == {"train": 6, "test": 3}
    assert {name.split("/")[0] for name in records(dataset, "test")} == {test}
    assert dataset.meta["action_units"] == [f"AU{unit}" for unit in UNITS]
    for name, record in records(dataset).items():
        person, frame = name.split("/")
        assert dataset.meta["identities"][record["identity"]] == person
        assert record["frame"] == int(frame)
        np.testing.assert_array_equal(record["action_units"], [intensity(person, unit, int(frame)) for unit in UNITS])
        assert record["image"] == (raw / "Frames" / person / f"{frame}.jpg").read_bytes()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("disfa:fold=4", lambda raw: None, "fold must be 1, 2 or 3, not 4"),
        ("disfa", lambda raw: text(raw / "ActionUnit_Labels/SN001/SN001_au1.txt", "1,6"), "an intensity from 0 to 5"),
        ("disfa", lambda raw: (raw / "ActionUnit_Labels/SN003/SN003_au26.txt").unlink(), "no ActionUnit_Labels/SN003"),
        ("disfa", lambda raw: (raw / "Frames/SN013").rename(raw / "other"), "no Frames/SN013"),
        ("disfa", lambda raw: (raw / "ActionUnit_Labels/SN014").mkdir(), "SN014: no such person"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, name, change, message):
    change(raw)
    assert prepare(name, raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
