"""What is drawn lies where the numbers say, on an image whose pixels are known.

Planted and seen red: coordinates without the half of a pixel between a pixel's centre and its edge.
"""

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data.library import open_dataset
from facerep_jax.data.survey import Survey
from facerep_jax.pictures import CLASS_COLOURS
from facerep_jax.reporting.annotated import (
    BOX,
    GREY,
    LEFT,
    OTHER,
    RIGHT,
    SIDE,
    WIDTH,
    Face,
    contact_sheet,
    described,
    key_of,
    picture,
)

META = {
    "landmarks": {"flip": [1, 0, 2, 4, 3], "five_points": [[0], [1], [2], [3], [4]]},
    "classes": ["background", "skin", "hair"],
}
POINTS = np.float32([[20, 30], [80, 30], [50, 60], [28, 85], [72, 85]])


def record(**more):
    return {"image": np.full((100, 100, 3), 128, np.uint8), "landmarks": POINTS, **more}


def colour_at(image, x, y, scale=SIDE / 100):
    """The colour of a place that is given in pixels of the image."""
    return np.array(image.getpixel((int((x + 0.5) * scale), int((y + 0.5) * scale))))


def close(colour, other):
    return np.abs(colour - np.array(other)).max() < 40


def test_points_have_the_colour_of_their_side_and_lie_where_they_are():
    image = picture(record(), META)
    assert image.size == (SIDE, SIDE)
    for (x, y), colour in zip(POINTS.tolist(), (LEFT, RIGHT, OTHER, LEFT, RIGHT), strict=True):
        assert close(colour_at(image, x, y), colour)
    pixels = np.asarray(image).astype(int)
    left = np.argwhere(np.abs(pixels[: SIDE // 2] - np.array([[LEFT]])).max(-1) < 20)
    middle = left.mean(0)[::-1] * 100 / SIDE - 0.5  # of the left eye and its number, in pixels of the image
    assert np.abs(middle - POINTS[0]).max() < 4
    assert close(colour_at(image, 5, 5), (128, 128, 128))


def test_a_box_is_drawn_on_its_edges():
    image = picture({"image": record()["image"], "bbox": np.float32([20, 30, 80, 90])}, META)
    yellow = np.argwhere(np.abs(np.asarray(image).astype(int) - np.array([[BOX]])).max(-1) < 30)
    low, high = (edge[::-1] * 100 / SIDE - 0.5 for edge in (yellow.min(0), yellow.max(0) + 1))
    np.testing.assert_allclose([*low, *high], [20, 30, 80, 90], atol=1)


def test_unknown_points_and_boxes_are_not_drawn():
    nothing = {"landmarks": np.full((5, 2), np.nan, np.float32), "bbox": np.full(4, np.nan, np.float32)}
    assert (np.asarray(picture(record(**nothing), META)) == 128).all()


def test_a_mask_is_blended_beside_and_missing_pixels_are_striped():
    mask = np.zeros((100, 100), np.uint8)
    mask[:50, :50], mask[50:, 50:] = 1, 255
    image = picture({"image": record()["image"], "mask": mask}, META)
    assert image.size == (2 * SIDE, SIDE)
    assert close(colour_at(image, 25, 25), (128, 128, 128))
    right = image.crop((SIDE, 0, 2 * SIDE, SIDE))
    assert close(colour_at(right, 25, 25), 0.4 * 128 + 0.6 * CLASS_COLOURS[1])
    assert close(colour_at(right, 75, 25), 0.4 * 128 + 0.6 * CLASS_COLOURS[0])
    striped = np.asarray(right)[SIDE * 3 // 5 : SIDE * 4 // 5, SIDE * 3 // 5 : SIDE * 4 // 5]
    assert striped.min() < 60
    assert striped.max() > 80


def test_a_small_face_is_shown_large_and_what_lies_outside_is_grey():
    small = 0.3 * POINTS + 100
    image = picture({"image": np.full((400, 400, 3), 128, np.uint8), "landmarks": small}, META)
    shown = 1.5 * np.ptp(small, axis=0).max()  # pixels of a side: the face with room around it
    x, y = (small[0] - (small.min(0) + small.max(0)) / 2) / shown * SIDE + SIDE / 2
    assert close(np.array(image.getpixel((int(x), int(y)))), LEFT)
    outside = picture(record(landmarks=POINTS + np.float32([50, 0])), META)
    assert close(np.array(outside.getpixel((SIDE - 2, 2))), GREY)


@pytest.mark.parametrize("points", [np.float32([[1e6, 1e6], [0.2, 0.3]]), np.float32([[-5e3, 2], [3, 3]])])
def test_impossible_points_are_survived(points):
    assert picture(record(landmarks=points), {}).size == (SIDE, SIDE)
    assert picture(record(bbox=np.float32([50, 50, 10, 10])), {}).size == (SIDE, SIDE)


@pytest.fixture(scope="module")
def survey():
    return Survey(open_dataset("tests.spoilt_faces:train=2,test=0", "."))


def test_what_is_known_stands_below(survey):
    names = survey.dataset.meta["attributes"]
    attributes = np.zeros(len(names), np.float32)
    attributes[[0, 3]] = 1
    known = {
        **record(
            id=b"a", caption=[b"a face", b" "], identity=np.int32(-1), expression=np.int32(1), valence=np.float32(0.5)
        ),
        "attributes": attributes,
        "age": np.float32(31),
        "arousal": np.float32(np.nan),
    }
    assert list(described(known, "test", survey)) == [
        "a",
        "test · 100 x 100 px · happiness",
        "age 31, valence 0.5",
        "\N{LEFT DOUBLE QUOTATION MARK}a face\N{RIGHT DOUBLE QUOTATION MARK}",
        "smiling, glasses",
    ]


def test_the_key_names_what_is_there(survey):
    words = [word for word, _ in key_of(survey)]
    assert words[0] == "box"
    assert words[-11:] == list(survey.dataset.meta["classes"])


def test_a_sheet_holds_faces_in_lines_and_cuts_long_text():
    faces = [Face(Image.new("RGB", (SIDE, SIDE), (9 * n, 0, 0)), ("id", "word " * 200)) for n in range(8)]
    whole = contact_sheet(faces, "title", (("box", BOX), ("words that are long " * 12, LEFT)))
    assert whole.width <= WIDTH
    assert whole.height > 2 * SIDE
    pixels = np.asarray(whole).reshape(-1, 3)
    assert all((pixels == np.array([[9 * n, 0, 0]])).all(1).sum() >= 0.9 * SIDE**2 for n in range(1, 8))
