"""Planted and seen red: rows of the whole split in place of the subset's, features not rounded where images are encoded
anew.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.data.library import Kept, open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.tasks.landmarks import Landmarks, Regression
from facerep_jax.models.vit import ViT
from facerep_jax.train.state import flat
from facerep_jax.typing import Statistics

SIZE = 32
ROWS, HELD_OUT = np.arange(1, 48), np.arange(16)


def make_encoder(**settings):
    sizes = dict(variant="Nano/8", image_size=SIZE, width=32, depth=2, heads=2)
    return ViT(**sizes, **settings, dtype="float32", remat="none", rngs=nnx.Rngs(0))


class Counting(Landmarks):
    """Landmarks whose prediction is a count of the training steps that were taken, carried as batch statistics are."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.steps = Statistics(jnp.zeros(()))

    def loss(self, seen, views, batch, **keywords):
        self.steps.set_value(self.steps[...] + 1)
        return super().loss(seen, views, batch, **keywords)

    def predict(self, seen, batch):
        return 0 * super().predict(seen, batch) + self.steps[...]


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    dataset = open_dataset("generated_faces:size=48,train=48,validation=16,test=24", "nowhere")
    transforms = build_transforms([spec(CropToBox, size=SIZE, margin=0.2)])
    optional = ("bbox", "landmarks_scale")
    splits = [
        load(dataset.source(s), transforms, Landmarks.needs, optional=optional) for s in ("train", "validation", "test")
    ]
    encoder = make_encoder()

    def make_task(seed):
        settings = dict(taps=(0.5, 1.0), image_size=SIZE, label_shape=(68, 2), meta=dataset.meta)
        return Landmarks(encoder, **settings, rngs=nnx.Rngs(seed))

    metric, folder = build(Landmarks.metric(dataset.meta)), tmp_path_factory.mktemp("cache")
    records = Kept(dataset.source("train"))  # drawn once
    return Problem(encoder, make_task, metric, *splits, records, transforms, folder=folder)


@pytest.fixture(scope="module")
def counting(problem):
    def make_task(seed):
        settings = dict(taps=(0.5,), image_size=SIZE, label_shape=(68, 2), meta={})
        return Counting(problem.encoder, head=spec(Regression, cells=1), **settings, rngs=nnx.Rngs(seed))

    return problem._replace(make_task=make_task, selection="last")


def error(problem, prediction) -> float:
    metric = problem.metric
    return metric.compute(metric.update(metric.init(), prediction, problem.test))[metric.headline]


def weights(problem) -> dict[str, np.ndarray]:
    return {path: np.array(x) for path, x in flat(nnx.to_pure_dict(nnx.state(problem.encoder))).items()}


def mean_shape_error(problem, rows) -> float:
    mean = np.broadcast_to(problem.train["landmarks"][rows].mean(0), problem.test["landmarks"].shape)
    return error(problem, mean)


@pytest.fixture(scope="module")
def probed(problem):
    """What a probe on cached features comes by."""
    return protocols.LinearProbe(steps=120, rounds=4, batch_size=16).prepare(problem)(ROWS, HELD_OUT, 0)


def test_a_probe_learns_and_leaves_the_encoder_and_the_disk_as_they_were(problem, probed):
    before = weights(problem)
    assert error(problem, probed.prediction) < 0.85 * mean_shape_error(problem, ROWS)
    again = protocols.LinearProbe(steps=120, rounds=4, batch_size=16).prepare(problem)(ROWS, HELD_OUT, 0)
    np.testing.assert_array_equal(again.prediction, probed.prediction)
    assert again.selected == probed.selected
    assert set(probed.selected) == {"validation", "step", "learning_rate"}
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)
    assert not list(problem.folder.iterdir())


@pytest.mark.parametrize("settings", [dict(device_gigabytes=0.0), dict(cache_gigabytes=0.0)])
def test_where_features_lie_makes_no_difference(problem, probed, settings):
    """Gathered on the host, or made anew in each step: the same but for the order of sums."""
    learn = protocols.LinearProbe(steps=120, rounds=4, batch_size=16, **settings).prepare(problem)
    other = learn(ROWS, HELD_OUT, 0)
    np.testing.assert_allclose(other.prediction, probed.prediction, atol=2e-3)  # pixels of 32
    assert other.selected["step"] == probed.selected["step"]
    assert other.selected["learning_rate"] == probed.selected["learning_rate"]


def test_rounding_is_what_encoding_anew_would_change(problem, probed, monkeypatch):
    """So that the test above is one of `rounded` too."""
    monkeypatch.setattr(protocols, "look_rounded", protocols.look_at_images)
    learn = protocols.LinearProbe(steps=120, rounds=4, batch_size=16, cache_gigabytes=0.0).prepare(problem)
    assert np.abs(learn(ROWS, HELD_OUT, 0).prediction - probed.prediction).max() > 2e-3


