"""What is drawn, by the colours of pixels where it should be.

Planted and seen red: points half as far from the corner, colours over the ground.
"""

import numpy as np
import pytest

from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.drawing import PREDICTION
from facerep_jax.inference import overlays
from facerep_jax.inference.crops import cropped
from facerep_jax.inference.faces import Face
from facerep_jax.inference.model import Seen
from facerep_jax.pictures import CLASS_COLOURS

GREY = 100
BOX = np.array([19.5, 9.5, 59.5, 49.5], np.float32)


def seen(size=(80, 100), box=BOX):
    pixels = np.full((*size, 3), GREY, np.uint8)
    crop = cropped({"image": pixels, "bbox": BOX}, [CropToBox(size=16)])
    return Seen(Face("a", "a", dict), crop, box, overlays.small(pixels))


@pytest.mark.parametrize(
    ("size", "scale", "drawn"),
    [((80, 100), 6, (600, 480)), ((640, 300), 1, (300, 640)), ((4096, 2048), 0.25, (512, 1024))],
)
def test_a_picture_is_neither_tiny_nor_huge(size, scale, drawn):
    found = overlays.small(np.zeros((*size, 3), np.uint8))
    assert found.scale == scale
    assert found.image.shape == (drawn[1], drawn[0], 3)


def test_points_lie_where_they_are_in_the_picture():
    points = np.array([[20.0, 30.0], [60.0, 12.0], [np.nan, 1.0]])
    picture = np.asarray(overlays.drawn([seen(box=None)], [{"landmarks": points}], {}))
    assert picture.shape == (480, 600, 3)
    for x, y in points[:2]:
        np.testing.assert_array_equal(picture[round((y + 0.5) * 6), round((x + 0.5) * 6)], PREDICTION)
    red = np.argwhere((picture == PREDICTION).all(-1))
    assert 10 < len(red) < 400
    assert (picture[200:, 400:] == GREY).all()


def test_a_box_is_drawn_round_the_face():
    picture = np.asarray(overlays.drawn([seen()], [{"landmarks": np.zeros((0, 2))}], {}))
    light = np.argwhere((picture > GREY + 60).all(-1))
    np.testing.assert_allclose(light.min(0), [60, 120], atol=2)
    np.testing.assert_allclose(light.max(0), [300, 360], atol=2)


def test_classes_have_colours_and_names_but_not_the_ground():
    mask = np.zeros((80, 100), np.uint8)
    mask[20:40, 30:50], mask[:, 90:] = 2, 255
    picture = np.asarray(overlays.drawn([seen(box=None)], [{"mask": mask}], {"classes": ["ground", "skin", "hair"]}))
    assert picture.shape == (480, 600 + overlays.PANEL, 3)
    np.testing.assert_allclose(picture[180, 240], (GREY + CLASS_COLOURS[2]) / 2, atol=1)
    assert (picture[60, 60] == GREY).all()  # the ground
    assert (picture[:, 538:600] == GREY).all()  # what the encoder did not see, without an edge
    assert (picture[120, 200:280] > picture[180, 240]).any()  # the edge
    chips = picture[: overlays.MARGIN + overlays.LINE, 600:]
    assert (chips == CLASS_COLOURS[2]).all(-1).sum() > 100
    assert not (picture[:, 600:] == CLASS_COLOURS[1]).all(-1).any()  # no skin is there


def test_numbers_stand_beside_the_picture_with_bars():
    values = {"attributes": {"smiling": 0.5, "beard": 0.0}, "age": 31.25}
    picture = np.asarray(overlays.drawn([seen(box=None)], [values], {}))
    panel = picture[:, 600:]
    bars = (panel == overlays.QUIET).all(-1)
    rows = np.flatnonzero(bars.any(1))
    assert rows.min() >= overlays.MARGIN + overlays.LINE - 3
    assert rows.max() < overlays.MARGIN + 2 * overlays.LINE
    assert bars.any(0).sum() == pytest.approx((overlays.PANEL - 2 * overlays.MARGIN + 8) / 2, abs=2)
    lines = overlays.panel_lines(values, 0, 1)
    assert [(line.name, line.value) for line in lines] == [
        ("attributes", ""),
        ("smiling", "0.50"),
        ("beard", "0.00"),
        ("age", "31.2"),
    ]
    many = {"attributes": {str(number): number / 40 for number in range(40)}}
    assert [line.name for line in overlays.panel_lines(many, 0, 1)[1:3]] == ["39", "38"]
    assert len(overlays.panel_lines(many, 0, 1)) == 1 + overlays.ROWS
    assert overlays.panel_lines({"age": 3.0}, 1, 2)[0].name == "face 2"


def test_a_head_that_looks_ahead_has_its_axes_right_and_down():
    pose = {"head_pose": {"yaw": 0.0, "pitch": 0.0, "roll": 0.0}}
    picture = np.asarray(overlays.drawn([seen(box=None)], [pose], {})).astype(int)[:, :600]
    y, x = 30 * 6, 40 * 6  # the middle of the box
    red, green = (np.argwhere(np.abs(picture - colour).max(-1) < 30) for colour in overlays.AXES[:2])
    np.testing.assert_allclose([red[:, 0].mean(), red[:, 1].max()], [y, x + 0.3 * 240], atol=4)
    np.testing.assert_allclose([green[:, 1].mean(), green[:, 0].max()], [x, y + 0.3 * 240], atol=4)
