"""Flat shapes against their definitions. A planted defect that was caught: a turn in the wrong direction."""

from dataclasses import replace
from math import cos, sin

import numpy as np
import pytest

from facerep_jax.face_world.shapes import BOX, CAPSULE, ELLIPSE, Shape, covered, paint_shape


def inside(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points a shape contains by its definition: turn the point back, then compare."""
    dx, dy = x - shape.x, y - shape.y
    u = cos(shape.turn) * dx + sin(shape.turn) * dy
    v = -sin(shape.turn) * dx + cos(shape.turn) * dy
    if shape.kind == ELLIPSE:
        return (u / shape.width) ** 2 + (v / shape.height) ** 2 < 1
    if shape.kind == BOX:
        return (np.abs(u) < shape.width) & (np.abs(v) < shape.height)
    thick = min(shape.width, shape.height)
    reach_u, reach_v = shape.width - thick, shape.height - thick
    return np.hypot(u - np.clip(u, -reach_u, reach_u), v - np.clip(v, -reach_v, reach_v)) < thick


SHAPES = [
    Shape(kind, 0.45, 0.55, width, height, turn, (200.0, 100.0, 50.0))
    for kind in (ELLIPSE, BOX, CAPSULE)
    for width, height, turn in ((0.3, 0.12, 0.5), (0.1, 0.25, -0.8), (0.2, 0.2, 0.0))
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}{shape.turn}")
def test_a_painted_shape_covers_what_its_definition_covers(shape):
    """Compare with 8 x 8 samples of each pixel."""
    size, fine = 32, 256
    image = np.zeros((3, size, size), np.float32)
    (rows, columns), share = paint_shape(image, shape)
    place = (np.arange(fine) + 0.5) / fine
    samples = inside(shape, place[None], place[:, None]).reshape(size, 8, size, 8).mean((1, 3))
    assert np.abs(image[0] / 200 - samples).mean() < 0.01
    assert np.abs(image[0] / 200 - samples).max() < 0.45
    np.testing.assert_allclose(image[:, rows, columns], np.array(shape.colour)[:, None, None] * share, rtol=1e-5)
    x, y = np.random.default_rng(0).uniform(0, 1, (2, 500))
    np.testing.assert_array_equal(covered([shape], x, y), inside(shape, x, y))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}{shape.turn}")
def test_a_mirrored_shape_is_painted_mirrored(shape):
    one, other = np.zeros((2, 3, 40, 40), np.float32)
    paint_shape(one, shape)
    paint_shape(other, shape.mirrored())
    np.testing.assert_allclose(other, one[:, :, ::-1], atol=2e-3 * 200)


def test_opacity_light_and_roundness():
    shape = SHAPES[0]
    image = np.full((3, 32, 32), 100, np.float32)
    paint_shape(image, replace(shape, opacity=0.5), light=0.5)
    middle = image[:, 17, 14]
    np.testing.assert_allclose(middle, 50 + 0.25 * np.array(shape.colour), rtol=1e-4)
    image = np.zeros((3, 64, 64), np.float32)
    paint_shape(image, replace(shape, roundness=0.5))
    assert image[0, 35, 28] > 190
    assert image[0][image[0] > 0].min() < 110


def test_a_shape_outside_of_the_image_is_not_painted():
    image = np.zeros((3, 16, 16), np.float32)
    paint_shape(image, replace(SHAPES[0], x=3.0, y=-2.0))
    assert not image.any()
