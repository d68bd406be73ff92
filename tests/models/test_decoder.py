"""Planted and seen red: no positions; tokens put in the places of other kept patches; tokens that the encoder's norm
did not end; rows and columns of a patch swapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf

from facerep_jax.models.decoder import Decoder, image_of, kept_patches, masked_share
from facerep_jax.models.vit import ViT, patches, sincos
from facerep_jax.typing import Features, View

PATCH, ROWS, COLUMNS, KEPT, WIDTH, INSIDE, HEADS = 4, 3, 2, 2, 16, 12, 2
TILES = ROWS * COLUMNS


def make_encoder(**settings):
    sizes = dict(flavour="mae", variant=f"Nano/{PATCH}", image_size=8, width=WIDTH, depth=1, heads=2)
    return ViT(**sizes, **{"dtype": "float32", "remat": "none", **settings}, rngs=nnx.Rngs(params=0))


def make(encoder=None, **settings):
    sizes = dict(width=INSIDE, depth=2, heads=HEADS)
    return Decoder(encoder or make_encoder(), **{**sizes, **settings}, rngs=nnx.Rngs(params=1))


class Other(ViT):
    """An encoder without a norm for its tokens."""

    def __init__(self):
        super().__init__(variant=f"Nano/{PATCH}", image_size=8, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        del self.norm_out


@pytest.fixture(scope="module")
def encoder(reference):
    return reference.randomised(nnx.eval_shape(make_encoder))


@pytest.fixture(scope="module")
def decoder(reference):
    return reference.randomised(nnx.eval_shape(make), seed=1)


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(2)
    tokens, cls = rng.normal(size=(3, KEPT, WIDTH)), rng.normal(size=(3, WIDTH))
    tokens, cls = jnp.asarray(tokens, jnp.float32), jnp.asarray(cls, jnp.float32)
    return Features(pooled=jnp.zeros((3, WIDTH)), tokens=tokens, cls=cls)


KEEP = np.array([[0, 5], [4, 1], [2, 3]])


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def test_it_is_maes_decoder(reference, encoder, decoder, seen):
    """By NumPy from its definition, a patch at a time."""
    p, norm = reference.params(decoder), reference.params(encoder)["norm_out"]
    x = np.zeros((3, 1 + TILES, INSIDE)) + p["mask_token"]
    x[:, 0] = reference.linear(p["embed"], reference.norm(norm, np.asarray(seen.cls, np.float64), 1e-6))
    tokens = reference.linear(p["embed"], reference.norm(norm, np.asarray(seen.tokens, np.float64), 1e-6))
    for row, keep in enumerate(KEEP):
        for place, token in zip(keep, tokens[row], strict=True):
            x[row, 1 + place] = token
    x = x + sincos(ROWS, COLUMNS, INSIDE)
    x = reference.blocks(p["blocks"], x, HEADS, activation=gelu, eps=1e-6)[-1]
    expected = reference.linear(p["head"], reference.norm(p["norm"], x, 1e-6))[:, 1:]

    found = decoder(seen, jnp.asarray(KEEP), encoder=encoder, grid=(ROWS, COLUMNS))
    assert found.shape == (3, TILES, 3 * PATCH**2)
    reference.assert_equal(found, expected)


def test_the_order_of_kept_patches_does_not_matter(encoder, decoder, seen):
    turned = seen._replace(tokens=seen.tokens[:, ::-1])
    one, other = (
        decoder(features, jnp.asarray(keep), encoder=encoder, grid=(ROWS, COLUMNS))
        for features, keep in ((seen, KEEP), (turned, KEEP[:, ::-1]))
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_pixels_are_float32_where_products_are_not(reference, seen):
    """Rematerialised too."""
    half = nnx.eval_shape(lambda: make_encoder(dtype="bfloat16", remat="nothing_saveable"))
    encoder = reference.randomised(half)
    decoder = reference.randomised(nnx.eval_shape(lambda: make(encoder)))
    features = jax.tree.map(lambda x: x.astype(jnp.bfloat16), seen)
    found = decoder(features, jnp.asarray(KEEP), encoder=encoder, grid=(ROWS, COLUMNS))
    assert found.dtype == jnp.float32
    assert np.isfinite(found).all()


def test_an_image_comes_back_from_its_patches():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, ROWS * PATCH, COLUMNS * PATCH, 3)), jnp.float32)
    np.testing.assert_array_equal(image_of(patches(image, PATCH), (ROWS, COLUMNS)), image)


def test_masked_are_those_that_are_not_kept():
    np.testing.assert_array_equal(masked_share(jnp.asarray(KEEP[:2]), TILES), [[0, 1, 1, 1, 1, 0], [1, 0, 1, 1, 0, 1]])


@pytest.mark.parametrize("keep", [None, jnp.zeros((2, TILES), int)])
def test_a_view_of_all_patches_is_refused(keep):
    with pytest.raises(ValueError, match="the view 'kept' keeps all 6 patches, so that none is left to predict"):
        kept_patches(View(jnp.zeros((2, 12, 8, 3)), keep=keep), "kept", TILES)


def test_an_encoder_that_does_not_suit_is_named(encoder, decoder, seen):
    with pytest.raises(ValueError, match=r"a decoder reads an encoder of kept patches, such as vit\.ViT, not Other"):
        make(nnx.eval_shape(Other))
    with pytest.raises(ValueError, match="a decoder needs an encoder with a class token"):
        decoder(seen._replace(cls=None), jnp.asarray(KEEP), encoder=encoder, grid=(ROWS, COLUMNS))
    with pytest.raises(ValueError, match="sin-cos positions need a width that is a multiple of 4, not 10"):
        nnx.eval_shape(lambda: make(width=10))
