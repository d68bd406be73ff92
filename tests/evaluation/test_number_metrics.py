"""Reference: loops from the definitions, SciPy and scikit-learn; a bootstrap draw counts as its rows repeated.

Planted and seen red: variances with n - 1 in the CCC, the tolerance of CS taken as a bound that is not reached.
"""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, mean_squared_error

from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.number_metrics import KINDS, Numbers
from facerep_jax.typing import Metric

UNITS = ("AU1", "AU12")
ALL = tuple(KINDS)


def named(n, **labels):
    return {"id": [f"face_{i}" for i in range(n)], **labels}


def icc_by_mean_squares(y, p):
    """ICC(3,1) of two raters by Shrout and Fleiss's mean squares, (BMS - EMS) / (BMS + (k - 1) EMS), in loops."""
    ratings = np.stack([y, p], axis=1)
    n, k = ratings.shape
    grand = ratings.mean()
    between = sum(k * (row.mean() - grand) ** 2 for row in ratings) / (n - 1)
    raters = [column.mean() for column in ratings.T]
    residual = 0.0
    for row in ratings:
        for value, rater in zip(row, raters, strict=True):
            residual += (value - row.mean() - rater + grand) ** 2
    error = residual / ((n - 1) * (k - 1))
    return (between - error) / (between + (k - 1) * error)


def ccc_by_definition(y, p):
    """As emonet has it: 2 rho s_p s_y / (s_p² + s_y² + (mean_p - mean_y)²), population deviations."""
    return 2 * pearsonr(y, p)[0] * y.std() * p.std() / (y.var() + p.var() + (y.mean() - p.mean()) ** 2)


def sagr_in_a_loop(y, p):
    return np.mean([np.sign(a) == np.sign(b) for a, b in zip(y, p, strict=True)])


REFERENCES = {
    "icc": icc_by_mean_squares,
    "ccc": ccc_by_definition,
    "pcc": lambda y, p: pearsonr(y, p)[0],
    "mse": mean_squared_error,
    "rmse": lambda y, p: mean_squared_error(y, p) ** 0.5,
    "mae": mean_absolute_error,
    "sagr": sagr_in_a_loop,
    "cs": lambda y, p: np.mean([abs(a - b) <= 0.5 for a, b in zip(y, p, strict=True)]),
}


def drawn(n=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.3, 1.2, (n, 2)).astype(np.float32)
    predicted = (0.6 * truth + rng.normal(0.2, 0.5, (n, 2))).astype(np.float32)
    truth[rng.random((n, 2)) < 0.2] = np.nan
    weights = np.stack([np.ones(n), *(np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(2))])
    return predicted, truth, weights.astype(np.float64)


def test_each_kind_is_its_definition():
    predicted, truth, weights = drawn()
    metric = Numbers(UNITS, "action_units", ALL, tolerance=0.5)
    assert isinstance(metric, Metric)
    found = metric.compute(metric.rows(predicted, named(60, action_units=truth)).statistics, weights)
    for row, w in enumerate(weights):
        again = np.repeat(np.arange(60), w.astype(int))
        for kind, reference in REFERENCES.items():
            called, values = "cs_0.5" if kind == "cs" else kind, []
            for place, unit in enumerate(UNITS):
                known = again[np.isfinite(truth[again, place])]
                y, p = truth[known, place].astype(np.float64), predicted[known, place].astype(np.float64)
                values.append(reference(y, p))
                assert found[f"{called}_{unit}"][row] == pytest.approx(values[-1], rel=1e-9), (kind, unit)
            assert found[f"{called}_mean"][row] == pytest.approx(np.mean(values), rel=1e-9)
        assert found["images"][row] == np.isfinite(truth[again]).any(1).sum()


