"""Planted and seen red: rows of the whole split in place of the subset's, features not rounded where images are encoded
anew.
"""

import numpy as np
import pytest
from flax import nnx

from facerep_jax.evaluation import network
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe, batches_of
from tests.evaluation.problems import HELD_OUT, ROWS, SIZE, Counting, error, mean_shape_error, weights


@pytest.fixture(scope="module")
def probed(problem):
    """What a probe on cached features comes by."""
    return LinearProbe(steps=120, rounds=4, batch_size=16).prepare(problem)(ROWS, HELD_OUT, 0)


def test_a_probe_learns_and_leaves_the_encoder_and_the_disk_as_they_were(problem, probed):
    before = weights(problem)
    assert error(problem, probed.prediction) < 0.85 * mean_shape_error(problem, ROWS)
    again = LinearProbe(steps=120, rounds=4, batch_size=16).prepare(problem)(ROWS, HELD_OUT, 0)
    np.testing.assert_array_equal(again.prediction, probed.prediction)
    assert again.selected == probed.selected
    assert set(probed.selected) == {"validation", "step", "learning_rate"}
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)
    assert not list(problem.folder.iterdir())


@pytest.mark.parametrize("settings", [dict(device_gigabytes=0.0), dict(cache_gigabytes=0.0)])
def test_where_features_lie_makes_no_difference(problem, probed, settings):
    """Gathered on the host, or made anew in each step: the same but for the order of sums."""
    learn = LinearProbe(steps=120, rounds=4, batch_size=16, **settings).prepare(problem)
    other = learn(ROWS, HELD_OUT, 0)
    np.testing.assert_allclose(other.prediction, probed.prediction, atol=2e-3)  # pixels of 32
    assert other.selected["step"] == probed.selected["step"]
    assert other.selected["learning_rate"] == probed.selected["learning_rate"]


def test_rounding_is_what_encoding_anew_would_change(problem, probed, monkeypatch):
    """So that the test above is one of `rounded` too."""
    monkeypatch.setattr(network, "look_rounded", network.look_at_images)
    learn = LinearProbe(steps=120, rounds=4, batch_size=16, cache_gigabytes=0.0).prepare(problem)
    assert np.abs(learn(ROWS, HELD_OUT, 0).prediction - probed.prediction).max() > 2e-3


@pytest.mark.parametrize("device_gigabytes", [2.0, 0.0])
def test_what_a_head_carries_is_carried_and_predicts(counting, device_gigabytes):
    probe = LinearProbe(steps=7, rounds=2, batch_size=4, learning_rates=(1e-3,), device_gigabytes=device_gigabytes)
    outcome = probe.prepare(counting)(ROWS, HELD_OUT, 0)
    assert outcome.selected["step"] == 6  # a multiple of the rounds
    assert "validation" not in outcome.selected
    np.testing.assert_array_equal(outcome.prediction, np.full((24, 68, 2), 6.0))


@pytest.mark.parametrize("cache_gigabytes", [20.0, 0.0])
@pytest.mark.parametrize("what", ["tokens", "cls"])
def test_a_head_that_reads_what_is_not_kept_is_refused_with_the_remedy(counting, what, cache_gigabytes):
    class Reading(Counting):
        def predict(self, seen, batch):
            return super().predict(seen, batch) + 0 * getattr(seen["image"], what).mean()

        def loss(self, seen, views, batch, **keywords):
            self.predict(seen, batch)
            return super().loss(seen, views, batch, **keywords)

    def make_task(seed):
        return Reading(
            counting.encoder, taps=(0.5,), label_shape=(68, 2), image_size=SIZE, meta={}, rngs=nnx.Rngs(seed)
        )

    reading = counting._replace(make_task=make_task, task=make_task(0))
    probe = LinearProbe(steps=2, rounds=1, batch_size=4, learning_rates=(1e-3,), cache_gigabytes=cache_gigabytes)
    learn = probe.prepare(reading)
    with pytest.raises(
        ValueError, match=r"the task reads .* not kept: .* choose a protocol that sees images, such as frozen"
    ):
        learn(ROWS, HELD_OUT, 0)


def test_every_epoch_holds_every_row_once_as_far_as_batches_fill():
    rows = batches_of(10, 4, 6, seed=0)
    assert rows.shape == (6, 4)
    for epoch in np.split(rows, 3):  # two batches of an epoch, two rows left out
        assert len(set(epoch.reshape(-1))) == 8
    assert batches_of(3, 64, 5, seed=0).shape == (5, 3)
    assert (batches_of(10, 4, 6, seed=0) == rows).all()
    assert (batches_of(10, 4, 6, seed=1) != rows).any()


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="rounds of one step at least, not 6 rounds in 3 steps"):
        LinearProbe(steps=3)
    with pytest.raises(ValueError, match="learning_rates is empty"):
        LinearProbe(learning_rates=())
