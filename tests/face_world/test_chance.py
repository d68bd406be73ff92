"""Random numbers and paths."""

import numpy as np
import pytest

from facerep_jax.face_world.chance import Dice, Paths


def test_dice_depend_on_their_seed_alone():
    one, other = Dice(1, 2), Dice(1, 2)
    assert [one.between(0, 1) for _ in range(300)] == [other.between(0, 1) for _ in range(300)]
    assert Dice(1, 2).between(0, 1) != Dice(2, 1).between(0, 1)


def test_dice_keep_to_bounds_and_weights():
    dice = Dice(0)
    values = np.array([dice.between(-2, 3) for _ in range(4000)])
    assert -2 <= values.min() < -1.98
    assert 2.98 < values.max() < 3
    assert np.abs(np.array([dice.normal(1, 5, 0, 2) for _ in range(200)]) - 1).max() == 1
    counts = np.bincount([dice.weighted((0, 1, 2), (1, 0, 3)) for _ in range(4000)], minlength=3)
    assert counts[1] == 0
    assert abs(counts[0] / 4000 - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert abs(np.mean([dice.happens(0.3) for _ in range(4000)]) - 0.3) < 4 * np.sqrt(0.21 / 4000)


@pytest.mark.parametrize("correlation", [2.0, 8.0])
def test_paths_are_normal_with_the_asked_correlation(correlation):
    """Test 400 seeds of 10 paths; bounds are 4.5 standard errors, so that 1 seed in 10,000 would fail."""
    count = 4000
    lags = (0.0, 1.0, correlation / 2, correlation, 2 * correlation)
    values = np.array(
        [[paths.at(5 + lag) for lag in lags] for paths in (Paths(10, correlation, i) for i in range(400))]
    )
    values = values.transpose(1, 0, 2).reshape(len(lags), count)
    for lag, later in zip(lags, values, strict=True):
        expected = np.exp(-((lag / correlation) ** 2))
        error = np.sqrt((1 + expected**2) / count)
        assert abs((values[0] * later).mean() - expected) < 4.5 * error, lag
    assert abs(values.mean()) < 4.5 / np.sqrt(count)
    assert abs((values[0] ** 4).mean() - 3) < 4.5 * np.sqrt(96 / count)  # of a normal distribution


def test_paths_are_smooth_and_independent():
    paths = Paths(2, 8.0, 3)
    fine = np.array([paths.at(t / 50) for t in range(2000)])
    assert np.abs(np.diff(fine, axis=0)).max() < 0.03
    many = np.array([Paths(2, 8.0, i).at(0) for i in range(2000)])
    assert abs(np.corrcoef(many.T)[0, 1]) < 4.5 / np.sqrt(2000)
