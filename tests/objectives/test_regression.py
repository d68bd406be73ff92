"""Numbers by their definition. Planted and seen red: missing ones that count; an error in other units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.objectives.regression import Regression
from facerep_jax.typing import Features
from tests.objectives import crops


@pytest.mark.parametrize("truth", [np.array([20, np.nan, 60, 35], np.float32), np.array([20, -1, 60, 35], np.int32)])
def test_the_loss_is_the_absolute_error_of_known_numbers(truth):
    model = crops.model(Regression, label="age", mean=35.0, unit=20.0)
    pooled = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    seen, batch = {"image": Features(pooled, pooled[:, None])}, {"age": jnp.asarray(truth)}
    keys = jax.random.split(jax.random.key(0), 4)
    loss, metrics = model.objective.loss(seen, {}, batch, encoder=model.encoder, step=jnp.int32(0), rng=keys)
    found = 35 + 20 * crops.linear(model.objective.head, np.asarray(pooled, np.float64))[:, 0]
    error = np.abs(found - truth)[[0, 2, 3]].mean()
    assert float(metrics["mean_absolute_error"]) == pytest.approx(error, rel=1e-5)
    assert float(loss) == pytest.approx(error / 20, rel=1e-5)
    assert float(metrics["labelled"]) == 0.75


def test_a_unit_of_nothing_is_named():
    with pytest.raises(ValueError, match="the unit of age is above 0, not 0"):
        crops.model(Regression, label="age", unit=0.0)
