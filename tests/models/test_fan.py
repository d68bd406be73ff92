"""Reference: loops over windows and pixels. Planted and seen red: the quarter in the wrong direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.fan import FANHeatmaps, decoded, drawn
from tests.evaluation.problems import SIZE, make_encoder


def drawn_in_a_loop(point, size):
    """A window of 13 x 13 pixels about that of the point, cut at the edges."""
    found, (column, row) = np.zeros((size, size)), np.floor(point * size).astype(int)
    for down in range(-6, 7):
        for right in range(-6, 7):
            if 0 <= row + down < size and 0 <= column + right < size:
                found[row + down, column + right] = np.exp(-(down**2 + right**2) / (2 * 3.25**2))
    return found


def decoded_in_a_loop(heatmap):
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    x, y = column + 0.5, row + 0.5
    if 0 < column < heatmap.shape[1] - 1 and 0 < row < heatmap.shape[0] - 1:
        x += 0.25 * np.sign(heatmap[row, column + 1] - heatmap[row, column - 1])
        y += 0.25 * np.sign(heatmap[row + 1, column] - heatmap[row - 1, column])
    return x / heatmap.shape[1], y / heatmap.shape[0]


def test_a_point_draws_a_window():
    points = np.array([[[0.5, 0.3], [0.01, 0.97], [np.nan, 0.5]]], np.float32)
    found = np.asarray(drawn(jnp.asarray(points), size=64))
    for place in range(2):
        np.testing.assert_allclose(found[0, :, :, place], drawn_in_a_loop(points[0, place], 64), atol=1e-6)
    assert found[0, :, :, 0].max() == 1
    edge = found[0, int(0.3 * 64), 32 + 6, 0]
    assert edge == pytest.approx(0.18, abs=0.003)
    assert found[0, int(0.3 * 64), 32 + 7, 0] == 0
    assert not found[..., 2].any()


def test_maxima_are_read_with_a_quarter_of_a_pixel():
    maps = np.random.default_rng(0).normal(size=(3, 9, 7, 5)).astype(np.float32)
    maps[0, 0, 3, 0] = maps[1, 4, 6, 1] = 9.0  # at the edges
    found = np.asarray(decoded(jnp.asarray(maps)))
    expected = [[decoded_in_a_loop(maps[n, :, :, k]) for k in range(5)] for n in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    middle = jnp.zeros((1, 8, 8, 1)).at[0, 4, 4, 0].set(2.0).at[0, 4, 5, 0].set(1.0)
    np.testing.assert_allclose(decoded(middle)[0, 0], [4.75 / 8, 4.5 / 8])


def test_points_that_are_drawn_are_read_to_half_a_pixel():
    points = np.random.default_rng(1).uniform(0.05, 0.95, (4, 6, 2)).astype(np.float32)
    found = decoded(drawn(jnp.asarray(points), size=64))
    assert np.abs(np.asarray(found) - points).max() <= 0.5 / 64 + 1e-6


def test_the_head_learns_maps_of_known_points():
    head = FANHeatmaps(make_encoder(), 3, taps=(0, 1), image_size=SIZE, rngs=nnx.Rngs(0))
    maps = tuple(jnp.asarray(np.random.default_rng(t).normal(size=(2, 4, 4, 32)), jnp.float32) for t in range(2))
    head.fit(maps, jnp.zeros((2, 3, 2)))
    truth = np.random.default_rng(2).uniform(2, SIZE - 3, (2, 3, 2)).astype(np.float32)
    truth[1, 2] = np.nan
    known = np.isfinite(truth).all(-1)
    (loss,) = head.losses(maps, jnp.asarray(truth), jnp.asarray(known), jax.random.split(jax.random.key(0), 2)).values()
    made = np.asarray(head.heatmaps(maps), np.float64)
    errors = [
        np.mean((made[n, :, :, k] - drawn_in_a_loop((truth[n, k] + 0.5) / SIZE, 64)) ** 2)
        for n, k in np.argwhere(known)
    ]
    assert float(loss) == pytest.approx(np.mean(errors), rel=1e-4)
    found = np.asarray(head(maps))
    np.testing.assert_allclose(found[0, 0], np.array(decoded_in_a_loop(made[0, :, :, 0])) * SIZE - 0.5, atol=1e-3)
