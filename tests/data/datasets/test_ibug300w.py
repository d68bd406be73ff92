"""Planted and seen red: 1 pixel taken off in place of 2, the box not shifted with the landmarks."""

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, sides, text, write

HEADER = "image_name,scale,center_w,center_h," + ",".join(f"original_{i}_{axis}" for i in range(68) for axis in "xy")
IMAGES = {
    "train": ("afw/1.jpg", "helen/trainset/2_1.jpg", "lfpw/trainset/3.png"),
    "valid_common": ("helen/testset/4_1.jpg",),
    "valid_challenge": ("ibug/image_092_01.jpg",),
}
SCALE, CENTRE = 0.125, (24.5, 26.0)


@pytest.fixture
def raw(tmp_path):
    """The tables as HRNet has them, whose numbers are 2 pixels more than those of pixels that count from 0."""
    index = 0
    for name, images in IMAGES.items():
        rows = []
        for image in images:
            write(tmp_path / image.replace("image_092_01", "image_092 _01"), face(index)["image"])
            numbers = (f"{value + 2:.6f}" for value in face(index)["landmarks"].ravel())
            rows.append(",".join((image, str(SCALE), *(str(c + 2) for c in CENTRE), *numbers)))
            index += 1
        text(tmp_path / f"face_landmarks_300w_{name}.csv", HEADER, *rows)
    return tmp_path


def test_rows_become_records(raw, tmp_path, capsys):
    dataset = prepared("ibug300w", raw, tmp_path / "data")
    assert "2 images in split test, but 300-W was published with 689" in capsys.readouterr().out
    names = ["afw/1", "helen/trainset/2_1", "lfpw/trainset/3", "helen/testset/4_1", "ibug/image_092_01"]
    assert set(records(dataset)) == set(names)
    found = [records(dataset)[name] for name in names]
    for index, record in enumerate(found):
        np.testing.assert_allclose(record["landmarks"], face(index)["landmarks"], atol=1e-5)
        np.testing.assert_allclose(record["bbox"], [24.5 - 12.5, 26 - 12.5, 24.5 + 12.5, 26 + 12.5])
        sides(dataset, record, [0, 17, 36, 48], [16, 26, 45, 54])
    challenging = [float(record["attributes"][0]) for record in found]
    np.testing.assert_array_equal(challenging, [np.nan, np.nan, np.nan, 0, 1])
    assert dataset.meta["landmarks"]["normaliser"] == {"kind": "inter_ocular", "left": 36, "right": 45}


def test_images_may_lie_where_hrnet_has_them(raw, tmp_path):
    (raw / "images").mkdir()
    for folder in ("afw", "helen", "lfpw", "ibug"):
        (raw / folder).rename(raw / "images" / folder)
    assert prepared("ibug300w", raw, tmp_path / "data").splits == {"train": 3, "test": 2}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("face_landmarks_300w_train.csv", HEADER.replace("center_w", "centre_w"), "but lacks center_w"),
        ("face_landmarks_300w_train.csv", HEADER + ",original_68_x", "but has original_68_x too"),
        ("face_landmarks_300w_train.csv", f"{HEADER}\nafw/1.jpg,1,2,3", "line 2: 140 cells are expected, not 4"),
        ("face_landmarks_300w_valid_common.csv", None, "no face_landmarks_300w_valid_common.csv"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, file, content, message):
    text(raw / file, content) if content else (raw / file).unlink()
    assert prepare("ibug300w", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
