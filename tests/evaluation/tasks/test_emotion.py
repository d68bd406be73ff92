import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build
from facerep_jax.evaluation.tasks.emotion import Affect, Circumplex, Expression
from facerep_jax.typing import Task
from tests.evaluation.tasks.pooled_features import gradient_of, loss_of, make_encoder, pictures, seen, with_kernel

META = {"expressions": ["calm", "glad", "sad"]}
RNG = np.random.default_rng(0)
TRUTH = np.array([[0.5, -0.2], [np.nan, 0.1], [-0.4, 0.8], [0.9, np.nan], [0.2, 0.3]], np.float32)


def make(task_class):
    label_shape = (2,) if task_class is Affect else ()
    return task_class(make_encoder(), image_size=32, label_shape=label_shape, meta=META, rngs=nnx.Rngs(0))


def test_the_loss_of_affect_is_squared_error_and_discordance():
    task = make(Affect)
    assert isinstance(task, Task)
    batch = {"affect": jnp.asarray(TRUTH)}
    task.calibrate(seen(5), batch)
    np.testing.assert_allclose(task.predict(seen(2, 1), {})[0], np.nanmean(TRUTH, 0), rtol=1e-5)
    assert float(loss_of(task, seen(5), batch)[1]["discordance"]) == pytest.approx(1, abs=1e-4)  # constant
    with_kernel(task)
    found = np.asarray(task.head(seen(5)["image"]), np.float64)
    loss, metrics = loss_of(task, seen(5), batch)
    assert float(metrics["squared"]) == pytest.approx(np.nanmean(np.square(found - TRUTH)), rel=1e-4)
    assert float(loss) == pytest.approx(float(metrics["squared"] + metrics["discordance"]), rel=1e-6)
    assert np.isfinite(gradient_of(task, seen(5), batch)).all()
    predicted = np.asarray(task.predict(seen(60, 3), {}))
    assert (predicted.min(), predicted.max()) == (-1, 1)


def test_valence_and_arousal_are_put_side_by_side():
    example = Circumplex()({"valence": np.float32(0.5), "arousal": np.float32(np.nan)}, RNG)
    np.testing.assert_array_equal(example["affect"], np.array([0.5, np.nan], np.float32))
    with pytest.raises(ValueError, match="emotion needs the feature 'arousal'; the records have: valence"):
        Circumplex()({"valence": np.float32(0.5)}, RNG)


def test_the_loss_of_expression_is_cross_entropy_of_known_classes():
    task = make(Expression)
    assert isinstance(task, Task)
    truth = np.array([2, -1, 0, 1])
    batch = {"expression": jnp.asarray(truth)}
    task.calibrate(seen(4), batch)
    with_kernel(task)
    scores = np.asarray(task.head(seen(4)["image"]), np.float64)
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -log_p[[0, 2, 3], [2, 0, 1]].mean()
    loss, metrics = loss_of(task, seen(4), batch)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["known"]) == 0.75
    np.testing.assert_array_equal(task.predict(seen(4), {}), scores.argmax(1))
    with pytest.raises(ValueError, match="none of 4 training examples has a known label"):
        task.calibrate(seen(4), {"expression": jnp.full(4, -1)})


def test_baselines_need_no_encoder():
    splits = [
        {"image": pictures(5, seed), "affect": TRUTH, "expression": np.array([1, 1, -1, 2, 0])} for seed in range(3)
    ]
    found = Affect.baselines(*splits, META)
    np.testing.assert_allclose(found["mean"][4], np.nanmean(TRUTH, 0), rtol=1e-6)
    assert np.abs(found["linear_pixels"]).max() <= 1
    found = Expression.baselines(*splits, META)
    assert found["most_frequent"].tolist() == [1] * 5
    assert {*found["linear_pixels"].tolist()} <= {0, 1, 2}


def test_metrics_are_those_of_the_data_set():
    assert build(Affect.metric({})).columns == ("ccc_mean", "pcc_mean", "rmse_mean", "sagr_mean")
    assert build(Expression.metric(META)).classes == ("calm", "glad", "sad")
    with pytest.raises(ValueError, match=r"put `expressions` into faces.meta.json"):
        Expression.metric({})
