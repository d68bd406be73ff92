import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build
from facerep_jax.evaluation.tasks.age import Age
from facerep_jax.typing import Task
from tests.evaluation.tasks.pooled_features import gradient_of, loss_of, make_encoder, pictures, seen, with_kernel

TRUTH = np.array([20, 31, np.nan, 64], np.float32)


def test_ages_are_learnt_by_squared_error_and_never_below_0():
    task = Age(make_encoder(), image_size=32, label_shape=(), meta={}, rngs=nnx.Rngs(0))
    assert isinstance(task, Task)
    batch = {"age": jnp.asarray(TRUTH)}
    task.calibrate(seen(4), batch)
    np.testing.assert_allclose(task.predict(seen(3, 1), {}), np.full(3, np.nanmean(TRUTH)), rtol=1e-5)
    with_kernel(task)
    found = np.asarray(task.head(seen(4)["image"]))[:, 0]
    expected = np.nanmean(np.square((found - TRUTH) / np.nanstd(TRUTH)))
    assert float(loss_of(task, seen(4), batch)[0]) == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(gradient_of(task, seen(4), batch)).all()
    assert np.asarray(task.predict(seen(60, 2), {})).min() == 0


def test_the_baseline_is_the_median():
    splits = [{"image": pictures(4, seed), "age": TRUTH} for seed in range(3)]
    found = Age.baselines(*splits, {})
    assert found["median"].tolist() == [31] * 4
    assert found["linear_pixels"].shape == (4,)


def test_the_metric_is_in_years():
    metric = build(Age.metric({}))
    assert (metric.columns, metric.measures) == (("mae", "cs_5"), {"mae": "years", "mae_age": "years"})
