"""Hands and things in front of the face."""

from math import cos, sin

import numpy as np

from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.occluders import sample_occluder
from facerep_jax.face_world.shapes import covered, paint_shape

SKIN = (180.0, 140.0, 120.0)


def some(hand: bool, count: int = 20) -> list:
    drawn = (sample_occluder(Dice(number), SKIN) for number in range(200))
    return [occluder for occluder, is_hand in drawn if is_hand == hand][:count]


def test_a_hand_has_four_fingers_side_by_side():
    """Along an arc through the fingers, the image has at least three dark gaps or edges between lighter lobes."""
    lobes = []
    for occluder in some(hand=True):
        shapes = occluder.shapes(0.5, 0.5, 0.3, 0.0)
        image = np.zeros((3, 200, 200), np.float32)
        for shape in shapes:
            paint_shape(image, shape)
        palm = shapes[3]
        bent = np.hypot(shapes[4].x - palm.x, shapes[4].y - palm.y)
        across = np.linspace(-0.4, 0.4, 120) * 0.3
        up = (-0.27 - 0.35) * 0.3 * min(1, bent / 0.17)
        x = palm.x + cos(palm.turn) * across - sin(palm.turn) * up
        y = palm.y + sin(palm.turn) * across + cos(palm.turn) * up
        row = image[0, np.clip(200 * y, 0, 199).astype(int), np.clip(200 * x, 0, 199).astype(int)]
        bright = row > 0.75 * SKIN[0]
        lobes.append(int((np.diff(bright.astype(int)) == 1).sum()))
    assert np.median(lobes) >= 3
    assert max(lobes) >= 4


def test_occluders_reach_the_face_and_come_closer_when_pushed():
    near = []
    for occluder in (*some(hand=True), *some(hand=False)):
        angle = np.linspace(0, 2 * np.pi, 60)
        radius = np.linspace(0, 1, 12)[:, None]
        x, y = 0.5 + 0.22 * radius * np.cos(angle), 0.5 + 0.3 * radius * np.sin(angle)  # about the face
        shares = [covered(occluder.shapes(0.5, 0.5, 0.3, pushed), x, y).mean() for pushed in (0.0, 1.0)]
        assert shares[1] < 0.95
        near.append(shares)
    start, pushed = np.array(near).T
    assert (pushed > 0.02).mean() > 0.9
    assert pushed.mean() > start.mean() + 0.03


def test_hands_and_things_both_occur():
    hands = np.mean([sample_occluder(Dice(number), SKIN)[1] for number in range(400)])
    assert abs(hands - 0.6) < 4.5 * np.sqrt(0.24 / 400)
