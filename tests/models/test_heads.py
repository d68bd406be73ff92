import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import map_coordinates

from facerep_jax.models.heads import PerToken, Standardise, resized, side_by_side, unfolded
from facerep_jax.models.vit import ViT
from facerep_jax.train.state import split


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    first = rng.normal(3, 2, (5, 4, 6, 3))
    second = rng.normal(-1, 5, (5, 4, 6, 2))
    return jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.bfloat16)


def test_each_channel_of_what_it_was_fitted_on_has_mean_0_and_deviation_1(maps):
    standardise = Standardise(5)
    standardise.fit(maps)
    y = np.asarray(standardise(maps))
    assert y.shape == (5, 4, 6, 5)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-5)
    x = np.concatenate([np.asarray(m, np.float64) for m in maps], -1)
    np.testing.assert_allclose(y, (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), atol=1e-4)


def test_statistics_stay_those_of_the_fit(maps):
    standardise = Standardise(5)
    np.testing.assert_array_equal(standardise(maps), side_by_side(maps))  # before any fit, as it is
    standardise.fit(maps)
    one = tuple(m[:1] for m in maps)
    np.testing.assert_allclose(standardise(one), standardise(maps)[:1], atol=1e-6)


def test_a_channel_that_never_changes_is_no_division_by_zero():
    standardise = Standardise(2)
    constant = (jnp.full((2, 2, 2, 2), 7.0),)
    standardise.fit(constant)
    assert not np.asarray(standardise(constant)).any()


def test_statistics_are_carried_not_learnt():
    _, params, variables, frozen = split(nnx.Dict(head=Standardise(3)))
    assert (params, frozen) == ({}, {})
    assert set(variables["head"]) == {"mean", "deviation"}


def test_maps_are_brought_to_the_first_ones_resolution():
    fine = jnp.zeros((2, 4, 4, 3), jnp.bfloat16)
    coarse = jnp.arange(2 * 2 * 2 * 1.0).reshape(2, 2, 2, 1)
    joined = side_by_side((fine, coarse))
    assert joined.shape == (2, 4, 4, 4)
    assert joined.dtype == jnp.float32
    # the bilinear kernel at twice the size: 3/4 of the near pixel, 1/4 of the far one, edges repeated
    row = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    expected = np.einsum("hi,wj,bijc->bhwc", row, row, np.asarray(coarse))
    np.testing.assert_allclose(joined[..., 3:], expected, atol=1e-6)


def test_a_map_of_the_right_size_is_untouched():
    x = jnp.ones((1, 3, 5, 2))
    assert resized(x, (3, 5)) is x


@pytest.mark.parametrize(("h", "w"), [(9, 14), (3, 3), (5, 11), (1, 2), (10, 12)])
def test_without_antialiasing_resizing_is_torchs(h, w):
    """Up, down and in one axis each: (o + 0.5) * in / out - 0.5, edges repeated, two neighbours whatever the factor."""
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3))
    rows, columns = ((np.arange(o) + 0.5) * i / o - 0.5 for o, i in ((h, 5), (w, 6)))
    places = np.meshgrid(rows, columns, indexing="ij")
    found = np.asarray(resized(jnp.asarray(x, jnp.float32), (h, w), antialias=False))
    for n, c in np.ndindex(2, 3):
        expected = map_coordinates(x[n, :, :, c], places, order=1, mode="nearest")
        np.testing.assert_allclose(found[n, :, :, c], expected, atol=1e-5)


def test_parts_of_cells_go_to_their_places():
    parts = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6, 7)))
    found = np.asarray(unfolded(parts))
    assert found.shape == (2, 15, 24, 7)
    for h, w, y, x in np.ndindex(3, 4, 5, 6):
        np.testing.assert_array_equal(found[:, 5 * h + y, 6 * w + x], parts[:, h, w, y, x])


def test_a_head_per_token_is_a_linear_map_of_standardised_maps():
    encoder = ViT(variant="Nano/8", width=8, depth=2, heads=2, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    maps = tuple(jnp.asarray(np.random.default_rng(i).normal(3, 2, (5, 4, 6, 8)), jnp.float32) for i in range(2))
    head = PerToken(encoder, 4, taps=(0, 1), cells=2, rngs=nnx.Rngs(0))
    head.fit(maps)
    kernel, bias = (np.asarray(x[...], np.float64) for x in (head.linear.kernel, head.linear.bias))
    x = np.asarray(head.standardise(maps), np.float64)
    expected = (x @ kernel + bias).reshape(5, 4, 6, 2, 2, 4)
    np.testing.assert_allclose(head(maps), unfolded(jnp.asarray(expected)), atol=1e-5)
