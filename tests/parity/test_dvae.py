"""Parity: DALL-E's published package, as it is and as frozen in dvae.npz by the script of that name.

Planted and seen red: a kernel's rows and columns swapped, gain 1 / n, pixels not mapped, average in place of maximum.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.dvae import DVAEDecoder, Sizes
from facerep_jax.models.tokenizer import DVAE
from facerep_jax.train.model import filled
from facerep_jax.typing import Frozen, View, as_kind
from facerep_jax.weights import dalle

found = importlib.util.spec_from_file_location("dvae_reference", Path(__file__).with_name("dvae.py"))
reference = importlib.util.module_from_spec(found)
found.loader.exec_module(reference)


def ours(image, weights, channels, blocks, codes, embedding, seed=0):
    """Logits of the image, the picture of weights and the tokenizer's codes, with the published weights loaded."""
    sizes = dict(channels=channels, blocks=blocks, codes=codes)
    tokenizer = nnx.eval_shape(lambda: DVAE(patch=8, **sizes, rngs=nnx.Rngs(params=0)))
    state = reference.published("encoder", **sizes, embedding=embedding, seed=seed)
    tokenizer.network = as_kind(filled(tokenizer.network, dalle.imported(state), "the reference"), Frozen)
    tokenizer.frequency.set_value(jnp.full(codes, 1 / codes))

    def make():
        full = Sizes(channels, 4, blocks, codes)
        return DVAEDecoder(full, embedding=embedding, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))

    decoder = nnx.eval_shape(make)
    state = reference.published("decoder", **sizes, embedding=embedding, seed=seed)
    for path, variable in nnx.to_flat_state(nnx.state(decoder)):
        array = state.pop(dalle.their_name("/".join(map(str, path))))
        variable.set_value(jnp.asarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array))
    assert not state

    @jax.jit
    def run(tokenizer, decoder, image, weights):
        return tokenizer.network(View(image)).tokens, decoder(weights), tokenizer(image)

    logits, picture, tokens = run(tokenizer, decoder, jnp.asarray(image), jnp.asarray(weights))
    return np.asarray(logits).reshape(*weights.shape), np.asarray(picture), np.asarray(tokens)


def check(logits, picture, tokens, their_logits, their_picture, equal):
    equal(logits, their_logits)
    equal(picture, their_picture)
    assert their_picture.std() > 1  # the reference is not flat
    codes = their_logits.argmax(-1).reshape(tokens.shape)
    assert len(np.unique(codes)) > 1
    np.testing.assert_array_equal(tokens, codes)


def test_logits_codes_and_pictures_are_those_that_the_published_package_left(reference_equal):
    kept = np.load(reference.PATH)
    sizes = (reference.CHANNELS, reference.BLOCKS, reference.CODES, reference.EMBEDDING)
    check(*ours(*reference.inputs(), *sizes), kept["logits"], kept["picture"], reference_equal)


@pytest.fixture
def reference_equal(request):
    return request.getfixturevalue("reference").assert_equal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "channels", "blocks", "codes", "embedding"),
    [((24, 32), 64, 1, 512, 16), ((112, 112), 256, 2, 8192, 128)],  # the second is the published size
)
def test_the_published_package_gives_the_same(size, channels, blocks, codes, embedding, reference_equal):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("dall_e", reason="DALL-E is not installed")
    image, weights = reference.inputs(size, codes)
    theirs = reference.theirs(image, weights, channels, blocks, codes, embedding, seed=1)
    check(*ours(image, weights, channels, blocks, codes, embedding, seed=1), *theirs, reference_equal)
