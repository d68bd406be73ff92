import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.heads import Standardise, resized, side_by_side
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
