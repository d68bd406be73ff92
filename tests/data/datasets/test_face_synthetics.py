"""Planted and seen red: the pupils not swapped, beard and clothing in the other order."""

import numpy as np
import pytest

from facerep_jax.config import spec
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.transforms import Flip, decode
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, text, write

# Classes of drawn faces, and their ids in the authors' list; what is left in the image is the person's right.
IDS = np.array([0, 1, 5, 6, 3, 4, 2, 10, 9, 11, 13], np.uint8)


def points70(ibug):
    return np.concatenate([ibug, [ibug[36:42].mean(0), ibug[42:48].mean(0)]])


@pytest.fixture
def raw(tmp_path):
    for index in range(3):
        drawn, name = face(index), f"{index:06d}"
        mask = IDS[drawn["mask"]]
        mask[:2] = 255
        write(tmp_path / f"{name}.png", drawn["image"])
        write(tmp_path / f"{name}_seg.png", mask)
        text(tmp_path / f"{name}_ldmks.txt", *(f"{x:.4f} {y:.4f}" for x, y in points70(drawn["landmarks"])))
    return tmp_path


def test_files_become_records(raw, tmp_path, capsys):
    dataset = prepared("face_synthetics", raw, tmp_path / "data")
    assert "3 images in split train, but Face Synthetics was published with 100000" in capsys.readouterr().out
    classes = dataset.meta["classes"]
    assert (len(classes), classes[3], classes[6], classes[14], classes[15]) == (
        *(19, "left_eye", "right_brow"),
        *("beard", "clothing"),
    )
    (flip,) = build_transforms((spec(Flip, probability=1.0),), dataset.meta)
    for name, record in records(dataset).items():
        np.testing.assert_allclose(record["landmarks"], points70(face(int(name))["landmarks"]), atol=1e-3)
        sides(dataset, record, [0, 36, 48, 68], [16, 45, 54, 69])
        plain = decode(record)
        expected = IDS[face(int(name))["mask"]]
        expected[:2] = 255
        np.testing.assert_array_equal(plain["mask"], expected)
        swap = np.arange(256)
        swap[[3, 4, 5, 6, 7, 8]] = [4, 3, 6, 5, 8, 7]
        flipped = flip(plain, np.random.default_rng(0))
        np.testing.assert_array_equal(flipped["mask"], swap[plain["mask"]][:, ::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: text(raw / "000001_ldmks.txt", *["1 2"] * 68), "x and y of 70 points are expected, not 136"),
        (lambda raw: (raw / "000002_seg.png").unlink(), "no file '000002_seg.png'"),
        (lambda raw: write(raw / "000002_seg.png", np.full((48, 48), 19, np.uint8)), "holds class id 19"),
        (lambda raw: [path.unlink() for path in raw.glob("*.png")], "no NUMBER.png"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, change, message):
    change(raw)
    assert prepare("face_synthetics", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
