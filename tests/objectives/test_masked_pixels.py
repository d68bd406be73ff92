"""What the loss is, is compared with MAE's published code in tests/parity/test_mcf.py.

Planted and seen red: all patches in the mean; uint8 targets.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.decoder import Decoder
from facerep_jax.models.views import RandomPatches
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.masked_pixels import MaskedPixels
from facerep_jax.train.state import Model, abstract, initial
from facerep_jax.train.step import make_step
from facerep_jax.typing import Features, Objective, View

PATCH, SIDE, WIDTH = 4, 3, 16
KEEP = np.array([[0, 4], [7, 2]])


def make_encoder():
    sizes = dict(flavour="mae", variant=f"Nano/{PATCH}", image_size=PATCH * SIDE, width=WIDTH, depth=1, heads=2)
    return ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


def make(**settings):
    small = spec(Decoder, width=8, depth=1, heads=2)
    return MaskedPixels(make_encoder(), decoder=small, **settings, rngs=nnx.Rngs(params=1))


class Constant(nnx.Module):
    """A decoder that predicts the same for all images."""

    patch = PATCH

    def __init__(self, predicted):
        self.predicted = predicted

    def __call__(self, seen, keep, *, encoder, grid):
        return self.predicted


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (2, PATCH * SIDE, PATCH * SIDE, 3), np.uint8)


def loss_of(objective, image, keep):
    seen = Features(pooled=jnp.zeros((2, WIDTH)), tokens=jnp.zeros((2, 2, WIDTH)), cls=jnp.zeros((2, WIDTH)))
    views = {"kept": View(jnp.asarray(image), keep=None if keep is None else jnp.asarray(keep))}
    more = dict(encoder=nnx.eval_shape(make_encoder), step=jnp.int32(0), rng=jax.random.split(jax.random.key(0), 2))
    return objective.loss({"kept": seen}, views, {}, **more)


@pytest.mark.parametrize("normalised", [False, True])
def test_it_is_the_mean_squared_error_of_masked_patches(image, normalised):
    """By NumPy, a patch at a time."""
    predicted = np.random.default_rng(1).normal(size=(2, SIDE**2, 3 * PATCH**2)).astype(np.float32)
    objective = nnx.eval_shape(lambda: make(normalised=normalised))
    objective.decoder = Constant(jnp.asarray(predicted))
    loss, metrics = loss_of(objective, image, KEEP)

    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    pixels = (image / 255 - mean) / std
    errors = []
    for row, keep in enumerate(KEEP):
        for place in sorted(set(range(SIDE**2)) - set(keep)):
            y, x = PATCH * (place // SIDE), PATCH * (place % SIDE)
            target = pixels[row, y : y + PATCH, x : x + PATCH].reshape(-1)
            if normalised:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(np.square(predicted[row, place] - target).mean())
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], loss)
    np.testing.assert_allclose(metrics["masked"], 7 / 9, rtol=1e-6)


def test_a_view_of_all_patches_is_refused(image):
    with pytest.raises(ValueError, match="the view 'kept' keeps all 9 patches"):
        loss_of(nnx.eval_shape(make), image, None)


def test_it_learns(image):
    """One image, of which any patches tell the others."""

    def make_model():
        encoder, kept = make_encoder(), spec(RandomPatches, share=0.25)
        term = spec(MaskedPixels, decoder=spec(Decoder, width=8, depth=1, heads=2))
        objective = Combined(encoder, terms=dict(mae=term), views=dict(kept=kept), steps=9, rngs=nnx.Rngs(params=1))
        assert isinstance(objective.terms["mae"], Objective)
        return Model(encoder, objective)

    optimizer = optax.adam(1e-2)
    state = jax.jit(lambda: initial(make_model, optimizer.init, ema=False))()
    step = jax.jit(make_step(abstract(make_model)[0], optimizer, seed=0))
    batch = {"image": jnp.asarray(np.repeat(image[:1], 8, 0)), "position": jnp.arange(8, dtype=jnp.uint32)}
    losses = []
    for _ in range(120):
        state, metrics = step(state, {}, batch)
        losses.append(float(metrics["mae/loss"]))
    assert losses[0] > 0.9
    assert losses[-1] < 0.5 * losses[0]
