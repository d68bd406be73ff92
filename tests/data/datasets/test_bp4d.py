"""Planted and seen red: 9 kept as a value, units taken by their place among the twelve."""

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

OCCURRENCE, INTENSITY = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24), (6, 10, 12, 14, 17)
VIDEOS = ("F001_T1", "F001_T8", "F007_T1", "M011_T2")  # of the test split in fold 3, 3, 1 and 2
FRAMES = (2440, 2441)


def label(video, unit, frame, highest):
    """A label, 9 where it is not coded."""
    made = (len(video) + int(video[1:4]) + unit * 5 + frame) % (highest + 2)
    return 9 if made > highest else made


@pytest.fixture
def raw(tmp_path):
    for video in VIDEOS:
        person, task = video.split("_")
        rows = [",".join(map(str, range(100)))]
        for index, frame in enumerate(FRAMES):
            write(tmp_path / "2D+3D" / person / task / f"{frame:04d}.jpg", face(index)["image"])
            rows.append(",".join([str(frame), *(str(label(video, unit, frame, 1)) for unit in range(1, 100))]))
        text(tmp_path / "AUCoding" / f"{video}.csv", *rows)
        for unit in INTENSITY:
            lines = (f"{frame},{label(video, unit, frame, 5)}" for frame in FRAMES)
            text(tmp_path / "AU-Intensity-Codes3.0" / f"AU{unit:02d}" / f"{video}_AU{unit:02d}.csv", *lines)
    return tmp_path


@pytest.mark.parametrize(("labels", "units", "highest"), [("occurrence", OCCURRENCE, 1), ("intensity", INTENSITY, 5)])
def test_tables_and_frames_become_records(raw, tmp_path, labels, units, highest):
    dataset = prepared(f"bp4d:labels={labels}", raw, tmp_path / "data")
    assert dataset.splits == {"train": 6, "test": 2}
    assert dataset.meta["action_units"] == [f"AU{unit}" for unit in units]
    missing = 0
    for name, record in records(dataset).items():
        person, task, frame = name.split("/")
        expected = np.array([label(f"{person}_{task}", unit, int(frame), highest) for unit in units], float)
        expected[expected == 9] = np.nan
        missing += np.isnan(expected).sum()
        np.testing.assert_array_equal(record["action_units"], expected)
        assert dataset.meta["identities"][record["identity"]] == person
        assert (record["session"], record["frame"]) == (int(task[1:]), int(frame))
        assert record["image"] == (raw / "2D+3D" / person / task / f"{frame}.jpg").read_bytes()
    assert missing > 0


@pytest.mark.parametrize(("fold", "people"), [("1", {"F007"}), ("2", {"M011"}), ("3", {"F001"}), ("fera", set())])
def test_folds_are_of_people(raw, tmp_path, fold, people):
    dataset = prepared(f"bp4d:fold={fold}", raw, tmp_path / "data")
    assert {
        name.split("/")[0] for name in records(dataset) if "test" in dataset.splits and name in records(dataset, "test")
    } == people


def test_later_names_of_folders_and_missing_frames(raw, tmp_path, capsys):
    (raw / "AUCoding").rename(raw / "AU_OCC")
    (raw / "AUCoding").mkdir()
    (raw / "AU_OCC").rename(raw / "AUCoding" / "AU_OCC")
    (raw / "AU-Intensity-Codes3.0").rename(raw / "AUCoding" / "AU_INT")
    (raw / "2D+3D" / "F001" / "T1" / "2440.jpg").unlink()
    assert prepared("bp4d:labels=intensity", raw, tmp_path / "data").splits == {"train": 5, "test": 2}
    assert "1 coded frames left out that have no image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "file", "lines", "message"),
    [
        ("bp4d:fold=4", "", (), "fold must be 1, 2, 3, fera, not '4'"),
        ("bp4d", "AUCoding/F001_T1.csv", ("0,1,2,4", "2440,0,0,0"), "but 6 is not there"),
        (
            "bp4d",
            "AUCoding/F001_T1.csv",
            (",".join(map(str, range(30))), "2440" + ",3" * 29),
            "AU1 must be 0 to 1 or 9",
        ),
        (
            "bp4d:labels=intensity",
            "AU-Intensity-Codes3.0/AU10/F007_T1_AU10.csv",
            ("2440,6",),
            "AU10 must be 0 to 5 or 9",
        ),
        (
            "bp4d:labels=intensity",
            "AU-Intensity-Codes3.0/AU10/F007_T1_AU10.csv",
            ("Frame,AU",),
            "frame is expected, not 'Frame'",
        ),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, name, file, lines, message):
    if file:
        text(raw / file, *lines)
    assert prepare(name, raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
