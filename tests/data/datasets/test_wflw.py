"""Planted and seen red: flags in another order, the lower lids not swapped."""

import numpy as np
import pytest

from tests.data.datasets.drawn import IBUG, SIZE, face, points98, prepare, prepared, records, sides, text, write

FLAGS = ("1 0 0 0 0 0", "0 0 0 1 0 1", "0 1 1 0 0 0", "0 0 0 0 1 0")
NAMES = ("train/00001", "train/00002", "test/00001", "test/00002")
BOX = (3, 4, 40, 45)


def line(index, flags, image):
    points = " ".join(f"{x:.6f} {y:.6f}" for x, y in points98(face(index)["landmarks"]))
    return f"{points} {' '.join(map(str, BOX))} {flags} {image}"


@pytest.fixture
def raw(tmp_path):
    """Two faces for training, of one image, and two for testing."""
    images = ("0--Parade/a.jpg", "0--Parade/a.jpg", "1--Handshaking/b.jpg", "1--Handshaking/c.jpg")
    lists = tmp_path / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    lines = [line(index, flags, image) for index, (flags, image) in enumerate(zip(FLAGS, images, strict=True))]
    text(lists / "list_98pt_rect_attr_train.txt", *lines[:2])
    text(lists / "list_98pt_rect_attr_test.txt", *lines[2:])
    for index, image in enumerate(images):
        write(tmp_path / "WFLW_images" / image, face(index)["image"])
    return tmp_path


def test_lines_become_records(raw, tmp_path, capsys):
    dataset = prepared("wflw", raw, tmp_path / "data")
    assert "2 images in split test, but WFLW was published with 2500" in capsys.readouterr().out
    assert dataset.splits == {"train": 2, "test": 2}
    assert dataset.meta["attributes"] == ["pose", "expression", "illumination", "make_up", "occlusion", "blur"]
    found = records(dataset)
    assert set(found) == set(NAMES)
    for index, (flags, name) in enumerate(zip(FLAGS, NAMES, strict=True)):
        record = found[name]
        np.testing.assert_allclose(record["landmarks"], points98(face(index)["landmarks"]), atol=1e-5)
        np.testing.assert_array_equal(record["bbox"], BOX)
        np.testing.assert_array_equal(record["attributes"], [int(flag) for flag in flags.split()])
        sides(dataset, record, [0, 33, 37, 60, 64, 76, 88, 96], [32, 46, 42, 72, 68, 82, 92, 97])
    assert found["train/00001"]["image"] == found["train/00002"]["image"]


def test_a_mirror_image_has_the_points_that_would_be_made_of_it(raw, tmp_path):
    meta = prepared("wflw", raw, tmp_path / "data").meta
    ibug = face(0)["landmarks"]
    mirrored = (ibug * [-1, 1] + [SIZE - 1, 0])[list(IBUG)]
    flipped = (points98(ibug) * [-1, 1] + [SIZE - 1, 0])[meta["landmarks"]["flip"]]
    np.testing.assert_allclose(flipped, points98(mirrored), atol=1e-4)
    assert meta["landmarks"]["normaliser"] == {"kind": "inter_ocular", "left": 60, "right": 72}
    assert meta["landmarks"]["threshold"] == 0.1


def test_boxes_of_hrnet_are_squares_around_the_landmarks(raw, tmp_path):
    dataset = prepared("wflw:boxes=hrnet", raw, tmp_path / "data")
    for index, record in enumerate(records(dataset)[name] for name in NAMES):
        points = np.float64(points98(face(index)["landmarks"]))
        low, high = np.floor(points.min(0)), np.ceil(points.max(0))
        half = (high - low).max() / 200 * 100  # centre and scale as HRNet has them: 200 pixels are a scale of 1
        centre = (low + high) / 2
        np.testing.assert_allclose(record["bbox"], [*(centre - half), *(centre + half)], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wflw", "1 2 3 a.jpg", "207 columns are expected, not 4"),
        ("wflw", line(0, "0 0 2 0 0 0", "0--Parade/a.jpg"), "face 1, six flags, 0 or 1, are expected"),
        ("wflw", line(0, FLAGS[0], "d.jpg"), "no file 'WFLW_images/d.jpg'"),
        ("wflw:boxes=mine", line(0, FLAGS[0], "0--Parade/a.jpg"), "boxes must be detected or hrnet, not 'mine'"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, name, content, message):
    text(raw / "WFLW_annotations" / "list_98pt_rect_attr_train_test" / "list_98pt_rect_attr_train.txt", content)
    assert prepare(name, raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
