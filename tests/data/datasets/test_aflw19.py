"""Planted and seen red: x and y in turns, the box as left, top, right, bottom, `ra` counted from 0."""

import numpy as np
import pytest
import scipy.io

from facerep_jax.data.datasets import aflw19
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, write

COUNT, TRAIN = 6, 4
ORDER = (3, 1, 6, 2, 5, 4)  # of the faces, counted from 1
SEEN = np.ones((COUNT, 19), int)
SEEN[4, 3] = 0
NAMES = [f"{(0, 2, 3)[i % 3]}/image{i:05d}.jpg" for i in range(COUNT)]


def points19(ibug):
    """Brows, eyes (corner, middle, corner), nose, mouth, chin, each from left to right."""
    brows = ibug[[17, 19, 21, 22, 24, 26]]
    eyes = [ibug[36], ibug[36:42].mean(0), ibug[39], ibug[42], ibug[42:48].mean(0), ibug[45]]
    mouth = [ibug[48], ibug[60:68].mean(0), ibug[54]]
    return np.stack([*brows, *eyes, ibug[31], ibug[30], ibug[35], *mouth, ibug[8]])


def contents():
    names = np.empty((COUNT, 1), object)
    names[:, 0] = NAMES
    return {
        "nameList": names,
        "data": np.stack([points19(face(i)["landmarks"]).T.ravel() for i in range(COUNT)]),
        "bbox": np.tile([4, 40, 6, 47], (COUNT, 1)),  # left, right, top, bottom
        "mask_new": SEEN,
        "ra": np.array([ORDER]),
    }


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(aflw19, "TRAIN", TRAIN)
    for index, name in enumerate(NAMES):
        write(tmp_path / "data" / "flickr" / name, face(index)["image"])
    scipy.io.savemat(tmp_path / "AFLWinfo_release.mat", contents())
    return tmp_path


def test_faces_become_records(raw, tmp_path, capsys):
    dataset = prepared("aflw19", raw, tmp_path / "prepared")
    assert "4 images in split train, but AFLW-19 was published with 20000" in capsys.readouterr().out
    train, test = records(dataset, "train"), records(dataset, "test")
    assert (set(train), set(test)) == ({"00002", "00000", "00005", "00001"}, {"00004", "00003"})
    for name, record in {**train, **test}.items():
        index = int(name)
        np.testing.assert_allclose(record["landmarks"], points19(face(index)["landmarks"]), atol=1e-5)
        np.testing.assert_array_equal(record["bbox"], [4, 6, 40, 47])
        np.testing.assert_array_equal(record["visible"], SEEN[index])
        assert record["attributes"] == [index != 4]
        sides(dataset, record, [0, 1, 2, 6, 7, 8, 12, 15], [5, 4, 3, 11, 10, 9, 14, 17])
    assert dataset.meta["landmarks"]["normaliser"] == {"kind": "diagonal", "left": 6, "right": 11}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ra": None}, "but lacks ra"),
        ({"ra": np.array([[0, 1, 2, 3, 4, 5]])}, "ra must be an order of 1 to 6"),
        ({"data": np.zeros((COUNT, 42))}, "data must be 6 x 38, not (6, 42)"),
    ],
)
def test_another_file_is_refused(raw, tmp_path, capsys, change, message):
    held = {key: value for key, value in {**contents(), **change}.items() if value is not None}
    scipy.io.savemat(raw / "AFLWinfo_release.mat", held)
    assert prepare("aflw19", raw, tmp_path / "prepared") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"nothing", b""])
def test_bytes_that_are_no_file_of_matlab_are_refused(raw, tmp_path, capsys, content):
    (raw / "AFLWinfo_release.mat").write_bytes(content)
    assert prepare("aflw19", raw, tmp_path / "prepared") == 2
    err = capsys.readouterr().err
    assert "AFLWinfo_release.mat is no .mat file" in err
    assert err.count("\n") == 1
