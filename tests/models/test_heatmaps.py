"""Reference: NumPy, pixel by pixel, from the definition (FaRL's p2i and geometry).

Planted and seen red: x and y exchanged, the half pixel left out, the deviation equal to the radius.
"""

import jax
import jax.numpy as jnp
import numpy as np

from facerep_jax.models.heatmaps import drawn, soft_argmax


def test_a_point_is_drawn_as_a_truncated_gaussian_about_its_real_place():
    points = np.array([[[0.5, 0.25], [0.013, 0.99]], [[0.31, 0.77], [1.2, 0.5]]])
    found = np.asarray(drawn(jnp.asarray(points, jnp.float32), size=32, radius=5.0))
    assert found.shape == (2, 32, 32, 2)
    for n, row, column, k in np.ndindex(2, 32, 32, 2):
        x, y = points[n, k] * 32 - 0.5
        square = (column - x) ** 2 + (row - y) ** 2
        expected = np.exp(-square * 16 / (2 * 5**2)) if square <= 25 else 0
        assert abs(found[n, row, column, k] - expected) < 1e-5
    assert found[0, :, :, 0].max() < 1  # between four pixels, so no pixel has the peak
    assert found[1, :, :, 1].max() == 0  # far outside


def test_a_point_on_a_pixel_has_a_peak_of_1_and_nan_none():
    point = np.array([[[(7 + 0.5) / 16, (3 + 0.5) / 16], [np.nan, 0.5]]], np.float32)
    found = np.asarray(drawn(jnp.asarray(point), size=16, radius=5.0))
    assert found[0, 3, 7, 0] == 1
    assert not found[..., 1].any()


def test_points_are_read_as_the_mean_place_weighted_by_the_sigmoid():
    logits = np.random.default_rng(0).normal(size=(2, 5, 8, 3))
    found = soft_argmax(jnp.asarray(logits, jnp.float32))
    for n, k in np.ndindex(2, 3):
        weight = 1 / (1 + np.exp(-logits[n, :, :, k]))
        x = sum(weight[r, c] * c for r, c in np.ndindex(5, 8)) / weight.sum()
        y = sum(weight[r, c] * r for r, c in np.ndindex(5, 8)) / weight.sum()
        np.testing.assert_allclose(found[n, k], [(x + 0.5) / 8, (y + 0.5) / 5], rtol=1e-5)


def test_a_map_that_is_empty_gives_a_finite_point_and_gradient():
    logits = jnp.full((1, 4, 4, 1), -1e4)
    point, gradient = soft_argmax(logits), jax.grad(lambda x: soft_argmax(x).sum())(logits)
    np.testing.assert_allclose(point, 0.5 / 4)
    assert np.isfinite(gradient).all()


def test_a_drawn_point_is_read_where_it_was():
    points = jnp.asarray(np.random.default_rng(1).uniform(0.3, 0.7, (2, 6, 2)), jnp.float32)
    heat = jnp.clip(drawn(points, size=64, radius=5.0), 1e-6, 1 - 1e-6)
    np.testing.assert_allclose(soft_argmax(jnp.log(heat / (1 - heat))), points, atol=2e-3)