def test_numbers_by_hand():
    metric = Numbers(("age",), "age", ("mae", "cs"), unit="years", tolerance=5.0)
    found = score(
        metric, metric.rows(np.array([25.0, 45, 30, 9]), named(4, age=np.array([20, 51, 30, np.nan]))).statistics
    )
    assert found == {"mae": pytest.approx(11 / 3), "cs_5": pytest.approx(2 / 3), "images": 3}
    assert (metric.headline, metric.lower_is_better, metric.per_row) == ("mae", True, True)
    assert metric.measures["mae"] == "years"
    assert "cs_5" not in metric.measures  # a share
    offset = Numbers(("v",), "v", ("icc", "ccc"))
    y = np.array([0.0, 1, 2])
    found = score(offset, offset.rows(y + 1, named(3, v=y)).statistics)
    assert found["icc"] == pytest.approx(1)  # blind to an offset
    assert found["ccc"] == pytest.approx(2 * (2 / 3) / (4 / 3 + 1))


def test_icc_and_ccc_are_one_where_the_means_are_equal():
    """And by its closed form: ICC(3,1) = 2 cov / (var + var), whatever the means."""
    rng = np.random.default_rng(5)
    y, p = rng.normal(size=(2, 40))
    metric = Numbers(("v",), "v", ("icc", "ccc"))
    for shift in (0.0, 0.8):
        predicted = p - p.mean() + y.mean() + shift
        found = score(metric, metric.rows(predicted, named(40, v=y)).statistics)
        covariance = np.cov(y, predicted)
        closed = 2 * covariance[0, 1] / np.trace(covariance)
        assert found["icc"] == pytest.approx(closed, rel=1e-9) == pytest.approx(icc_by_mean_squares(y, predicted))
        assert (found["ccc"] == pytest.approx(found["icc"], rel=1e-9)) == (shift == 0)


@pytest.mark.parametrize("constant", [0.0, 0.1, 31.7])
def test_a_constant_prediction_agrees_in_nothing(constant):
    """Also where rounding leaves something of its variance."""
    truth = np.random.default_rng(0).normal(30, 10, 50)
    metric = Numbers(("age",), "age", ("icc", "ccc", "pcc", "mae"))
    weights = np.random.default_rng(1).integers(0, 3, (4, 50)).astype(np.float64)
    found = metric.compute(metric.rows(np.full(50, constant), named(50, age=truth)).statistics, weights)
    np.testing.assert_array_equal(found["icc"], 0)
    np.testing.assert_array_equal(found["ccc"], 0)
    assert np.isnan(found["pcc"]).all()
    assert np.isfinite(found["mae"]).all()


def test_what_nobody_knows_is_not_defined():
    metric = Numbers(UNITS, "action_units", ALL, tolerance=1.0)
    found = score(metric, metric.rows(np.zeros((3, 2)), named(3, action_units=np.full((3, 2), np.nan))).statistics)
    assert found.pop("images") == 0
    assert all(np.isnan(value) for value in found.values())
    same = score(metric, metric.rows(np.ones((3, 2)), named(3, action_units=np.ones((3, 2)))).statistics)
    assert np.isnan(same["icc_mean"])  # neither truth nor prediction varies
    assert (same["mse_mean"], same["sagr_mean"]) == (0, 1)


def test_the_sign_of_nothing_is_like_no_other():
    metric = Numbers(("v",), "v", ("sagr",))
    found = score(
        metric, metric.rows(np.array([0.0, 0.1, -1, 0]), named(4, v=np.array([0.5, 0.2, -0.1, 0]))).statistics
    )
    assert found["sagr"] == 0.75


def test_a_wrong_kind_and_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="no metric 'cccc' of numbers; did you mean 'ccc'"):
        Numbers(("v",), "v", ("cccc",))
    with pytest.raises(ValueError, match=r"predictions are \(2, 3\), the true numbers \(2, 2\)"):
        Numbers(UNITS, "u", ("icc",)).rows(np.zeros((2, 3)), named(2, u=np.zeros((2, 2))))
