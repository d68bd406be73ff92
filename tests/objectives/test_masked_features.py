"""What the loss is by default, is compared with MCF's published code in tests/parity/test_mcf.py.

Planted and seen red: a gradient through the targets; the class token counted as masked; pixels in another region.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.decoder import Decoder
from facerep_jax.models.vit import ViT, patches
from facerep_jax.objectives.masked_features import MaskedFeatures
from facerep_jax.train.frozen import Given
from facerep_jax.train.state import split
from facerep_jax.typing import Features, Objective, View

PATCH, SIDE, WIDTH = 4, 3, 16
TILES = SIDE**2
KEEP = np.array([[0, 4], [7, 2]])
TAPS = (0, 2)


def vit(**settings):
    sizes = dict(flavour="mae", variant=f"Nano/{PATCH}", image_size=PATCH * SIDE, width=12, depth=3, heads=2)
    return spec(ViT, **{**sizes, **settings})


def make_encoder():
    sizes = dict(flavour="mae", variant=f"Nano/{PATCH}", image_size=PATCH * SIDE, width=WIDTH, depth=1, heads=2)
    return ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


def make(**settings):
    whole = dict(network=vit(), weights="random", decoder=spec(Decoder, width=8, depth=1, heads=2), taps=TAPS)
    return MaskedFeatures(make_encoder(), **{**whole, **settings}, rngs=nnx.Rngs(params=1))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, PATCH * SIDE, PATCH * SIDE, 3), np.uint8)
    tokens, cls = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 2, WIDTH), (2, WIDTH)))
    return jnp.asarray(image), Features(pooled=cls, tokens=tokens, cls=cls)


def loss_of(objective, encoder, image, seen, keep=KEEP):
    views = {"kept": View(image, keep=None if keep is None else jnp.asarray(keep))}
    more = dict(encoder=encoder, step=jnp.int32(0), rng=jax.random.split(jax.random.key(0), 2))
    return objective.loss({"kept": seen}, views, {}, **more)


@pytest.fixture(scope="module")
def model():
    return jax.jit(lambda: (make_encoder(), make()))()


@pytest.mark.parametrize(
    ("norm_axis", "region", "pixel_weight"), [("token", "all", 0.0), ("channel", "all", 0.5), ("token", "masked", 2.0)]
)
def test_it_compares_what_the_frozen_network_sees(model, batch, norm_axis, region, pixel_weight):
    """By NumPy from the two images, whose tokens are the network's."""
    encoder, objective = model
    settings = nnx.eval_shape(lambda: make(norm_axis=norm_axis, region=region, pixel_weight=pixel_weight))
    for name in ("axis", "masked_only", "pixel_weight"):
        setattr(objective, name, getattr(settings, name))
    image, seen = batch
    loss, metrics = jax.jit(loss_of)(objective, encoder, image, seen)

    predicted = np.asarray(objective.decoder(seen, jnp.asarray(KEEP), encoder=encoder, grid=(SIDE, SIDE)))
    pseudo = np.zeros((2, PATCH * SIDE, PATCH * SIDE, 3), np.float32)
    for place in range(TILES):
        y, x = PATCH * (place // SIDE), PATCH * (place % SIDE)
        pseudo[:, y : y + PATCH, x : x + PATCH] = predicted[:, place].reshape(2, PATCH, PATCH, 3)
    counts = np.ones((2, 1 + TILES))
    if region == "masked":
        counts[:, 0] = 0
        for row, keep in enumerate(KEEP):
            counts[row, 1 + keep] = 0
    features, cosines = 0.0, []
    for tap in TAPS:
        tokens = []
        for looked_at in (pseudo, objective.network.normalise(image)):
            found = objective.network(View(jnp.asarray(looked_at), taps=(tap,)))
            whole = np.concatenate([found.cls_at[tap][:, None], found.maps[tap].reshape(2, TILES, -1)], 1)
            axis = 1 if norm_axis == "token" else 2
            tokens.append(np.float64(whole) / np.linalg.norm(np.float64(whole), axis=axis, keepdims=True))
        features += (np.square(tokens[0] - tokens[1]).mean(2) * counts).sum() / counts.sum()
        cosines.append((tokens[0] * tokens[1]).sum(axis).mean())
    true = np.asarray(patches(objective.network.normalise(image), PATCH))
    pixels = (np.square(predicted - true).mean(2) * counts[:, 1:]).sum() / counts[:, 1:].sum()
    np.testing.assert_allclose(metrics["features"], features, rtol=1e-4)
    np.testing.assert_allclose(metrics["pixels"], pixels, rtol=1e-4)
    np.testing.assert_allclose(metrics["similarity"], np.mean(cosines), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, features + pixel_weight * pixels, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], loss)


def test_targets_have_no_gradient_and_the_pseudo_image_has(model, batch):
    """A step along the gradient of the true image's pixels would bring the targets to the prediction."""
    encoder, objective = model
    image, seen = batch
    real = objective.network.normalise(image)
    of_image = jax.jit(jax.grad(lambda image: loss_of(objective, encoder, image, seen)[1]["features"]))(real)
    assert not np.asarray(of_image).any()
    of_tokens = jax.jit(jax.grad(lambda seen: loss_of(objective, encoder, image, seen)[0]))(seen)
    assert np.abs(np.asarray(of_tokens.tokens)).min() > 0
    assert np.abs(np.asarray(of_tokens.cls)).min() > 0


def test_the_network_is_frozen_and_given():
    objective = nnx.eval_shape(make)
    assert isinstance(objective, Objective)
    assert isinstance(objective, Given)
    _, params, variables, frozen = split(objective)
    assert set(params) == {"decoder"}
    assert set(frozen) == {"network"}
    assert not variables


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(taps=(2, 3)), r"taps \(2, 3\) are not blocks of the frozen network, which has 0 to 2"),
        (dict(taps=()), r"taps \(\) are not blocks"),
        (dict(network=vit(variant="Nano/2")), "the frozen network's patches of 2 pixels are not the encoder's of 4"),
        (dict(norm_axis="row"), "norm_axis is token or channel, not 'row'"),
        (dict(region="visible"), "region is all or masked, not 'visible'"),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: make(**settings))


def test_a_view_of_all_patches_is_refused(model, batch):
    with pytest.raises(ValueError, match="the view 'kept' keeps all 9 patches"):
        loss_of(model[1], model[0], *batch, keep=None)
