"""SGD as torch has it, by NumPy. Planted and seen red: a learning rate before the momentum."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facerep_jax.config import spec
from facerep_jax.train.sgd import sgd, straight

PARAMS = {"kernel": np.array([1.0, -2.0]), "predictor": {"kernel": np.array([0.5])}, "bias": np.array([3.0])}


def run(optimizer, steps):
    params = {"kernel": jnp.asarray(PARAMS["kernel"]), "predictor": {"kernel": jnp.asarray([0.5])}, "bias": jnp.ones(1)}
    state, rng, gradients = optimizer.transform.init(params), np.random.default_rng(0), []
    for _ in range(steps):
        g = {"kernel": rng.normal(size=2), "predictor": {"kernel": rng.normal(size=1)}, "bias": rng.normal(size=1)}
        updates, state = optimizer.transform.update(optax.tree.cast(g, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        gradients.append(g)
    return params, gradients


def test_steps_are_those_of_torch():
    settings = dict(weight_decay=0.1, decayed="kernel$", steady="^predictor", momentum=0.9)
    optimizer = sgd(learning_rate=0.4, schedule=spec(straight), **settings, steps=4)
    found, gradients = run(optimizer, 3)
    kernel, bias, steady = np.array([1.0, -2.0]), np.ones(1), np.array([0.5])
    velocity = [np.zeros(2), np.zeros(1), np.zeros(1)]
    for step, g in enumerate(gradients):
        rate = 0.4 * (1 - step / 4)
        velocity[0] = 0.9 * velocity[0] + g["kernel"] + 0.1 * kernel
        velocity[1] = 0.9 * velocity[1] + g["bias"]
        velocity[2] = 0.9 * velocity[2] + g["predictor"]["kernel"] + 0.1 * steady
        kernel, bias, steady = kernel - rate * velocity[0], bias - rate * velocity[1], steady - 0.4 * velocity[2]
    np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(found["bias"], bias, rtol=1e-5)
    np.testing.assert_allclose(found["predictor"]["kernel"], steady, rtol=1e-5)


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(ValueError, match=r"optimizer\.steady has 'predicter', which matches no parameter"):
        run(sgd(steady="predicter", steps=4), 1)
