"""Planted and seen red: maps that are not looked at, features of what a class is predicted from likewise."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.evaluation.finite import finite_rows, require_finite
from facerep_jax.evaluation.protocols.finetune import FineTune
from facerep_jax.evaluation.protocols.frozen import FrozenEncoder
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.evaluation.protocols.ridge import Ridge
from facerep_jax.models.vit import ViT
from tests.evaluation.problems import HELD_OUT, ROWS, SIZE


def test_images_whose_features_are_no_numbers_are_named():
    x = np.zeros((6, 3), np.float32)
    require_finite(x, list("abcdef"))
    x[[1, 2], 0] = np.nan
    with pytest.raises(ValueError, match="features of 2 of 6 images are not finite: b, c; the checkpoint may have div"):
        require_finite(x, list("abcdef"))
    x[[3, 5], 2] = -np.inf
    with pytest.raises(ValueError, match="features of 4 of 6 images are not finite: b, c, d and 1 more; "):
        require_finite(x, list("abcdef"))


@pytest.mark.parametrize("protocol", [Pooled, Ridge])
def test_protocols_name_them(problem, protocol):
    encoder = nnx.clone(problem.encoder)
    encoder.norm_out.scale.set_value(np.nan * encoder.norm_out.scale[...])
    first = problem.splits["test" if protocol is Pooled else "train"]["id"][0]
    with pytest.raises(ValueError, match=f"images are not finite: {first}"):
        protocol().prepare(problem._replace(encoder=encoder))


class Blinded(ViT):
    """A ViT whose maps of a black image are no numbers; its pooled feature is."""

    def __call__(self, view, **keywords):
        seen = super().__call__(view, **keywords)
        black = (view.image == 0).all((1, 2, 3))[:, None, None, None]
        return seen._replace(maps={tap: jnp.where(black, jnp.nan, x) for tap, x in seen.maps.items()})


@pytest.fixture
def blinded(problem):
    """A problem whose encoder is blind to one test image, and the name of that."""
    sizes = dict(variant="Nano/8", image_size=SIZE, width=32, depth=2, heads=2)
    encoder = Blinded(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    test = problem.splits["test"]
    image = np.array(test["image"])
    image[5] = 0
    splits = {**problem.splits, "test": {**test, "image": image}}
    return problem._replace(encoder=encoder, splits=splits, selection="last"), test["id"][5]


def test_maps_that_a_head_reads_are_looked_at(blinded):
    problem, name = blinded
    with pytest.raises(ValueError, match=f"features of 1 of 24 images are not finite: {name}; "):
        Ridge().prepare(problem)


@pytest.mark.parametrize(
    "protocol",
    [
        FrozenEncoder(steps=1, rounds=1, batch_size=8),
        FineTune(steps=1, rounds=1, batch_size=8),
        LinearProbe(steps=1, rounds=1, batch_size=8, learning_rates=(1e-3,), cache_gigabytes=0.0),
    ],
)
def test_what_is_predicted_from_images_is_looked_at(blinded, protocol):
    problem, name = blinded
    with pytest.raises(ValueError, match=f"features or predictions of 1 of 24 images are not finite: {name}; "):
        protocol.prepare(problem)(ROWS, HELD_OUT, 0)


def test_a_class_is_as_finite_as_what_it_is_made_from():
    classes, maps = jnp.array([1, 2, 3], jnp.uint8), jnp.zeros((3, 2, 2, 4)).at[1, 0, 1, 2].set(jnp.inf)
    assert finite_rows([classes, maps]).tolist() == [True, False, True]
    assert finite_rows([classes]).tolist() == [True] * 3
    assert finite_rows([jnp.array([0.0, 1, jnp.nan]), jnp.zeros((3, 2))]).tolist() == [True, True, False]
