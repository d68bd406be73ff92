"""Attributes by their definition. Planted and seen red: missing ones that count as 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.objectives.attributes import Attributes
from facerep_jax.typing import Features
from tests.objectives import crops

TRUTH = np.array([[1, 0, np.nan], [0, np.nan, 1], [np.nan] * 3, [1, 1, 1]], np.float32)


def run(truth, count=3):
    model = crops.model(Attributes, count=count)
    pooled = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    seen, batch = {"image": Features(pooled, pooled[:, None])}, {"attributes": jnp.asarray(truth)}
    keys = jax.random.split(jax.random.key(0), 4)
    found = model.objective.loss(seen, {}, batch, encoder=model.encoder, step=jnp.int32(0), rng=keys)
    return found, crops.linear(model.objective.head, np.asarray(pooled, np.float64))


def test_the_loss_is_over_known_attributes():
    (loss, metrics), logits = run(TRUTH)
    known = np.isfinite(TRUTH)
    p = 1 / (1 + np.exp(-logits))
    losses = -np.where(TRUTH == 1, np.log(p), np.log(1 - p))[known]
    assert float(loss) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(((logits > 0) == (TRUTH == 1))[known].mean())
    assert float(run(np.full_like(TRUTH, np.nan))[0][0]) == 0


def test_another_number_of_attributes_is_named():
    with pytest.raises(ValueError, match="the head has 5 attributes, the data set 3: set `count` to that"):
        run(TRUTH, count=5)
