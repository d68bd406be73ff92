"""DINO against its algorithm. Planted and seen red: no centre; a centre of this step; pairs of a crop with itself."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from facerep_jax.objectives.dino import DINO
from facerep_jax.train.state import split
from tests.contracts.whole_way import assert_kill_and_resume_change_nothing, pretrain
from tests.objectives import crops

CONFIG, FOUR, K = "configs/pretrain/dino.py:smoke", "--config.steps=4", 7


def make(**settings):
    sizes = dict(large=2, small=3, prototypes=K, hidden=6, bottleneck=5, steps=10)
    return crops.model(DINO, **{**sizes, **settings})


def headed(head, x):
    *hidden, last = head.layers
    for layer in hidden:
        x = crops.linear(layer, x)
        x = x * (1 + erf(x / 2**0.5)) / 2
    prototypes = np.asarray(head.prototypes[...], np.float64)
    return crops.unit(crops.linear(last, x)) @ crops.unit(prototypes).T


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("step", [0, 9])
def test_the_loss_is_that_of_algorithm_1(step):
    model, batch = make(), crops.batch()
    objective, rng = model.objective, np.random.default_rng(0)
    for head in (objective.head, objective.teacher_head):
        for layer in head.layers:
            layer.kernel.set_value(jnp.asarray(rng.normal(size=layer.kernel.shape), jnp.float32))
    centre = rng.normal(size=K) / 10
    objective.centre.set_value(jnp.asarray(centre, jnp.float32))
    _, seen = crops.look(make(), batch)
    taught = [headed(objective.teacher_head, crops.pooled(seen, name)) for name in ("image", "large1")]
    temperature = {0: 0.04, 9: 0.07}[step]
    targets = [np.exp(log_softmax((x - centre) / temperature)) for x in taught]
    guesses = [log_softmax(headed(objective.head, crops.pooled(seen, name)) / 0.1) for name in objective.crops]
    losses = [-(targets[i] * guesses[v]).sum(1).mean() for i in range(2) for v in range(5) if i != v]
    assert len(losses) == 8
    loss, metrics = crops.loss(model, batch, step, begin=False)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)
    np.testing.assert_allclose(objective.centre[...], 0.9 * centre + 0.1 * np.concatenate(taught).mean(0), atol=1e-5)
    entropy = -(targets[0] * np.log(targets[0])).sum(1).mean()
    assert float(metrics["teacher_entropy"]) == pytest.approx(entropy, rel=1e-3)
    assert float(metrics["chance"]) == pytest.approx(np.log(K))


def test_the_teacher_is_carried_and_follows():
    model = make()
    assert set(split(model)[1]["objective"]) == {"head"}
    before = np.asarray(model.objective.teacher_head.prototypes[...])
    model.objective.head.prototypes.set_value(model.objective.head.prototypes[...] + 1)
    model.objective.begin(model.encoder, jnp.int32(0))
    np.testing.assert_allclose(model.objective.teacher_head.prototypes[...], before + 0.004, rtol=1e-5)


def test_crops_that_the_batch_does_not_have_are_named():
    with pytest.raises(ValueError, match="takes 4 crops where MultiCrop's small_count is 3"):
        crops.loss(make(small=4), crops.batch())
    with pytest.raises(ValueError, match="a large crop and another one, not 1 large and 0 small"):
        make(large=1, small=0)


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(tmp_path):
    run = pretrain(CONFIG, tmp_path / "whole", FOUR)
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path / "killed", FOUR)
