"""Tiles of texture. A planted defect that was caught: places rounded towards zero (seam)."""

import numpy as np
import pytest

from facerep_jax.face_world import textures
from facerep_jax.face_world.textures import BACKGROUNDS, SIDE, Tile, texels, tile

SKIN_AND_HAIR = ("mottle", "pores", "spots", "blush", "strands", "curls")


@pytest.mark.parametrize("world", [0, 1])
def test_tiles_are_bounded_and_repeat(world):
    rng = np.random.default_rng(0)
    across, down = rng.integers(0, SIDE, (2, 200)).astype(np.float32) + 0.5
    for name in (*SKIN_AND_HAIR, *BACKGROUNDS[world], "grain"):
        values = tile(world, name).at(across, down, 1.0)
        assert np.isfinite(values).all()
        assert 0.1 < values.std() < 2, name
        np.testing.assert_array_equal(tile(world, name).at(across - SIDE, down + 3 * SIDE, 1.0), values)


def test_levels_are_means_of_finer_ones():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((SIDE, SIDE))
    across, down = np.meshgrid(np.arange(0, SIDE, 8) + 0.5, np.arange(0, SIDE, 8) + 0.5)
    found = Tile(values).at(across, down, 8.0)
    np.testing.assert_allclose(found, values.reshape(SIDE // 8, 8, SIDE // 8, 8).mean((1, 3)), atol=1e-5)
    np.testing.assert_array_equal(Tile(values).at(across, down, 0.1), values[::8, ::8].astype(np.float32))


def test_negative_places_have_no_seam():
    values = np.arange(SIDE * SIDE, dtype=float).reshape(SIDE, SIDE)
    x = np.arange(-5, 5) + 0.5
    found = Tile(values).at(x, np.full(10, 0.5), 1.0)
    np.testing.assert_array_equal(found, np.arange(-5, 5) % SIDE)


def test_texels_are_found_once_for_all_tiles():
    across, down = np.random.default_rng(0).uniform(-900, 900, (2, 50)).astype(np.float32)
    for step in (0.5, 3.0, 40.0):
        for name in ("mottle", "pores"):
            one = tile(0, name).at(across, down, step)
            np.testing.assert_array_equal(tile(0, name).of(texels(across, down, step)), one)


def test_worlds_have_textures_of_their_own():
    place = np.arange(SIDE, dtype=np.float32)
    for name in (*SKIN_AND_HAIR, "grain"):
        one, other = (tile(world, name).at(place, place, 1.0) for world in (0, 1))
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.35, name
    assert not set(BACKGROUNDS[0]) & set(BACKGROUNDS[1])


def test_a_tile_is_drawn_once():
    assert tile(0, "mottle") is tile(0, "mottle")
    textures.tile.cache_clear()
    one = tile(0, "mottle")
    textures.tile.cache_clear()
    np.testing.assert_array_equal(tile(0, "mottle").piece((3, 4), 20), one.piece((3, 4), 20))
