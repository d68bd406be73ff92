"""Parity: losses and gradients of the published MAE and MCF, as frozen in mcf.npz by the script of that name.

Planted and seen red: a teacher that does not move before its keys are made; the biased variance of a patch; tokens that
no norm ends before the decoder; features scaled along channels; M1's class token left out; a loss once the temperature.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.decoder import Decoder
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.masked_features import MaskedFeatures
from facerep_jax.objectives.masked_pixels import MaskedPixels
from facerep_jax.objectives.momentum_contrast import MomentumContrast
from facerep_jax.train.model import arrays_of
from facerep_jax.train.state import Model, flat, split, state_of
from facerep_jax.train.step import begun, make_loss
from facerep_jax.typing import View
from facerep_jax.weights import timm

found = importlib.util.spec_from_file_location("mcf_reference", Path(__file__).with_name("mcf.py"))
reference = importlib.util.module_from_spec(found)
found.loader.exec_module(reference)

RUNTIME = dict(dtype="float32", remat="none")
SIZE = reference.SIDE * reference.PATCH
OBJECTIVE = "objective/terms/"
PERCEPTRON = {
    "linear/0/kernel": "0.weight",
    "norms/0/scale": "1.weight",
    "norms/0/bias": "1.bias",
    "linear/1/kernel": "3.weight",
}


def vit(width, depth, heads):
    return spec(
        ViT, flavour="mae", variant=f"Nano/{reference.PATCH}", image_size=SIZE, width=width, depth=depth, heads=heads
    )


SMALL = spec(Decoder, width=reference.DECODER_WIDTH, depth=reference.DECODER_DEPTH, heads=reference.DECODER_HEADS)


class Given:
    """A view of patches that noise keeps, as the published code draws them."""

    def __init__(self, *, which: int):
        self.which = which

    def __call__(self, batch, *, encoder, rng):
        noise = reference.inputs()[1 + self.which]
        return View(batch["image"], keep=jnp.asarray(np.argsort(noise, 1)[:, : reference.KEPT]))


def build_encoder():
    sizes = vit(reference.WIDTH, reference.DEPTH, reference.HEADS).to_dict()
    return ViT(**{name: value for name, value in sizes.items() if name != "call"}, **RUNTIME, rngs=nnx.Rngs(params=0))


def build_mae(normalised):
    encoder = build_encoder()
    terms = dict(pixels=spec(MaskedPixels, decoder=SMALL, normalised=normalised))
    return encoder, Combined(
        encoder, terms=terms, views=dict(kept=spec(Given, which=0)), steps=1, rngs=nnx.Rngs(params=0)
    )


def build_mcf():
    encoder = build_encoder()
    m1 = vit(reference.M1_WIDTH, reference.M1_DEPTH, reference.M1_HEADS)
    contrast = dict(hidden=reference.HIDDEN, width=reference.OUT, contrast_group=0, norm_rows=0)
    terms = dict(
        features=spec(MaskedFeatures, network=m1, weights="random", decoder=SMALL),
        contrast=spec(MomentumContrast, patches=spec(Given, which=1), **contrast),
    )
    return encoder, Combined(
        encoder,
        terms=terms,
        weights=dict(features=1000.0),
        views=dict(kept=spec(Given, which=0)),
        steps=1,
        rngs=nnx.Rngs(params=0),
    )


def in_torch(arrays):
    """A model's arrays by path as the published code names them and lays them out."""
    parts = {}
    for path, x in arrays.items():
        for place in PLACES:
            if path.startswith(place):
                parts.setdefault(place, {})[path.removeprefix(place)] = x
    found = {}
    for place, of in parts.items():
        found |= {f"{PLACES[place][0]}{name}": x for name, x in PLACES[place][1](of).items()}
    return found


def decoder_in_torch(of):
    """Its blocks are laid out as those of the encoder, which `weights.timm` knows."""
    values = 3 * reference.PATCH**2
    like = {"class_token": of["mask_token"], "embed/kernel": np.zeros((values, 1)), "embed/bias": np.zeros(1)}
    like |= {path: x for path, x in of.items() if path.startswith("blocks/")}
    like |= {f"norm_out/{leaf}": of[f"norm/{leaf}"] for leaf in ("scale", "bias")}
    found = {f"decoder_{name}": x for name, x in timm.exported(like).items() if name.startswith(("blocks", "norm"))}
    found["mask_token"] = of["mask_token"].reshape(1, 1, -1)
    for ours, theirs in (("embed", "decoder_embed"), ("head", "decoder_pred")):
        found |= {f"{theirs}.weight": of[f"{ours}/kernel"].T, f"{theirs}.bias": of[f"{ours}/bias"]}
    return found


