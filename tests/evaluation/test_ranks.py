"""Planted and seen red: ranks from the lowest score, a critical difference without the root of 2."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from facerep_jax.evaluation.ranks import Ranking, cliques, friedman, nemenyi, ranking

# AUC of a decision tree, and of the same with m, cf or both tuned, on 14 data sets: Demšar 2006, table 6.
# There, two values of a row are 0.975 and have the ranks 2 and 3: a digit that is not printed tells them apart.
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
PUBLISHED = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_a_published_example_comes_out():
    found = ranking(NAMES, PUBLISHED)
    assert [round(rank, 3) for rank in found.mean.values()] == [3.143, 2.000, 2.893, 1.964]
    assert found.statistic == pytest.approx(9.28, abs=0.005)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.decided
    # There the test is not powerful enough to tell any two apart: 3.143 - 1.964 = 1.18.
    assert cliques(found) == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]


@pytest.mark.parametrize(("count", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_values_are_those_of_the_table(count, q):
    """Demšar 2006, table 5a."""
    assert nemenyi(count) == pytest.approx(q, abs=0.001)


def test_the_statistic_is_scipys_and_so_is_p_for_many_tasks():
    scores = np.random.default_rng(3).normal(size=(40, 6)) + np.linspace(0, 0.6, 6)
    found, theirs = ranking([*"abcdef"], scores), friedmanchisquare(*scores.T)
    assert found.statistic == pytest.approx(theirs.statistic)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.01)


def test_two_tasks_cannot_decide_between_two_encoders():
    """Both orders agree in half of all cases; chi-squared would say 0.16."""
    found = ranking(("a", "b"), np.array([[0.1, 0.2], [0.3, 0.9]]))
    assert found.mean == {"a": 2.0, "b": 1.0}
    assert found.p == pytest.approx(0.5, abs=0.02)
    assert not found.decided


def test_equal_scores_share_a_rank():
    found = ranking(("a", "b", "c"), np.array([[0.5, 0.5, 0.1], [0.5, 0.5, 0.5]]))
    assert found.mean == {"a": 1.75, "b": 1.75, "c": 2.5}
    assert friedman(np.array([[2.0, 2.0, 2.0]])) == 0


def test_groups_are_as_large_as_the_critical_difference_allows():
    of = {"a": 1.0, "b": 1.8, "c": 2.5, "d": 4.0}
    assert cliques(Ranking(of, 9, 1.0, 0.01, 1.0)) == [("a", "b"), ("b", "c")]
    assert cliques(Ranking(of, 9, 1.0, 0.01, 0.5)) == []
    assert cliques(Ranking(of, 9, 1.0, 0.06, 0.5)) == [("a", "b", "c", "d")]  # not all may be taken to differ


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="two tasks and two encoders at least, not 1 and 2"):
        ranking(("a", "b"), np.ones((1, 2)))
    with pytest.raises(ValueError, match="not a number"):
        ranking(("a", "b"), np.array([[1.0, np.nan], [1.0, 2.0]]))
