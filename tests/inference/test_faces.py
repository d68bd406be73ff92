"""Files written by Pillow; their pixels compared with those that a record of the same file gives."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from facerep_jax.inference import faces

BRIGHTEST = "tests.contracts.brightest:Brightest"
GREY = Image.effect_noise((40, 30), 80)
RGB = Image.merge("RGB", [GREY, GREY.rotate(90), GREY.rotate(180)])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("b.png", "a.JPG", "more/c.jpg"):
        RGB.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_searched_to_its_depths_in_order_and_nothing_counts_twice(folder):
    found = faces.in_files([str(folder), str(folder / "b.png")])
    assert [face.id for face in found] == [str(folder / name) for name in ("a.JPG", "b.png", "more/c.jpg")]
    assert [face.picture for face in found] == [face.id for face in found]
    np.testing.assert_array_equal(found[1].read()["image"], np.asarray(RGB))


def test_words_that_are_no_images(folder):
    with pytest.raises(FileNotFoundError, match="no image or folder nowhere"):
        faces.in_files(["nowhere"])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images in the folder .*empty; names of images end in \.jpg"):
        faces.in_files([str(folder / "empty")])


def test_faces_of_a_list_of_boxes(folder):
    lines = [
        {"image": "a.JPG", "bbox": [1, 2, 11, 12]},
        {"image": "b.png", "bbox": [0, 0, 9, 9], "id": "mine", "split": "test", "landmarks": [[1, 2]]},
        {"image": "a.JPG", "bbox": [3, 2, 11, 12]},
    ]
    path = folder / "faces.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = faces.in_boxes(path)
    assert [(face.id, face.picture) for face in found] == [
        ("a.JPG#0", "a.JPG"),
        ("a.JPG#1", "a.JPG"),
        ("mine", "b.png"),
    ]
    example = found[1].read()
    np.testing.assert_array_equal(example["bbox"], np.array([3, 2, 11, 12], np.float32))
    assert example["image"].shape == (30, 40, 3)


def test_faces_that_a_detector_finds(tmp_path):
    """Rectangles that are bright: a small one, which is the brightest, and a large one; then none, and no image."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:15, 10:18], pixels[10:36, 30:50] = 250, 180
    for name, array in (("a.png", pixels), ("b.png", np.zeros_like(pixels))):
        Image.fromarray(array).save(tmp_path / name)
    (tmp_path / "c.png").write_text("no image")
    a, b, c = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    pictures = faces.in_files([str(tmp_path)])
    small, large, dark, broken = faces.detected(pictures, BRIGHTEST, "all")
    assert [(face.id, face.picture) for face in (small, large)] == [(f"{a}#0", a), (f"{a}#1", a)]
    np.testing.assert_array_equal(small.read()["bbox"], [9.5, 4.5, 17.5, 14.5])
    np.testing.assert_array_equal(large.read()["bbox"], [29.5, 9.5, 49.5, 35.5])
    np.testing.assert_array_equal(large.read()["image"], pixels)
    assert (dark.id, broken.id) == (b, c)
    with pytest.raises(ValueError, match="no face is found in it"):
        dark.read()
    with pytest.raises(ValueError, match="not an image"):
        broken.read()
    for choice, box in (("largest", [29.5, 9.5, 49.5, 35.5]), ("best", [9.5, 4.5, 17.5, 14.5])):
        one, *_ = faces.detected(pictures[:1], BRIGHTEST, choice)
        assert one.id == a
        np.testing.assert_array_equal(one.read()["bbox"], box)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2, invalid JSON"),
        ("[1]", r'line 2, an object with "image" and "bbox" is expected'),
        ('{"image": "a.JPG"}', r'line 2, an object with "image" and "bbox" is expected'),
        ('{"image": "a.JPG", "bbox": [1, 2, 3]}', r"line 2, bbox must be 4 numbers"),
        ('{"image": "a.JPG", "bbox": [5, 2, 3, 9]}', r"line 2, bbox must be x0 y0 x1 y1 with x0 < x1"),
        ('{"image": "a.JPG", "bbox": [null, 2, 3, 9]}', r"line 2, bbox must be"),
        ('{"image": "", "bbox": [1, 2, 3, 4]}', r"line 2, image must be a string that is not empty"),
        ('{"image": "a.JPG", "bbox": [1, 2, 3, 4], "bbx": 1}', r"line 2, key 'bbx' is not known; did you mean 'bbox'"),
        ('{"image": "b.png", "bbox": [1, 2, 3, 4]}', r"the id 'b.png' stands twice"),
    ],
)
def test_a_list_of_boxes_is_read_strictly(folder, line, message):
    path = folder / "faces.jsonl"
    path.write_text('{"image": "c.png", "bbox": [1, 2, 3, 4], "id": "b.png"}\n' + line)
    with pytest.raises(ValueError, match=message):
        faces.in_boxes(path)


def test_no_list_and_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        faces.in_boxes(tmp_path / "faces.jsonl")
    (tmp_path / "faces.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="has no faces"):
        faces.in_boxes(tmp_path / "faces.jsonl")


def test_pictures_in_memory(folder):
    pixels = np.asarray(RGB)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    RGB.rotate(90, expand=True).save(file, "PNG", exif=exif)  # what turns it back by 90 degrees
    turned = Image.open(io.BytesIO(file.getvalue()))
    found = faces.in_memory([pixels, turned, folder / "b.png"], boxes=np.array([[1.0, 2, 3, 4]] * 3))
    assert [face.id for face in found] == ["0", "1", str(folder / "b.png")]
    for face in found:
        example = face.read()
        np.testing.assert_array_equal(example["image"], pixels)
        np.testing.assert_array_equal(example["bbox"], [1, 2, 3, 4])
    assert "bbox" not in faces.in_memory([pixels])[0].read()


def test_pictures_in_memory_that_are_none():
    with pytest.raises(ValueError, match=r"uint8 of shape \(h, w, 3\), not float64 \(2, 2, 3\)"):
        faces.in_memory([np.zeros((2, 2, 3))])[0].read()
    with pytest.raises(ValueError, match="there are 1 images and 2 boxes"):
        faces.in_memory([np.zeros((2, 2, 3), np.uint8)], [[0, 0, 1, 1]] * 2)
    with pytest.raises(ValueError, match="a box must be 4 numbers"):
        faces.in_memory([np.zeros((2, 2, 3), np.uint8)], [[0, 0, 1]])
