"""Planted and seen red: no frozen weights, a factor of alpha alone, the value's update merged into the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.evaluation.network import Network, look_at_images
from facerep_jax.evaluation.protocols.lora import LoRA, adapted, merged
from facerep_jax.models.resnet import ResNet
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.optim import adamw
from facerep_jax.train.state import flat
from facerep_jax.typing import View
from tests.evaluation.problems import HELD_OUT, ROWS, SIZE, error, make_encoder, mean_shape_error, weights

TARGETS = ("query", "value")


def stirred(encoder, seed=0):
    """The encoder with updates as if they had learnt."""
    rng = np.random.default_rng(seed)
    for target in TARGETS:
        up = getattr(encoder.blocks, target).up
        up.set_value(jnp.asarray(rng.normal(size=up.shape), jnp.float32))
    return encoder


def test_an_update_is_that_of_its_equation():
    layer = stirred(adapted(make_encoder(), 3, 6.0, TARGETS)).blocks.value
    x = np.random.default_rng(1).normal(size=(2, 5, 32)).astype(np.float32)
    graph, state = nnx.split(layer)
    for block in range(2):
        found = nnx.merge(graph, jax.tree.map(lambda leaf, block=block: leaf[block], state))(jnp.asarray(x))
        w, a, b = (np.asarray(v[...][block], np.float64) for v in (layer.linear.kernel, layer.down, layer.up))
        bias = np.asarray(layer.linear.bias[...][block])
        expected = x @ w + bias + 6.0 / 3 * (x @ a) @ b
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        assert np.abs(expected - (x @ w + bias)).max() > 0.1


def test_an_encoder_begins_as_it_was_and_is_the_same_once_updates_are_merged():
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8))
    plain, view = make_encoder(), View(image, taps=(0, 1))
    before, begins = plain(view), adapted(plain, 4, 8.0, TARGETS)(view)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(begins), strict=True):
        np.testing.assert_array_equal(one, other)
    learnt = stirred(adapted(plain, 4, 8.0, TARGETS))
    again = filled(make_encoder(), arrays_of(merged(learnt)), "merged")  # the paths are a plain encoder's
    for one, other in zip(jax.tree.leaves(learnt(view)), jax.tree.leaves(again(view)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())
    assert np.abs(np.asarray(learnt(view).pooled - before.pooled)).max() > 0.1


def test_only_updates_and_head_learn(problem):
    before = weights(problem)
    optimizer = spec(adamw, learning_rate=5e-3, weight_decay=0.1, decayed=".")
    protocol = LoRA(rank=2, alpha=4.0, steps=60, rounds=3, batch_size=16, optimizer=optimizer)
    learn = protocol.prepare(problem)
    outcome = learn(ROWS, HELD_OUT, 0)
    assert error(problem, outcome.prediction) < 0.9 * mean_shape_error(problem, ROWS)
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)

    encoder = flat(outcome.weights.params["encoder"])
    assert encoder.keys() == before.keys()
    moved = {path for path, x in encoder.items() if not np.array_equal(x, before[path])}
    assert moved == {f"blocks/{target}/kernel" for target in TARGETS}
    for path in moved:  # by a matrix of rank two in each block
        singular = np.linalg.svd((encoder[path] - before[path]).astype(np.float64), compute_uv=False)
        assert (singular[:, 1] > 1e-4).all()
        assert (singular[:, 2] < 1e-5).all()
    head, start = flat(outcome.weights.params["objective"]), flat(nnx.to_pure_dict(nnx.state(problem.task, nnx.Param)))
    assert any(not np.array_equal(x, start[path]) for path, x in head.items())

    plain = filled(make_encoder(), encoder, "merged")  # what is kept predicts as what learnt
    network = Network(plain, problem.task, look_at_images)
    test = problem.splits["test"]
    again = network.predict(outcome.weights, test, np.arange(len(test["id"])), problem.folder)
    np.testing.assert_allclose(again, outcome.prediction, atol=1e-3)


def test_what_cannot_be_adapted_is_refused(problem):
    residual = ResNet(variant="18", channels=8, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="attention of a vision transformer, and ResNet has none: choose protocol=fin"):
        build(spec(LoRA)).prepare(problem._replace(encoder=residual))
    with pytest.raises(ValueError, match="rank of at least 1 and an alpha above 0, not rank=0, alpha=16"):
        LoRA(rank=0)
    with pytest.raises(ValueError, match="LoRA has no target 'up'"):
        LoRA(targets=("query", "up"))
    with pytest.raises(ValueError, match="a rank of 33 is not low in a projection of 32 x 32"):
        adapted(make_encoder(), 33, 1.0, TARGETS)
