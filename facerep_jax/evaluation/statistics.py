"""Subsets of the labels, and what a difference between two encoders is worth."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

LEVEL = 0.95  # of the intervals
CHUNK = 100  # bootstrap draws at a time: 16 MB of counts for 20,000 test examples


def label_subset(ids: Sequence[str], fraction: float | int, seed: int) -> tuple[str, ...]:
    """The ids whose labels are used at a label fraction; under one seed a smaller fraction is a part of a larger.

    Source: FaRL (github.com/FacePerceiver/FaRL, blueprint/ml/dataprocessor.py): `random.Random(seed)` shuffles
    range(N), the first int(N fraction) are kept.
    Changed: ids are sorted first, so that the order of the files does not matter; at least one is kept; the subset is
    not tiled back to N, since training counts steps.
    """
    if not ids:
        raise ValueError("there are no ids to take labels from")
    if not 0 < fraction <= 1:
        raise ValueError(f"the label fraction must be above 0 and at most 1, not {fraction}")
    order = list(range(len(ids)))
    random.Random(seed).shuffle(order)
    names = sorted(ids)
    return tuple(names[i] for i in order[: max(1, int(len(ids) * fraction))])


class Difference(NamedTuple):
    """Encoder `b` against encoder `a`, with the 95 % interval of the difference."""

    a: float
    b: float
    relative_gain: float  # improvement of b over a, relative to a; above 0 where b is better
    difference: float  # b - a
    low: float
    high: float


class Resampled(NamedTuple):
    """An encoder's metric, and what it becomes when test examples and label subsets are drawn again."""

    shape: tuple[int, ...]  # of the statistics: subsets, examples, sums
    value: float
    draws: Float[np.ndarray, "r subsets"]  # of each subset, the examples drawn again
    subsets: Float[np.ndarray, "r subsets"]  # the share of each subset in each draw


def resampled(
    statistics: Float[np.ndarray, "subsets n s"],
    value: Callable[[Float[np.ndarray, "s"]], float],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Resampled:
    """The bootstrap of one encoder; under one seed the draws are those of every encoder with as many of everything."""
    if not statistics.size:
        raise ValueError(f"there are no statistics to compare: {statistics.shape}")
    subsets, n, _ = statistics.shape
    rng = np.random.default_rng(seed)
    draws, shares = [], []
    for _ in range(0, resamples, CHUNK):
        draws.append(_values(_counts(rng, n, CHUNK), statistics, value))
        shares.append(_counts(rng, subsets, CHUNK) / subsets)
    return Resampled(
        statistics.shape,
        float(np.mean([value(s) for s in statistics.sum(1)])),
        np.concatenate(draws)[:resamples],
        np.concatenate(shares)[:resamples],
    )


def paired_difference(
    a: Float[np.ndarray, "subsets n s"],
    b: Float[np.ndarray, "_ _ _"],
    value: Callable[[Float[np.ndarray, "s"]], float],
    *,
    lower_is_better: bool,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """How much better encoder `b` is than `a`, from per-example statistics on the same label subsets and test examples.

    `value` computes the metric from summed statistics; the metric of an encoder is its mean over the subsets. The
    interval is that of a paired percentile bootstrap of b - a: every draw resamples the test examples (one draw for
    both encoders and all subsets) and, independently, the subsets (one draw for both encoders), with replacement. So
    it covers the choice of test examples and of labelled subset. With few subsets it is too narrow: where subsets
    matter most, intervals of 2, 5 and 12 of them held the truth in 58, 86 and 89 % of simulations. With one subset only
    examples are resampled, and the interval says nothing about other labels or seeds. It never says anything about
    pre-training once more. NaN if a draw has no value; ValueError where shapes differ.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval); both factors
    resampled: Owen, The pigeonhole bootstrap, 2007, arXiv 0712.1111.
    """
    one, other = (resampled(encoder, value, resamples=resamples, seed=seed) for encoder in (a, b))
    return difference(one, other, lower_is_better=lower_is_better)


def difference(a: Resampled, b: Resampled, *, lower_is_better: bool) -> Difference:
    """`paired_difference` of what was resampled under one seed; ValueError where shapes differ."""
    if a.shape != b.shape:
        raise ValueError(f"the two encoders must share subsets, examples and statistics: {a.shape} against {b.shape}")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(((b.draws - a.draws) * a.subsets).sum(1), [tail, 1 - tail])
    gain = (a.value - b.value if lower_is_better else b.value - a.value) / a.value if a.value else math.nan
    return Difference(a.value, b.value, gain, b.value - a.value, float(low), float(high))


def _counts(rng: np.random.Generator, n: int, draws: int) -> Float[np.ndarray, "r n"]:
    """How often each of n things comes up in n draws with replacement, `draws` times over."""
    return np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(draws)]).astype(np.float64)


def _values(
    weights: Float[np.ndarray, "r n"], statistics: Float[np.ndarray, "subsets n s"], value: Callable[..., float]
) -> Float[np.ndarray, "r subsets"]:
    """The metric of every subset under every draw of the examples."""
    return np.array([[value(sums) for sums in weights @ subset] for subset in statistics]).T


def summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1 in the denominator, 0 for one value) over subsets; NaN becomes None."""
    if not values:
        raise ValueError("there are no values to sum up")
    numbers = np.array([math.nan if v is None or not math.isfinite(v) else v for v in values], np.float64)
    std = numbers.std(ddof=1) if len(values) > 1 else numbers[0] - numbers[0]

    def plain(v: Any) -> float | None:
        return None if math.isnan(v) else float(v)

    return {"mean": plain(numbers.mean()), "std": plain(std), "values": [plain(v) for v in numbers]}
