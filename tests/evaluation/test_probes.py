"""Closed-form probes, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from facerep_jax.evaluation import probes
from facerep_jax.evaluation.probes import PENALTIES, PROBES, Seen, ridge


def drawn(n, d, seed=0):
    rng = np.random.default_rng(seed)
    x, new = rng.normal(2, 1, (n, d)), rng.normal(2, 1, (7, d))
    return x, x @ rng.normal(size=(d, 4)) + rng.normal(0, 3, (n, 4)) + 5, new


def sklearn_s(x, y, new):
    """Ridge regression by the penalty that leaving out each example in turn chooses."""
    scale = np.square(x - x.mean(0)).sum() / len(x)

    def error(penalty):
        left_out = [
            Ridge(penalty, solver="svd").fit(np.delete(x, i, 0), np.delete(y, i, 0)).predict(x[[i]])[0] - y[i]
            for i in range(len(x))
        ]
        return np.square(left_out).sum()

    best = min((penalty * scale for penalty in PENALTIES), key=error)
    return Ridge(best, solver="svd").fit(x, y).predict(new)


@pytest.mark.parametrize(("n", "d"), [(30, 50), (60, 20)])
def test_ridge_is_scikit_learn_s_by_the_penalty_of_leave_one_out(n, d):
    x, y, new = drawn(n, d)
    np.testing.assert_allclose(ridge(x, y, new), sklearn_s(x, y, new), rtol=1e-9)


def test_values_that_are_not_known_are_left_out():
    x, y, new = drawn(40, 10)
    y[:9, :2] = np.nan
    expected = np.concatenate([sklearn_s(x[9:], y[9:, :2], new), sklearn_s(x, y[:, 2:], new)], axis=1)
    np.testing.assert_allclose(ridge(x, y, new), expected, rtol=1e-9)
    y[1:, 0] = np.nan
    y[0, 0] = 3.0
    np.testing.assert_array_equal(ridge(x, y, new)[:, 0], 3.0)  # one example is its own mean


def seen(pooled, labels, grid=None, meta=None):
    return Seen(np.asarray(pooled), np.asarray(pooled if grid is None else grid), labels, meta or {})


def test_nearest_neighbours_show_the_same_person():
    angles = np.array([0, 1, 40, 42, 90, 94, 130, 133, 170, 175, 200, 300])  # degrees
    pooled = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], 1) * angles[:, None].clip(1)
    person = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, -1])  # the last two have no other
    assert probes.identity(seen(pooled, {}), seen(pooled, {"identity": person})) == 1.0
    person[[1, 3]] = 1, 0
    assert probes.identity(seen(pooled, {}), seen(pooled, {"identity": person})) == 0.6
    few = seen(pooled[:4], {"identity": person[:4]})
    assert probes.identity(few, few) is None


def test_attributes_that_vary_are_scored_by_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(50, 6)), rng.normal(size=(40, 6))
    w = rng.normal(size=(6, 3))
    known, truth = ((each @ w + rng.normal(0, 1, (len(each), 3)) > 0).astype(np.float32) for each in (x, new))
    known[:, 2] = 1  # one without negatives
    truth[3, 0] = np.nan
    found = probes.attributes(seen(x, {"attributes": known}), seen(new, {"attributes": truth}))
    there = np.isfinite(truth[:, 0])
    predicted = ridge(x, known[:, :2], new)
    expected = [roc_auc_score(truth[there, 0], predicted[there, 0]), roc_auc_score(truth[:, 1], predicted[:, 1])]
    assert found == pytest.approx(np.mean(expected))
    assert probes.attributes(seen(x, {"attributes": known[:, 2:]}), seen(new, {"attributes": truth[:, 2:]})) is None


def test_landmarks_are_scored_by_the_error_of_the_data_set():
    x, y, new = drawn(40, 30)
    truth = drawn(7, 4, seed=3)[1].reshape(7, 2, 2) * 10
    labels = {"landmarks": truth, "id": [*"abcdefg"], "bbox": np.tile([0.0, 0, 20, 45], (7, 1))}
    found = probes.landmarks(seen(x, {"landmarks": y.reshape(-1, 2, 2)}), seen(new, labels))
    error = np.linalg.norm(ridge(x, y, new).reshape(7, 2, 2) - truth, axis=-1).mean() / 30
    assert found == pytest.approx(error)
    missing = np.full((40, 2, 2), np.nan)
    assert probes.landmarks(seen(x, {"landmarks": missing}), seen(new, labels)) is None
    assert [*PROBES] == ["landmarks", "identity", "attributes"]
