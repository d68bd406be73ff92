import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.config import build, plain
from facerep_jax.evaluation.protocols import as_farl
from facerep_jax.evaluation.protocols.finetune import WHOLE, FineTune, from_scratch
from tests.evaluation.problems import HELD_OUT, ROWS, error, mean_shape_error, weights


def test_fine_tuning_learns_and_leaves_the_encoder_as_it_was(problem):
    before = weights(problem)
    optimizer = WHOLE | {"learning_rate": 3e-3}
    learn = FineTune(steps=60, rounds=3, batch_size=16, optimizer=optimizer).prepare(problem)
    outcome = learn(ROWS, HELD_OUT, 0)
    assert error(problem, outcome.prediction) < 0.9 * mean_shape_error(problem, ROWS)
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)


@pytest.mark.slow
def test_the_average_of_the_weights_predicts(problem):
    """With a decay so near one that the average stays at the start, where the head is the mean shape."""
    last = problem._replace(selection="last")
    settings = dict(steps=30, rounds=1, batch_size=16, optimizer=WHOLE | {"learning_rate": 3e-3}, ema=1 - 1e-7)
    outcome = FineTune(**settings).prepare(last)(ROWS, HELD_OUT, 0)
    assert error(problem, outcome.prediction) == pytest.approx(mean_shape_error(problem, ROWS), rel=1e-3)


def test_farls_groups_can_be_said():
    """Learning rates of 1e-4 (encoder) and 1e-3 (head), decay of 1e-5 on all, no warm-up, a tenth after 2/3 of it."""
    training = FineTune(**as_farl("finetune", steps=300, learning_rate=1e-3, milestones=(2 / 3,))).training
    assert (training.batch_size, training.ema) == (40, 0.999)
    params = {"encoder": {"bias": jnp.full(3, 500.0)}, "objective": {"kernel": jnp.full(3, -500.0)}}
    gradient = {"encoder": {"bias": jnp.full(3, 1e3)}, "objective": {"kernel": jnp.full(3, 1e3)}}
    state, update_of = training.transform.init(params), jax.jit(training.transform.update)
    for step in range(300):
        update, state = update_of(gradient, state, params)
        if step in (0, 199, 200, 299):
            late = 0.1 if step >= 200 else 1.0  # the step that follows 200 others
            np.testing.assert_allclose(update["encoder"]["bias"], -1e-4 * late * (1 + 1e-5 * 500), rtol=2e-5)
            np.testing.assert_allclose(update["objective"]["kernel"], -1e-3 * late * (1 - 1e-5 * 500), rtol=2e-5)


def test_the_encoder_learns_slower_unless_it_starts_from_scratch():
    assert FineTune().training.optimizer["multipliers"] == (("^encoder/", 0.1),)
    whole = from_scratch(steps=1500, batch_size=32)
    assert plain(whole)["optimizer"]["multipliers"] == []
    assert build(whole).training.steps == 1500
