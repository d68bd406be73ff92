import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, plain, spec
from facerep_jax.evaluation.protocols.ridge import head_of
from facerep_jax.evaluation.tasks.attributes import Attributes
from facerep_jax.models import pooled
from facerep_jax.typing import Task
from tests.evaluation.tasks.pooled_features import gradient_of, loss_of, make_encoder, pictures, seen, with_kernel

META = {"attributes": ["beard", "hat", "glasses"]}
TRUTH = np.array([[1, 0, np.nan], [-1, 0, 1], [1, 1, 0], [0, 0, -1]], np.float32)


def make(**settings):
    return Attributes(make_encoder(), label_shape=(3,), image_size=32, meta=META, rngs=nnx.Rngs(0), **settings)


def test_the_loss_is_cross_entropy_over_attributes_that_are_known():
    task = make()
    assert isinstance(task, Task)
    task.calibrate(seen(4), {"attributes": jnp.asarray(TRUTH)})
    with_kernel(task)
    loss, metrics = loss_of(task, seen(4), {"attributes": jnp.asarray(TRUTH)})
    scores, known = np.asarray(task.predict(seen(4), {}), np.float64), TRUTH >= 0
    p = 1 / (1 + np.exp(-scores[known]))
    assert float(loss) == pytest.approx(-np.where(TRUTH[known] > 0.5, np.log(p), np.log(1 - p)).mean(), rel=1e-5)
    assert float(metrics["known"]) == pytest.approx(9 / 12)
    nobody = TRUTH.copy()
    nobody[:, 1] = np.nan
    gradient = gradient_of(task, seen(4), {"attributes": jnp.asarray(nobody)})
    assert not gradient[:, 1].any()
    assert gradient[:, 0].all()


def test_ridge_solves_for_the_linear_head_alone():
    head = head_of(make())
    _, targets, weights = head.equations(seen(4)["image"].at(()), jnp.asarray(TRUTH))
    np.testing.assert_array_equal(weights[:, 0], TRUTH >= 0)
    np.testing.assert_array_equal(
        np.where(TRUTH >= 0, targets[:, 0], 0), [[1, -1, 0], [0, -1, 1], [1, 1, -1], [-1, -1, 0]]
    )
    with pytest.raises(ValueError, match=r"protocol=ridge solves for a linear head, .* and Layers is none"):
        head_of(make(taps=(0.5, 1.0), head=plain(spec(pooled.Layers))))


def test_baselines_are_what_most_have_and_what_pixels_tell():
    train = {"image": pictures(4), "attributes": TRUTH}
    split = {"image": pictures(3, 1), "attributes": TRUTH[:3]}
    found = Attributes.baselines(train, split, split, META)
    np.testing.assert_allclose(found["most_frequent"][1], [1 / 3, -0.5, 0], atol=1e-6)  # means of yes, 1, and no, -1
    assert found["linear_pixels"].shape == (3, 3)


def test_the_metric_has_the_names_of_the_attributes():
    metric = build(Attributes.metric(META))
    assert (metric.headline, metric.labels, metric.key) == ("accuracy_mean", ("beard", "hat", "glasses"), "attributes")
    with pytest.raises(ValueError, match=r"put `attributes` into faces.meta.json"):
        Attributes.metric({})
