"""Power laws against scipy.stats and numpy.polyfit, and against data whose law is known."""

import numpy as np
import pytest
from scipy import stats

from facerep_jax.evaluation.power_law import power_law

X = np.repeat([100.0, 400.0, 1600.0, 6400.0], 3)


def drawn(seed, exponent=0.3, spread=0.05, bend=0.0):
    noise = np.random.default_rng(seed).normal(0, spread, len(X))
    return 2.0 * X**-exponent * np.exp(noise + bend * np.log(X / 800) ** 2)


def test_line_and_interval_are_those_of_scipy_and_numpy():
    y = drawn(0)
    found, theirs = power_law(X, y), stats.linregress(np.log(X), np.log(y))
    assert found.exponent == pytest.approx(-theirs.slope)
    assert found.factor == pytest.approx(np.exp(theirs.intercept))
    half = stats.t.ppf(0.975, 10) * theirs.stderr
    assert (found.low, found.high) == pytest.approx((-theirs.slope - half, -theirs.slope + half))
    coefficients, covariance = np.polyfit(np.log(X), np.log(y), 1, cov=True)
    places = np.array([50.0, 800.0, 1e5])
    design = np.stack([np.log(places), np.ones(3)], axis=1)
    line, error = design @ coefficients, np.sqrt(np.einsum("ni,ij,nj->n", design, covariance, design))
    middle, low, high = found.at(places)
    np.testing.assert_allclose(middle, np.exp(line))
    np.testing.assert_allclose(low, np.exp(line - stats.t.ppf(0.975, 10) * error))
    np.testing.assert_allclose(high, np.exp(line + stats.t.ppf(0.975, 10) * error))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = [found.low < 0.3 < found.high for found in (power_law(X, drawn(seed)) for seed in range(400))]
    assert 0.92 < np.mean(held) < 0.98


def test_what_is_no_power_law_is_told():
    """Fisher's test by comparing two models: a line, and a mean for each amount."""
    y = drawn(3)
    line = np.polyval(np.polyfit(np.log(X), np.log(y), 1), np.log(X))
    means = np.repeat(np.log(y).reshape(4, 3).mean(1), 3)
    restricted, free = ((np.log(y) - fit) @ (np.log(y) - fit) for fit in (line, means))
    expected = stats.f.sf((restricted - free) / 2 / (free / 8), 2, 8)
    assert power_law(X, y).bends == pytest.approx(expected)
    assert np.mean([power_law(X, drawn(seed)).bends < 0.05 for seed in range(200)]) < 0.1
    assert power_law(X, drawn(0, bend=0.05)).bends < 1e-3


def test_few_points_and_bad_numbers():
    assert power_law([10.0, 100.0], [1.0, 0.5]) is None
    assert power_law([10.0, 10.0, 10.0], [1.0, 0.5, 0.7]) is None
    assert power_law([], []) is None
    exact = power_law([1.0, 10.0, 100.0], [1.0, 0.1, 0.01])
    assert (exact.exponent, exact.factor, exact.bends) == (pytest.approx(1), pytest.approx(1), None)
    assert exact.high - exact.low < 1e-12
    with pytest.raises(ValueError, match="numbers above 0, not of amounts"):
        power_law([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="as many errors as amounts"):
        power_law([1.0, 2.0, 3.0], [1.0, 1.0])