def test_a_frozen_encoder_sees_augmented_images_and_learns_nothing(problem):
    before = weights(problem)
    dropping = problem._replace(encoder=make_encoder(drop_path=0.9))  # which it must not do
    settings = dict(steps=60, rounds=3, batch_size=16, learning_rate=5e-3, warmup_steps=0)
    outcomes = [protocols.FrozenEncoder(**settings).prepare(p)(ROWS, HELD_OUT, 0) for p in (problem, dropping)]
    assert error(problem, outcomes[0].prediction) < 0.9 * mean_shape_error(problem, ROWS)
    np.testing.assert_array_equal(outcomes[0].prediction, outcomes[1].prediction)
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)
    shifted = problem._replace(transforms=build_transforms([spec(CropToBox, size=SIZE, margin=0.2, shift=0.3)]))
    augmented = protocols.FrozenEncoder(**settings).prepare(shifted)(ROWS, HELD_OUT, 0)
    assert np.abs(augmented.prediction - outcomes[0].prediction).max() > 0.1


def test_fine_tuning_learns_and_leaves_the_encoder_as_it_was(problem):
    before = weights(problem)
    learn = protocols.FineTune(steps=60, rounds=3, batch_size=16, learning_rate=3e-3).prepare(problem)
    outcome = learn(ROWS, HELD_OUT, 0)
    assert error(problem, outcome.prediction) < 0.9 * mean_shape_error(problem, ROWS)
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [
        (protocols.LinearProbe, dict(learning_rates=(1e-3,))),
        (protocols.LinearProbe, dict(learning_rates=(1e-3,), device_gigabytes=0.0)),
        (protocols.FrozenEncoder, {}),
        (protocols.FineTune, {}),
    ],
)
def test_what_a_head_carries_is_carried_and_predicts(counting, protocol, settings):
    outcome = protocol(steps=7, rounds=2, batch_size=4, **settings).prepare(counting)(ROWS, HELD_OUT, 0)
    assert outcome.selected["step"] == 6  # a multiple of the rounds
    assert "validation" not in outcome.selected
    np.testing.assert_array_equal(outcome.prediction, np.full((24, 68, 2), 6.0))


@pytest.mark.parametrize("protocol", [protocols.FrozenEncoder, protocols.FineTune])
def test_the_average_of_what_is_carried_predicts(counting, protocol):
    """By FaRL's rule: from a copy of the start, average = decay average + (1 - decay) value after every step."""
    average = 0.0
    for step in range(1, 7):
        average = 0.9 * average + 0.1 * step
    outcome = protocol(steps=6, rounds=2, batch_size=4, ema=0.9).prepare(counting)(ROWS, HELD_OUT, 0)
    np.testing.assert_allclose(outcome.prediction, np.full((24, 68, 2), average), rtol=1e-5)


def test_the_average_of_the_weights_predicts(problem):
    """With a decay so near one that the average stays at the start, where the head is the mean shape."""
    last = problem._replace(selection="last")
    settings = dict(steps=30, rounds=1, batch_size=16, learning_rate=3e-3, ema=1 - 1e-7)
    outcome = protocols.FineTune(**settings).prepare(last)(ROWS, HELD_OUT, 0)
    assert error(problem, outcome.prediction) == pytest.approx(mean_shape_error(problem, ROWS), rel=1e-3)


def test_farls_groups_can_be_said():
    """Learning rates of 1e-4 (encoder) and 1e-3 (head), decay of 1e-5 on all, no warm-up, a tenth after 2/3 of it."""
    farl = dict(weight_decay=1e-5, decayed=".", warmup_steps=0, clip_norm=0.0, schedule="steps", ema=0.999)
    protocol = protocols.FineTune(
        steps=300, batch_size=40, learning_rate=1e-3, encoder_multiplier=0.1, milestones=(2 / 3,), **farl
    )
    params = {"encoder": {"bias": jnp.full(3, 500.0)}, "objective": {"kernel": jnp.full(3, -500.0)}}
    gradient = {"encoder": {"bias": jnp.full(3, 1e3)}, "objective": {"kernel": jnp.full(3, 1e3)}}
    state, update_of = protocol.optimizer.init(params), jax.jit(protocol.optimizer.update)
    for step in range(300):
        update, state = update_of(gradient, state, params)
        if step in (0, 199, 200, 299):
            late = 0.1 if step >= 200 else 1.0  # the step that follows 200 others
            np.testing.assert_allclose(update["encoder"]["bias"], -1e-4 * late * (1 + 1e-5 * 500), rtol=2e-5)
            np.testing.assert_allclose(update["objective"]["kernel"], -1e-3 * late * (1 - 1e-5 * 500), rtol=2e-5)


def test_every_epoch_holds_every_row_once_as_far_as_batches_fill():
    rows = protocols.batches_of(10, 4, 6, seed=0)
    assert rows.shape == (6, 4)
    for epoch in np.split(rows, 3):  # two batches of an epoch, two rows left out
        assert len(set(epoch.reshape(-1))) == 8
    assert protocols.batches_of(3, 64, 5, seed=0).shape == (5, 3)
    assert (protocols.batches_of(10, 4, 6, seed=0) == rows).all()
    assert (protocols.batches_of(10, 4, 6, seed=1) != rows).any()


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="did you mean 'finetune'"):
        protocols.by_name("finetuen")
    with pytest.raises(ValueError, match="rounds of one step at least, not 6 rounds in 3 steps"):
        protocols.LinearProbe(steps=3)
    with pytest.raises(ValueError, match="learning_rates is empty"):
        protocols.LinearProbe(learning_rates=())
    with pytest.raises(ValueError, match=r"at least 0 and below 1, not 1\.0"):
        protocols.FrozenEncoder(ema=1.0)
    with pytest.raises(ValueError, match="schedule is cosine or steps, not 'step'"):
        protocols.FineTune(schedule="step")
