"""Its numbers are held against the published package in tests/parity/test_dvae.py.

Planted and seen red: maps taken after the pool, kernels all of one variance.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.dvae import SIZES, DVAEDecoder, DVAEEncoder, map_pixels, sizes_of, unmap_pixels
from facerep_jax.typing import Encoder, View

TINY = dict(variant="Nano", channels=8, groups=3, codes=12)


def make(remat="none", **settings):
    return DVAEEncoder(**{**TINY, "dtype": "float32", **settings}, remat=remat, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def encoder():
    return make()


@jax.jit
def tokens(encoder, image):
    return encoder(View(image)).tokens


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3)), jnp.uint8)


def test_it_is_an_encoder_whose_tokens_are_logits_on_a_grid(encoder, image):
    assert isinstance(encoder, Encoder)
    assert encoder.grid((8, 16)) == (2, 4)
    seen = jax.jit(lambda encoder: encoder(View(image, taps=(0, 2))))(encoder)
    assert seen.tokens.shape == (2, 8, 12)
    np.testing.assert_allclose(seen.pooled, seen.tokens.mean(1), rtol=1e-6)
    assert [x.shape for x in seen.at((0, 2))] == [(2, 8, 16, 8), (2, 2, 4, 32)]
    assert encoder.tap_widths((0, 2)) == (8, 32)
    assert encoder.tap_strides((0, 2)) == (1, 4)


def test_the_published_size_has_the_published_number_of_parameters():
    """53,786,240: counted in torch over the package's own encoder."""
    published = nnx.eval_shape(lambda: DVAEEncoder(dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    assert sum(x.size for x in jax.tree.leaves(nnx.state(published))) == 53_786_240
    assert published.grid((112, 112)) == (14, 14)
    assert published.tap_widths((0, 3)) == (256, 2048)


def test_kernels_are_drawn_with_the_variance_of_their_inputs():
    encoder = make(channels=64)
    for path, variable in nnx.to_flat_state(nnx.state(encoder)):
        x = np.asarray(variable[...])
        if path[-1] == "bias":
            assert not x.any()
        else:
            assert x.std() * np.prod(x.shape[:3]) ** 0.5 == pytest.approx(1, rel=0.15), path


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient(image):
    """The decoder behind the encoder, so that both take part."""

    def gradient(remat):
        encoder = make(remat)
        decoder = DVAEDecoder(encoder.sizes, embedding=4, dtype="float32", remat=remat, rngs=nnx.Rngs(params=1))

        def loss(models):
            encoder, decoder = models
            logits = encoder(View(image)).tokens
            return jnp.square(decoder(jax.nn.softmax(logits).reshape(2, 2, 4, 12))).mean()

        return jax.jit(jax.grad(loss))((encoder, decoder))

    plain, again = (jax.tree.leaves(gradient(name)) for name in ("none", "dots_with_no_batch_dims_saveable"))
    assert sum(np.abs(np.asarray(x)).max() > 0 for x in plain) > 0.8 * len(plain)  # some units of a tiny network rest
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(np.asarray(a)).max() + 1e-12)


def test_images_of_a_batch_do_not_touch(encoder, image):
    np.testing.assert_allclose(tokens(encoder, image)[1:], tokens(encoder, image[1:]), atol=1e-6)


def test_logits_are_float32_where_products_are_not(encoder, image):
    half, full = tokens(make(dtype="bfloat16"), image), tokens(encoder, image)
    assert half.dtype == jnp.float32
    assert 0 < np.abs(half - full).max() < 0.05 * np.abs(full).max()


def test_a_float_image_is_taken_as_mapped_pixels(encoder, image):
    mapped = map_pixels(image.astype(jnp.float32) / 255)
    np.testing.assert_allclose(tokens(encoder, image), tokens(encoder, mapped), atol=1e-6)
    assert mapped.min() >= 0.1 - 1e-6
    assert mapped.max() <= 0.9 + 1e-6
    np.testing.assert_allclose(unmap_pixels(mapped), image / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.grid((8, 10)), "an image of 8 x 10 pixels is no grid of codes of 4 x 4"),
        (lambda e: e.grid((2, 8)), "an image of 2 x 8 pixels is no grid of codes of 4 x 4"),
        (lambda e: e(View(jnp.zeros((1, 8, 8, 3), jnp.uint8), taps=(3,))), r"taps \(3,\) are not groups of an encoder"),
        (lambda e: e(View(jnp.zeros((1, 8, 8, 3)), keep=jnp.zeros((1, 2), int))), "without kept or masked patches"),
        (lambda e: sizes_of("DALLE"), "there is no dVAE variant 'DALLE'; did you mean 'DALL-E'"),
    ],
)
def test_what_does_not_fit_is_an_error(encoder, call, message):
    with pytest.raises(ValueError, match=message):
        call(encoder)


def test_sizes_are_overridden_one_by_one():
    assert sizes_of("Nano", codes=7, blocks=None) == SIZES["Nano"]._replace(codes=7)
    assert SIZES["DALL-E"].stride == 8
