"""Backgrounds."""

from dataclasses import replace

import numpy as np
import pytest

from facerep_jax.face_world.backdrop import sample_backdrop
from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.textures import BACKGROUNDS


def backdrops(world: int, count: int = 60) -> list:
    return [sample_backdrop(Dice(world, number), world) for number in range(count)]


@pytest.mark.parametrize("world", [0, 1])
def test_backdrops_are_of_their_world_and_look_the_same_at_any_size(world):
    found = backdrops(world)
    assert {backdrop.texture for backdrop in found} == set(BACKGROUNDS[world])
    for backdrop in found[:10]:
        small, large = (backdrop.enlarged(size) for size in (40, 200))
        assert small.shape == (3, 40, 40)
        pooled = large.reshape(3, 40, 5, 40, 5).mean((2, 4))
        assert np.abs(pooled - small).mean() < 6


def test_backdrops_are_cluttered():
    """Most backdrops have things or faces, and most have detail."""
    found = backdrops(0) + backdrops(1)
    assert np.mean([len(backdrop.shapes) > 0 for backdrop in found]) > 0.6
    spread = [backdrop.painted.std((1, 2)).mean() for backdrop in found]
    assert np.median(spread) > 20


def test_some_things_look_like_faces():
    """The pixels show the pattern of `_sample_face_like`: two dark spots side by side in a lighter ellipse."""
    found = next(b for b in backdrops(0, 200) if len(b.shapes) == 7)
    face, left, right = found.shapes[2:5]
    alone = replace(found, contrast=(0.0, 0.0, 0.0), cells=96).painted
    at = [alone[:, int(96 * shape.y), int(96 * shape.x)].mean() for shape in (face, left, right)]
    assert min(at[0] - at[1], at[0] - at[2]) > 20
    assert np.hypot(left.x - right.x, left.y - right.y) < 2 * face.width


def test_frames_share_the_painted_backdrop():
    backdrop = backdrops(0, 1)[0]
    assert backdrop.painted is backdrop.painted
