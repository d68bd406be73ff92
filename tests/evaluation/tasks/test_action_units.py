import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build
from facerep_jax.evaluation.tasks.action_units import Detection, Intensity, Occurrence
from facerep_jax.typing import Task
from tests.evaluation.tasks.pooled_features import gradient_of, loss_of, make_encoder, pictures, seen, with_kernel

META = {"action_units": ["AU1", "AU12"]}
RNG = np.random.default_rng(0)
TRUTH = np.array([[0, 5], [2, np.nan], [1, 3], [4, 0]], np.float32)


def make(task_class):
    return task_class(make_encoder(), label_shape=(2,), image_size=32, meta=META, rngs=nnx.Rngs(0))


def test_the_loss_of_intensity_is_the_squared_error_in_deviations():
    task = make(Intensity)
    assert isinstance(task, Task)
    batch = {"action_units": jnp.asarray(TRUTH)}
    task.calibrate(seen(4), batch)
    np.testing.assert_allclose(task.predict(seen(3, 1), {})[2], np.nanmean(TRUTH, 0), rtol=1e-5)
    assert float(loss_of(task, seen(4), batch)[0]) == pytest.approx(1, rel=1e-3)  # that of the mean
    with_kernel(task)
    found = np.asarray(task.head(seen(4)["image"]))
    error = np.nanmean(np.square((found - TRUTH) / np.nanstd(TRUTH, 0)))
    loss, metrics = loss_of(task, seen(4), batch)
    assert float(loss) == pytest.approx(error, rel=1e-3)
    assert float(metrics["known"]) == 7 / 8
    assert np.isfinite(gradient_of(task, seen(4), batch)).all()


def test_intensities_are_from_0_to_5():
    task = make(Intensity)
    task.calibrate(seen(4), {"action_units": jnp.asarray(TRUTH)})
    found = np.asarray(with_kernel(task).predict(seen(50, 2), {}))
    assert (found.min(), found.max()) == (0, 5)


def test_a_unit_occurs_from_an_intensity_on():
    example = Occurrence(least=2.0)({"action_units": np.array([0, 1.9, 2, 5, np.nan], np.float32)}, RNG)
    np.testing.assert_array_equal(example["action_units"], np.array([0, 0, 1, 1, np.nan], np.float32))
    assert Occurrence()({"image": 1}, RNG) == {"image": 1}  # what is missing is named by what needs it


def test_detection_learns_yes_and_no():
    task = make(Detection)
    assert isinstance(task, Task)
    batch = {"action_units": jnp.asarray(np.where(np.isnan(TRUTH), TRUTH, TRUTH >= 2), jnp.float32)}
    task.calibrate(seen(4), batch)
    assert float(loss_of(task, seen(4), batch)[0]) == pytest.approx(np.log(2))
    with_kernel(task)
    scores = np.asarray(task.predict(seen(4), {}), np.float64)
    known = np.isfinite(TRUTH)
    p = 1 / (1 + np.exp(-scores[known]))
    expected = -np.where(TRUTH[known] >= 2, np.log(p), np.log(1 - p)).mean()
    assert float(loss_of(task, seen(4), batch)[0]) == pytest.approx(expected, rel=1e-5)


def test_baselines_need_no_encoder():
    splits = [{"image": pictures(4, seed), "action_units": TRUTH} for seed in range(3)]
    found = Intensity.baselines(*splits, META)
    np.testing.assert_allclose(found["mean"][3], np.nanmean(TRUTH, 0))
    assert 0 <= found["linear_pixels"].min() <= found["linear_pixels"].max() <= 5
    assert (Detection.baselines(*splits, META)["always"] == 1).all()


def test_metrics_have_the_names_of_the_units():
    assert build(Intensity.metric(META)).columns == ("icc_mean", "mse_mean", "mae_mean")
    metric = build(Detection.metric(META))
    assert (metric.headline, metric.key, metric.labels) == ("f1_mean", "action_units", ("AU1", "AU12"))
    for task in (Intensity, Detection):
        with pytest.raises(ValueError, match=r"put `action_units` into faces.meta.json"):
            task.metric({})
