"""Reference: SciPy's rotations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from facerep_jax.data.pose import rotations
from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.pose_metrics import Angles
from facerep_jax.typing import Metric


def drawn(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform([-90, -60, -170], [90, 60, 170], (n, 3))


def test_errors_are_by_definition():
    truth = drawn().astype(np.float32)
    predicted = truth + np.random.default_rng(1).normal(0, 25, truth.shape)
    truth[3] = np.nan
    metric = Angles()
    assert isinstance(metric, Metric)
    split = {"id": [f"face_{i}" for i in range(40)], "head_pose": truth}
    weights = np.stack([np.ones(40), np.bincount(np.random.default_rng(2).integers(40, size=40), minlength=40)])
    found = metric.compute(metric.rows(predicted, split).statistics, weights.astype(np.float64))
    for row, w in enumerate(weights.astype(int)):
        apart, turned = [], []
        for index in np.repeat(np.arange(40), w):
            if np.isnan(truth[index]).any():
                continue
            off = [abs(a - b) for a, b in zip(predicted[index], truth[index].astype(np.float64), strict=True)]
            apart.append([min(angle, 360 - angle) for angle in off])
            one, other = (Rotation.from_matrix(rotations(x)) for x in (predicted[index], truth[index].astype(float)))
            turned.append(np.degrees((one * other.inv()).magnitude()))
        errors = np.mean(apart, axis=0)
        assert found["mae_mean"][row] == pytest.approx(errors.mean())
        assert [found[f"mae_{name}"][row] for name in ("yaw", "pitch", "roll")] == pytest.approx(errors.tolist())
        assert found["geodesic"][row] == pytest.approx(np.mean(turned))
        assert found["images"][row] == len(apart)


def test_by_hand():
    truth = np.array([[0.0, 0, 0], [0, 0, 175]])
    split = {"id": ["a", "b"], "head_pose": truth}
    found = score(Angles(), Angles().rows(np.array([[30.0, 0, 0], [0, 0, -175]]), split).statistics)
    assert found["mae_yaw"] == pytest.approx(15)
    assert found["mae_roll"] == pytest.approx(5)  # the short way round
    assert found["geodesic"] == pytest.approx(20)
    nobody = score(Angles(), Angles().rows(truth, {"id": ["a", "b"], "head_pose": np.full((2, 3), np.nan)}).statistics)
    assert np.isnan(nobody["mae_mean"])
    with pytest.raises(ValueError, match=r"predicted angles are \(2, 2\)"):
        Angles().rows(truth[:, :2], split)
