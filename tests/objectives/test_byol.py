"""BYOL against its equations. Planted and seen red: a teacher that is the encoder; targets of the same crop."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.objectives.byol import BYOL
from facerep_jax.train.state import split
from tests.contracts.whole_way import assert_kill_and_resume_change_nothing, pretrain
from tests.objectives import crops

CONFIG, FOUR = "configs/pretrain/byol.py:smoke", "--config.steps=4"


def make():
    return crops.model(BYOL, hidden=6, width=5, steps=10)


def unlike():
    """Crops of an example that are as different as those of two: which is predicted from which then matters."""
    batch = crops.batch()
    return {**batch, "image_large": jnp.roll(batch["image_large"], 1, axis=0)}


def test_the_loss_is_that_of_its_equations_by_a_teacher_of_its_own():
    model, batch = make(), unlike()
    objective = model.objective
    kernel = objective.teacher_projector.linear[0].kernel
    kernel.set_value(-2 * kernel[...])  # a teacher that is not the encoder
    _, seen = crops.look(make(), batch)
    x = [crops.pooled(seen, name) for name in ("image", "large1")]  # of the teacher too, whose encoder is the same
    targets = [crops.projected(objective.teacher_projector, each) for each in x]
    predictions = [crops.projected(objective.predictor, crops.projected(objective.projector, each)) for each in x]
    loss, _ = crops.loss(model, batch, begin=False)
    expected = sum(np.square(crops.unit(predictions[i]) - crops.unit(targets[1 - i])).sum(1).mean() for i in (0, 1))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_teacher_follows_by_a_momentum_that_rises_to_one():
    """1 - (1 - 0.996) (cos(pi t / T) + 1) / 2, appendix J."""
    model = make()
    before = np.asarray(model.objective.teacher.kernel[...])
    model.encoder.kernel.set_value(model.encoder.kernel[...] + 1)
    for step in (0, 5, 10):
        model.objective.begin(model.encoder, jnp.int32(step))
        momentum = 1 - 0.004 * (np.cos(np.pi * step / 10) + 1) / 2
        expected = momentum * before + (1 - momentum) * np.asarray(model.encoder.kernel[...])
        before = np.asarray(model.objective.teacher.kernel[...])
        np.testing.assert_allclose(before, expected, atol=1e-6)
    params = split(model)[1]["objective"]
    assert set(params) == {"projector", "predictor"}
    assert dict(model.objective.offers) == {"teacher": "teacher"}
    assert isinstance(model.objective.teacher, nnx.Module)


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(tmp_path):
    run = pretrain(CONFIG, tmp_path / "whole", FOUR)
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path / "killed", FOUR)
