"""Planted and seen red: statistics of each batch, scales that learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.evaluation.protocols.finetune import FineTune
from facerep_jax.evaluation.protocols.frozen_batch_norm import FrozenBatchNorm, fixed
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.resnet import ResNet
from facerep_jax.train.optim import adamw
from facerep_jax.train.state import flat
from facerep_jax.typing import View
from tests.evaluation.problems import HELD_OUT, ROWS, SIZE, weights

NORMS = ("norm/scale", "norm/bias", "norm/mean", "norm/variance")


@pytest.fixture(scope="module")
def residual(problem):
    """The problem of a ResNet with running statistics and scales of its own, as a pre-trained one's are."""
    encoder = ResNet(variant="18", channels=8, blocks=(1, 1, 1, 1), dtype="float32", remat="none", rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(encoder):
        if isinstance(module, BatchNorm):
            module.mean.set_value(module.mean[...] + 0.1 * rng.normal(size=module.mean.shape))
            module.variance.set_value(module.variance[...] * rng.uniform(0.5, 2, size=module.variance.shape))
            module.scale.set_value(module.scale[...] * rng.uniform(0.5, 2, size=module.scale.shape))

    def make_task(seed):
        settings = dict(taps=(0.75, 1.0), label_shape=(68, 2), image_size=SIZE, meta={})
        return Landmarks(encoder, **settings, rngs=nnx.Rngs(seed))

    return problem._replace(encoder=encoder, make_task=make_task, task=make_task(0))


def learnt(residual, protocol):
    """The paths of the encoder's arrays that a protocol moved."""
    optimizer = spec(adamw, learning_rate=3e-3, weight_decay=0.1, decayed=".", multipliers=(("^encoder/", 0.1),))
    settings = dict(steps=6, rounds=2, batch_size=8, optimizer=optimizer)
    outcome = protocol(**settings).prepare(residual)(ROWS, HELD_OUT, 0)
    before, (params, variables) = weights(residual), outcome.weights
    after = flat(params["encoder"]) | flat(variables.get("encoder", {}))
    assert after.keys() == before.keys()
    return {path for path, x in after.items() if not np.array_equal(x, before[path])}


def test_all_of_the_encoder_learns_but_its_batch_normalisation(residual):
    before = weights(residual)
    moved = learnt(residual, FrozenBatchNorm)
    assert moved == {path for path in before if path.endswith("kernel")}
    assert len(before) == 5 * len(moved)  # each convolution has a norm of four arrays
    assert all(path.endswith(NORMS) for path in {*before} - moved)
    for path, new in weights(residual).items():
        np.testing.assert_array_equal(before[path], new)


def test_a_pass_in_training_is_one_by_the_running_statistics(residual):
    view = View(jnp.asarray(residual.splits["test"]["image"][:4]), taps=(0, 3))
    expected, found = residual.encoder(view), fixed(residual.encoder)(view, train=True)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_fine_tuning_moves_batch_normalisation_too(residual):
    assert learnt(residual, FineTune) == {*weights(residual)}


def test_an_encoder_without_batch_normalisation_is_refused(problem):
    with pytest.raises(ValueError, match="frozen_batch_norm keeps batch normalisation as it is, and ViT has none"):
        FrozenBatchNorm().prepare(problem)
