"""Reference: SciPy. Planted and seen red: rows and columns of a kernel exchanged, GELU by its tanh."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import convolve
from scipy.special import erf

from facerep_jax.models.pyramid import Double, Pyramid, halved


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def doubled(x, kernel, bias):
    """A transposed convolution is the convolution of the pixels set apart by the stride."""
    b, h, w, _ = x.shape
    apart = np.zeros((b, 2 * h, 2 * w, x.shape[-1]))
    apart[:, ::2, ::2] = x
    result = np.zeros((b, 2 * h, 2 * w, kernel.shape[-1]))
    for n in range(b):
        for i in range(kernel.shape[2]):
            for o in range(kernel.shape[3]):
                result[n, :, :, o] += convolve(apart[n, :, :, i], kernel[:, :, i, o])[: 2 * h, : 2 * w]
    return result + bias


def test_doubling_is_a_transposed_convolution():
    module = Double(3, rngs=nnx.Rngs(0))
    module.bias.set_value(jnp.asarray(drawn(3), jnp.float32))
    x = drawn(2, 3, 4, 3)
    expected = doubled(x, np.asarray(module.kernel[...]), np.asarray(module.bias[...]))
    np.testing.assert_allclose(module(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)


@pytest.mark.parametrize(("h", "w"), [(4, 6), (7, 5), (2, 3)])
def test_halving_takes_the_largest_of_four(h, w):
    x = drawn(2, h, w, 3)
    found = np.asarray(halved(jnp.asarray(x, jnp.float32)))
    assert found.shape == (2, h // 2, w // 2, 3)
    for i, j in np.ndindex(h // 2, w // 2):
        np.testing.assert_allclose(found[:, i, j], x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)), rtol=1e-6)


def test_levels_are_four_two_one_and_half_the_resolution():
    pyramid = Pyramid((4, 3, 2, 5), rngs=nnx.Rngs(0))
    maps = [drawn(2, 4, 6, width, seed=width) for width in (4, 3, 2, 5)]
    levels = pyramid(tuple(jnp.asarray(x, jnp.float32) for x in maps), train=True)
    assert [x.shape for x in levels] == [(2, 16, 24, 4), (2, 8, 12, 3), (2, 4, 6, 2), (2, 2, 3, 5)]

    def double(module, x):
        return doubled(x, np.asarray(module.kernel[...]), np.asarray(module.bias[...]))

    x = double(pyramid.first, maps[0])
    x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    expected = double(pyramid.again, x * (1 + erf(x / np.sqrt(2))) / 2)
    np.testing.assert_allclose(levels[0], expected, atol=1e-5)
    np.testing.assert_allclose(levels[1], double(pyramid.second, maps[1]), atol=1e-5)
    np.testing.assert_allclose(levels[2], maps[2], rtol=1e-6)


def test_a_map_that_cannot_be_halved_is_an_error():
    with pytest.raises(ValueError, match="at least 2 x 2 pixels, not 1 x 4"):
        halved(jnp.zeros((1, 1, 4, 2)))
