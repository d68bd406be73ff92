from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.evaluation import training
from facerep_jax.evaluation.protocols.finetune import FineTune
from facerep_jax.evaluation.protocols.frozen import FrozenEncoder
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.training import HEAD
from tests.evaluation.problems import HELD_OUT, ROWS


@pytest.mark.parametrize("protocol", [FrozenEncoder, FineTune])
def test_what_a_head_carries_is_carried_and_predicts(counting, protocol):
    outcome = protocol(steps=7, rounds=2, batch_size=4).prepare(counting)(ROWS, HELD_OUT, 0)
    assert outcome.selected["step"] == 6  # a multiple of the rounds
    assert "validation" not in outcome.selected
    np.testing.assert_array_equal(outcome.prediction, np.full((24, 68, 2), 6.0))


@pytest.mark.parametrize("protocol", [FrozenEncoder, FineTune])
def test_the_average_of_what_is_carried_predicts(counting, protocol):
    """By FaRL's rule: from a copy of the start, average = decay average + (1 - decay) value after every step."""
    average = 0.0
    for step in range(1, 7):
        average = 0.9 * average + 0.1 * step
    outcome = protocol(steps=6, rounds=2, batch_size=4, ema=0.9).prepare(counting)(ROWS, HELD_OUT, 0)
    np.testing.assert_allclose(outcome.prediction, np.full((24, 68, 2), average), rtol=1e-5)


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="rounds of one step at least, not 5 rounds in 3 steps"):
        FrozenEncoder(steps=3)
    with pytest.raises(ValueError, match=r"at least 0 and below 1, not 1\.0"):
        FrozenEncoder(ema=1.0)
    with pytest.raises(ValueError, match=r"no callable 'facerep_jax\.schedules:step'"):
        _ = FineTune(optimizer=HEAD | {"schedule": {"call": "facerep_jax.schedules:step"}}).training.transform


def halting(every):
    """In place of `make_step`: steps that learn nothing, of which each so many-th has a loss that is not finite."""

    def make_step(*args, **keywords):
        def step(state, frozen, batch):
            after = state._replace(step=state.step + 1)
            loss = jnp.where(after.step % every == 0, jnp.nan, 1.0)
            return after, {"loss": loss, "gradient_norm": jnp.ones(())}

        return step

    return make_step


@pytest.mark.parametrize(
    "protocol",
    [
        partial(FrozenEncoder, batch_size=4),
        partial(LinearProbe, learning_rates=(1e-3,)),
        partial(LinearProbe, learning_rates=(1e-3,), device_gigabytes=0.0),
    ],
)
def test_steps_that_changed_nothing_are_counted_and_said(counting, monkeypatch, capsys, protocol):
    monkeypatch.setattr(training, "make_step", halting(every=3))
    outcome = protocol(steps=8, rounds=2).prepare(counting)(ROWS, HELD_OUT, 0)
    assert outcome.selected["nonfinite_steps"] == 2
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert warnings == ["warning: 1 of 4 steps changed nothing, since loss or gradient was not finite"] * 2
    monkeypatch.setattr(training, "make_step", halting(every=1))
    learn = protocol(steps=8, rounds=2).prepare(counting)
    with pytest.raises(ValueError, match=r"all 4 steps of a round was not finite.*lower the learning rate"):
        learn(ROWS, HELD_OUT, 0)


@pytest.mark.parametrize(
    "protocol",
    [FineTune, FrozenEncoder, *(partial(LinearProbe, learning_rates=(1e-3,), device_gigabytes=x) for x in (2.0, 0.0))],
)
def test_each_subset_has_draws_of_its_own(counting, monkeypatch, protocol):
    """Planted and seen red: one seed for all, so that subsets shared dropout and drop-path."""

    def make_step(graph, optimizer, *, seed, **keywords):
        def step(state, frozen, batch):
            def noted(x):
                drawn = jax.random.randint(jax.random.key(seed), (), 0, 2**20)
                return jnp.full_like(x, drawn) if x.shape == () else x

            after = state._replace(step=state.step + 1, variables=jax.tree.map(noted, state.variables))
            return after, {"loss": jnp.ones(()), "gradient_norm": jnp.ones(())}

        return step

    monkeypatch.setattr(training, "make_step", make_step)
    learn = protocol(steps=1, rounds=1, batch_size=4).prepare(counting)
    for seed in (0, 3):
        expected = jax.random.randint(jax.random.key(seed), (), 0, 2**20)
        np.testing.assert_array_equal(learn(ROWS, HELD_OUT, seed).prediction, np.full((24, 68, 2), expected))
