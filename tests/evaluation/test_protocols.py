import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.data.features import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.models.vit import ViT
from facerep_jax.typing import View

SIZE = 32


@pytest.fixture(scope="module")
def problem():
    dataset = open_dataset("generated_faces:size=48,train=48,validation=16,test=24", "nowhere")
    transforms = build_transforms([spec(CropToBox, size=SIZE, margin=0.2)])
    splits = [load(dataset.source(s), transforms, Landmarks.needs) for s in ("train", "validation", "test")]
    encoder = ViT(
        variant="Nano/8", image_size=SIZE, width=32, depth=2, heads=2, dtype="float32", remat="none", rngs=nnx.Rngs(0)
    )

    def make_task(seed):
        return Landmarks(encoder, taps=(0, 1), image_size=SIZE, meta=dataset.meta, rngs=nnx.Rngs(seed))

    metric = build(Landmarks.metric(dataset.meta))
    return protocols.Problem(encoder, make_task, metric, *splits, dataset.source("train"), transforms)


def error(problem, prediction) -> float:
    metric = problem.metric
    return metric.compute(metric.update(metric.init(), prediction, problem.test))[metric.headline]


def weights(problem) -> list[np.ndarray]:
    return [np.array(x) for x in jax.tree.leaves(nnx.state(problem.encoder))]


def mean_shape_error(problem, rows) -> float:
    mean = np.broadcast_to(problem.train["landmarks"][rows].mean(0), problem.test["landmarks"].shape)
    return error(problem, mean)


def test_cached_features_are_the_encoders_own_up_to_bfloat16(problem, monkeypatch):
    images = problem.train["image"][:10]
    monkeypatch.setattr(protocols, "ROWS", 4)  # so that the last part is filled up
    cached = protocols.cached_features(problem.encoder, images, (0, 1))
    seen = problem.encoder(View(jnp.asarray(images)), taps=(0, 1))
    assert cached["map1"].dtype == jnp.bfloat16
    for name, expected in (("pooled", seen.pooled), ("map0", seen.maps[0]), ("map1", seen.maps[1])):
        assert len(cached[name]) == 10
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(np.asarray(cached[name], np.float32), expected, atol=2**-7 * scale)


def test_a_probe_learns_and_leaves_the_encoder_as_it_was(problem):
    before = weights(problem)
    learn = protocols.LinearProbe(steps=120, rounds=4, batch_size=16).prepare(problem)
    rows = np.arange(48)
    outcome = learn(rows, np.arange(16), 0)
    assert error(problem, outcome.prediction) < 0.85 * mean_shape_error(problem, rows)
    for old, new in zip(before, weights(problem), strict=True):
        np.testing.assert_array_equal(old, new)
    again = learn(rows, np.arange(16), 0)
    np.testing.assert_array_equal(outcome.prediction, again.prediction)
    assert outcome.selected == again.selected


def test_fine_tuning_learns_and_leaves_the_encoder_as_it_was(problem):
    before = weights(problem)
    learn = protocols.FineTune(steps=60, rounds=3, batch_size=16, learning_rate=3e-3).prepare(problem)
    rows = np.arange(48)
    outcome = learn(rows, np.arange(16), 0)
    assert error(problem, outcome.prediction) < 0.9 * mean_shape_error(problem, rows)
    for old, new in zip(before, weights(problem), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_best_on_validation_is_kept(problem):
    best = protocols.Best(problem.metric)
    truth = protocols.take(problem.validation, np.arange(16))
    state = protocols.TrainState(jnp.asarray(1), {"w": jnp.ones(1)}, {}, None, None)
    for step, offset in ((1, 3.0), (2, 1.0), (3, 2.0)):
        best.offer(truth["landmarks"] + offset, truth, state._replace(step=jnp.asarray(step)), learning_rate=0.1)
    assert best.settings["step"] == 2
    assert int(best.state.step) == 2


def test_every_epoch_holds_every_row_once_as_far_as_batches_fill():
    rows = protocols.batches_of(10, 4, 6, seed=0)
    assert rows.shape == (6, 4)
    for epoch in np.split(rows, 3):  # two batches of an epoch, two rows left out
        assert len(set(epoch.reshape(-1))) == 8
    assert protocols.batches_of(3, 64, 5, seed=0).shape == (5, 3)
    assert (protocols.batches_of(10, 4, 6, seed=0) == rows).all()
    assert (protocols.batches_of(10, 4, 6, seed=1) != rows).any()


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="did you mean 'finetune'"):
        protocols.by_name("finetuen")
