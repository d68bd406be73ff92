"""SimSiam against its algorithm. Planted and seen red: a gradient into the targets; one pass for both crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.objectives.simsiam import SimSiam
from facerep_jax.train.state import merge, split
from tests.contracts.whole_way import assert_kill_and_resume_change_nothing, pretrain
from tests.objectives import crops

CONFIG, FOUR = "configs/pretrain/simsiam.py:smoke", "--config.steps=4"


def make():
    return crops.model(SimSiam, hidden=6, bottleneck=3)


def unlike():
    """Crops of an example that are as different as those of two: which is predicted from which then matters."""
    batch = crops.batch()
    return {**batch, "image_large": jnp.roll(batch["image_large"], 1, axis=0)}


def test_the_loss_is_that_of_algorithm_1_with_statistics_for_each_crop():
    model, batch = make(), unlike()
    loss, metrics = crops.loss(model, batch)
    _, seen = crops.look(make(), batch)
    objective = model.objective
    z = [crops.projected(objective.projector, crops.pooled(seen, name)) for name in ("image", "large1")]
    p = [crops.projected(objective.predictor, x) for x in z]
    cosines = [(crops.unit(p[i]) * crops.unit(z[1 - i])).sum(1).mean() for i in (0, 1)]
    assert float(loss) == pytest.approx(-np.mean(cosines), abs=1e-5)
    assert float(metrics["spread"]) == pytest.approx(crops.unit(z[0]).std(0).mean() * 6**0.5, rel=1e-4)
    assert np.abs(crops.pooled(seen, "image").mean(0)).max() < 1e-5  # each pass has its own mean
    assert np.abs(crops.pooled(seen, "large1").mean(0)).max() < 1e-5


def test_targets_have_no_gradient():
    """With predictions that are constants, nothing is left."""
    model, batch = make(), crops.batch()
    for layer in model.objective.predictor.linear:
        layer.kernel.set_value(0 * layer.kernel[...])
    graph, params, variables, frozen = split(model)
    gradient = jax.grad(lambda params: crops.loss(merge(graph, params, variables, frozen), batch)[0])(params)
    assert not any(np.abs(x).max() > 1e-7 for x in jax.tree.leaves(gradient["encoder"]))


def test_equal_images_have_no_spread():
    batch = {name: x if name == "position" else 0 * x for name, x in crops.batch().items()}
    assert float(crops.loss(make(), batch)[1]["spread"]) < 0.01


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(tmp_path):
    run = pretrain(CONFIG, tmp_path / "whole", FOUR)
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path / "killed", FOUR)