def perceptron_in_torch(of):
    return {theirs: of[ours].T for ours, theirs in PERCEPTRON.items()}


PLACES = {  # where a part of our model is -> the prefix of its published names, and what gives them
    "encoder/": ("online_encoder.", timm.exported),
    f"{OBJECTIVE}contrast/teacher/": ("target_encoder.", timm.exported),
    f"{OBJECTIVE}contrast/projector/": ("online_encoder.fc.", perceptron_in_torch),
    f"{OBJECTIVE}contrast/teacher_projector/": ("target_encoder.fc.", perceptron_in_torch),
    f"{OBJECTIVE}contrast/predictor/": ("predictor.", perceptron_in_torch),
    f"{OBJECTIVE}features/network/": ("perceptual_loss.model.", timm.exported),
    f"{OBJECTIVE}features/decoder/": ("", decoder_in_torch),
    f"{OBJECTIVE}pixels/decoder/": ("", decoder_in_torch),
}


def published(model, prefix=""):
    """The model with the weights that the published code was given; `prefix` is that of its encoder."""
    arrays = {path: np.array(x, np.float64) for path, x in arrays_of(model).items()}
    order = np.cumsum([0, *(x.size for x in arrays.values())])[:-1]
    numbered = {
        path: first + np.arange(x.size).reshape(x.shape) for (path, x), first in zip(arrays.items(), order, strict=True)
    }
    values = np.concatenate([x.reshape(-1) for x in arrays.values()])
    for name, places in in_torch(numbered).items():
        values[places.astype(int)] = reference.drawn(name.removeprefix(prefix), places.shape)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        variable.set_value(jnp.asarray(values[numbered["/".join(map(str, path))]], jnp.float32))
    return model


def losses(model, image):
    """The loss with its metrics, and the gradients of all parameters by path, as the training step has them."""
    graph, _, _, frozen = split(model)
    batch = {"image": jnp.asarray(image), "position": jnp.arange(len(image), dtype=jnp.uint32)}

    @jax.jit
    def run(state, frozen, batch):
        params, variables = begun(graph, state, frozen)
        loss_of = make_loss(graph, seed=0)
        return jax.value_and_grad(loss_of, has_aux=True)(params, variables, frozen, batch, state.step)

    (loss, (metrics, _)), gradients = run(state_of(model, lambda params: {}, ema=False), frozen, batch)
    return loss, metrics, flat(gradients)


def compared(build, name, losses_by_name, prefix=""):
    """Check losses and gradients of a model against those of the published code that are frozen as `name`."""
    frozen = np.load(reference.PATH)
    model = published(Model(*build()), prefix)
    loss, metrics, gradients = losses(model, reference.inputs()[0])
    for metric, theirs in losses_by_name.items():
        np.testing.assert_allclose(metrics[metric], frozen[f"{name} {theirs}"], rtol=1e-4)
    np.testing.assert_allclose(loss, frozen[f"{name} loss"], rtol=1e-4)
    ours = in_torch({path: np.asarray(x) for path, x in gradients.items()})
    theirs = [key for key in frozen.files if key.startswith(f"{name} gradient ")]
    assert {f"{name} gradient {each.removeprefix(prefix)}" for each in ours} == set(theirs)
    for path, gradient in ours.items():
        their_name = path.removeprefix(prefix)
        expected = frozen[f"{name} gradient {their_name}"]
        difference = np.abs(reference.summary(their_name, gradient) - expected).max()
        assert difference <= 1e-3 * expected[0] + 1e-7, (path, difference, expected)


@pytest.mark.parametrize("normalised", [False, True])
def test_masked_pixels_are_those_of_mae(normalised):
    compared(lambda: build_mae(normalised), f"mae {normalised}", {}, prefix="online_encoder.")


def test_masked_features_and_contrast_are_those_of_mcf():
    compared(build_mcf, "mcf", {"features/loss": "features", "contrast/loss": "contrast"})
