"""Whether some encoders are better than others over several tasks, and whether two tasks rank encoders alike."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau, rankdata, studentized_range

LEVEL = 0.05  # of both tests
DRAWS = 20_000  # of ranks under the hypothesis that no encoder is better


class Ranking(NamedTuple):
    """Encoders over tasks."""

    mean: Mapping[str, float]  # encoder -> mean rank, 1 for the one that is best on every task
    tasks: int
    statistic: float  # Friedman's, chi-squared for many tasks
    p: float  # of the hypothesis that no encoder is better than another
    critical_difference: float  # of two mean ranks

    @property
    def decided(self) -> bool:
        """Whether the hypothesis that all are equal is to be given up."""
        return self.p < LEVEL


def ranking(names: Sequence[str], scores: Float[np.ndarray, "tasks k"]) -> Ranking:
    """Mean ranks of encoders, Friedman's test that all are equal, and Nemenyi's critical difference of two.

    Each task counts once, however much its scores differ, so that tasks need no common unit. Equal scores share a rank.
    Two encoders differ where their mean ranks differ by more than the critical difference.

    Args:
        names: of the encoders.
        scores: higher is better.

    Raises:
        ValueError: there are fewer than two encoders or two tasks, or a score is not a number.

    Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006, section 3.2.2.
    Changed: p is the share of random ranks whose statistic is as large, since the chi-squared distribution, which the
    statistic has for more than ten tasks and five encoders, is far off for a handful.
    """
    tasks, count = scores.shape
    if tasks < 2 or count < 2 or len(names) != count:
        raise ValueError(f"ranks need two tasks and two encoders at least, not {tasks} and {count}")
    if not np.isfinite(scores).all():
        raise ValueError("a score that is ranked is not a number")
    ranks = rankdata(-scores, axis=1)
    statistic = friedman(ranks)
    drawn = np.random.default_rng(0).permuted(np.broadcast_to(ranks, (DRAWS, *ranks.shape)), axis=2)
    as_large = int((friedman(drawn) >= statistic * (1 - 1e-9)).sum())
    difference = nemenyi(count) * math.sqrt(count * (count + 1) / (6 * tasks))
    mean = {name: float(value) for name, value in zip(names, ranks.mean(0), strict=True)}
    return Ranking(mean, tasks, float(statistic), (1 + as_large) / (1 + DRAWS), difference)


def friedman(ranks: Float[np.ndarray, "*r tasks k"]) -> Float[np.ndarray, "*r"]:
    """Friedman's statistic, 12 N / (k (k + 1)) (sum of squared mean ranks - k (k + 1)^2 / 4)."""
    tasks, count = ranks.shape[-2:]
    mean = ranks.mean(-2)
    spread = np.square(mean).sum(-1) - count * (count + 1) ** 2 / 4
    return np.asarray(12 * tasks / (count * (count + 1)) * spread)


def nemenyi(count: int) -> float:
    """The critical value q of Nemenyi's test for so many encoders: of the studentised range, over the root of 2."""
    return float(studentized_range.ppf(1 - LEVEL, count, np.inf)) / math.sqrt(2)


def cliques(ranking: Ranking) -> list[tuple[str, ...]]:
    """The largest groups of encoders, best first, no two of which differ by more than the critical difference.

    It is one group of all unless Friedman's test says that not all are equal, which Nemenyi's test presumes.
    """
    order = sorted(ranking.mean, key=lambda name: ranking.mean[name])
    if not ranking.decided:
        return [tuple(order)]
    found: list[tuple[str, ...]] = []
    for start, first in enumerate(order):
        near = [n for n in order[start:] if ranking.mean[n] - ranking.mean[first] <= ranking.critical_difference]
        if len(near) > 1 and not any({*near} <= {*group} for group in found):
            found.append(tuple(near))
    return found


def agreement(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Kendall's tau-b of the scores of the same encoders on two tasks, and its p-value.

    Tau is 1 if both tasks rank the encoders alike, -1 if in reverse. p is the probability of a tau as far from 0 if the
    ranks had nothing to do with each other, exact where no scores are equal. Both are NaN if a task tells no encoders
    apart.

    Source: Kendall, A new measure of rank correlation, Biometrika 30, 1938; ties as in tau-b.
    """
    found = kendalltau(one, other)
    return float(found.statistic), float(found.pvalue)
