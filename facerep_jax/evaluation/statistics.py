"""Subsets of the labels, and what a difference between two encoders is worth."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from facerep_jax.typing import BOTH

LEVEL = 0.95  # of the intervals
CHUNK = 100  # bootstrap draws at a time: 16 MB of weights for 20,000 test examples
BYTES = 2**27  # of the weights of draws at a time, of which metrics make several copies
PART = 2**16  # rows whose weights are made at a time, where there are cells
MANY = 200_000  # rows beyond which a metric that can is computed from cells of rows
WORK = 4 * 10**8  # rows of all draws of these together, beyond which there are fewer draws
FEWEST = 200  # draws at least: the error of a standard deviation is then 5 %

# The headline of rows of statistics for each of r sets of weights, see `typing.Metric`.
Value = Callable[[Float[np.ndarray, "n s"], Float[np.ndarray, "r n"]], Float[np.ndarray, "r"]]
Cells = Callable[[Float[np.ndarray, "n s"]], tuple[Int[np.ndarray, "n"], Float[np.ndarray, "m s"]]]


def label_subset(ids: Sequence[str], fraction: float | int, seed: int, *, least: int = 1) -> tuple[str, ...]:
    """The ids whose labels are used at a label fraction; with one seed a smaller fraction is a part of a larger.

    Source: FaRL's data loader (py-blueprint, ml/dataprocessor.py): `random.Random(seed)` shuffles range(N), the first
    int(N fraction) are kept, and repeated until they are N, so that an epoch has as many steps at every fraction.
    Changed: ids are sorted first, so that the order of the files does not matter; at least `least` are kept, or all if
    there are fewer; they are not repeated, since training counts steps and not epochs, which comes to the same.
    """
    if not ids:
        raise ValueError("there are no ids to take labels from")
    if not 0 < fraction <= 1:
        raise ValueError(f"the label fraction must be above 0 and at most 1, not {fraction}")
    order = list(range(len(ids)))
    random.Random(seed).shuffle(order)
    names = sorted(ids)
    return tuple(names[i] for i in order[: max(least, int(len(ids) * fraction))])


class Difference(NamedTuple):
    """Encoder `b` against encoder `a`, with the 95 % interval of the difference."""

    a: float
    b: float
    relative_gain: float  # improvement of b over a, relative to a; above 0 where b is better
    difference: float  # b - a
    low: float
    high: float


class Resampled(NamedTuple):
    """A kind of encoder's headline on each label subset, and what it becomes if test rows are drawn again."""

    shape: tuple[int, ...]  # of the statistics of one seed: subsets, rows, statistics
    values: Float[np.ndarray, "seeds subsets"]
    draws: Float[np.ndarray, "r subsets"]  # the mean over seeds, from the rows of each draw
    drawn: int  # how many independent things a draw is of: rows, or units


def resampled(
    statistics: Float[np.ndarray, "seeds subsets n s"],
    value: Value,
    *,
    units: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    cells: Cells | None = None,
) -> Resampled:
    """Bootstrap of one kind of encoder; with one `seed` the draws are the same for all with as many rows or units.

    It takes memory for one draw of all rows at least, and for `BYTES` of weights where several draws are made at a
    time. Of more than `MANY` rows of a metric that has cells, draws are made of these, each draw in memory that does
    not grow with the rows; as many as `WORK` allows, but `FEWEST` at least. Values are of single rows all the same.

    Args:
        statistics: rows of a metric, in one order for all subsets and seeds of pre-training.
        value: gives the headline.
        units: of each row, the thing that it belongs to, or two of them, joined by BOTH. Rows of one unit are drawn
            together, those of two as often as both are. None draws single rows.
        cells: those of the metric, see `typing.Coarse`.

    Source: rows of two units: the bootstrap of vertices, Snijders and Borgatti, Connections 22(2), 1999.
    Changed: a unit that is drawn twice gives no pair with itself but the pairs within it, which count twice.
    """
    if not statistics.size:
        raise ValueError(f"there are no statistics to compare: {statistics.shape[1:]}")
    n = statistics.shape[2]
    by = DrawnBy(n, np.arange(n), None) if units is None else drawn_by(units)
    if len(by.first) != n:
        raise ValueError(f"each row needs a unit, there are {n} rows and {len(by.first)} units")
    rng, draws, encoders = np.random.default_rng(seed), [], list(statistics)
    if cells is not None and n > MANY:
        resamples = max(min(FEWEST, resamples), min(resamples, WORK // n))
        many = [[cells(subset) for subset in encoder] for encoder in encoders]
        for number in _chunks(resamples, max(len(few) for encoder in many for _, few in encoder)):
            counts = _counts(rng, by.units, number)
            draws.append(np.mean([_values_of_cells(counts, by, encoder, value) for encoder in many], axis=0))
    else:
        for number in _chunks(resamples, n):
            weights = by.weights(_counts(rng, by.units, number))
            draws.append(np.mean([_values(weights, encoder, value) for encoder in encoders], axis=0))
    values = np.array([_values(np.ones((1, n)), encoder, value)[0] for encoder in encoders])
    return Resampled(statistics.shape[1:], values, np.concatenate(draws), by.units)


class DrawnBy(NamedTuple):
    """The units that rows are drawn by."""

    units: int
    first: Int[np.ndarray, "n"]  # of each row
    second: Int[np.ndarray, "n"] | None  # of each row, `units` for one that has none; None if none has one

    def weights(self, counts: Float[np.ndarray, "r u"], rows: slice = slice(None)) -> Float[np.ndarray, "r n"]:
        """How often rows are drawn if units are drawn so often."""
        if self.second is None:
            return np.take(counts, self.first[rows], axis=1)
        counts = np.append(counts, np.ones((len(counts), 1)), axis=1)
        return np.take(counts, self.first[rows], axis=1) * np.take(counts, self.second[rows], axis=1)

    def of(self, rows: Bool[np.ndarray, "n"]) -> int:
        """How many units some rows belong to."""
        both = self.first[rows] if self.second is None else np.append(self.first[rows], self.second[rows])
        return len(np.setdiff1d(both, self.units))


def drawn_by(units: Sequence[str]) -> DrawnBy:
    """The units of rows, in the order of their names; one that is two, joined by BOTH, is of both."""
    different = {*units}
    place = {name: number for number, name in enumerate(sorted({x for unit in different for x in unit.split(BOTH)}))}
    count = len(place)
    code = {}
    for unit in different:
        one, two, other = unit.partition(BOTH)
        code[unit] = place[one] * (count + 1) + (place[other] if two else count)
    first, second = np.divmod(np.fromiter((code[unit] for unit in units), np.int64, len(units)), count + 1)
    return DrawnBy(count, first, second if (second < count).any() else None)


def _chunks(resamples: int, rows: int) -> list[int]:
    """Numbers of draws that are made at a time."""
    most = max(1, min(CHUNK, BYTES // (8 * rows)))
    return [min(most, resamples - start) for start in range(0, resamples, most)]


def _values_of_cells(
    counts: Float[np.ndarray, "r u"],
    by: DrawnBy,
    subsets: Sequence[tuple[Int[np.ndarray, "n"], Float[np.ndarray, "m s"]]],
    value: Value,
) -> Float[np.ndarray, "r subsets"]:
    """The headline of every subset under every draw of the units, from cells of rows; a part of these at a time."""
    weights = [np.zeros((len(counts), len(few))) for _, few in subsets]
    for start in range(0, len(by.first), PART):
        part = slice(start, start + PART)
        for draw, units in enumerate(counts):
            w = by.weights(units[None], part)[0]
            for sums, (cell, few) in zip(weights, subsets, strict=True):
                sums[draw] += np.bincount(cell[part], w, len(few))
    return np.stack([value(few, sums) for sums, (_, few) in zip(weights, subsets, strict=True)], axis=1)


def paired_difference(
    a: Float[np.ndarray, "subsets n s"],
    b: Float[np.ndarray, "_ _ _"],
    value: Value,
    *,
    lower_is_better: bool,
    units: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """How much better encoder `b` is than `a`, from rows of statistics of the same label subsets and test examples.

    The headline of an encoder is its mean over the subsets. The interval is about what other test rows and other label
    subsets of the same training split would give. Three variances of b - a make it: that of subsets, from how the
    subsets differ; that of test rows, from a bootstrap which draws them with replacement, the same for both encoders
    and all subsets; and that of both together, which is in either and is taken off once. Student's t is taken at Welch
    and Satterthwaite's degrees of freedom, so that three to five subsets give an interval that is as wide as so few
    deserve.

    With one subset rows alone are drawn, and the interval says nothing about other labels or seeds. It does not cover
    repeating the pre-training, nor, at large fractions, labels that no subset holds. Draws in which
    it is not defined are left out; NaN if they are more than one in twenty.

    Args:
        units: of each row, see `resampled`.

    Raises:
        ValueError: the shapes of the statistics differ.

    Source: two crossed random factors: Owen, The pigeonhole bootstrap, 2007, arXiv 0712.1111; degrees of freedom:
    Satterthwaite, Biometrics Bulletin 2(6), 1946.
    Changed: percentiles of a bootstrap over both factors, the usual interval, are too narrow for few subsets: they held
    the truth in 58, 86 and 89 % of simulations with 2, 5 and 12 subsets where subsets matter most.
    """
    one, other = (resampled(x[None], value, units=units, resamples=resamples, seed=seed) for x in (a, b))
    return difference(one, other, lower_is_better=lower_is_better)


def difference(a: Resampled, b: Resampled, *, lower_is_better: bool) -> Difference:
    """How much better `b` is than `a`, both resampled with one seed; see `paired_difference`.

    If several encoders of a kind were pre-trained, a variance for the seeds of that kind widens the interval; those of
    two kinds have nothing in common. With one seed of a kind the interval leaves out what another would have changed.

    Raises:
        ValueError: the shapes of the statistics, or their numbers of units, differ.
    """
    if (a.shape, a.drawn) != (b.shape, b.drawn):
        shapes = " against ".join(f"{x.shape} of {x.drawn} units" for x in (a, b))
        raise ValueError(f"the two encoders must share subsets, examples, units and statistics: {shapes}")
    draws = b.draws - a.draws
    defined = np.isfinite(draws).all(1)
    half = math.nan
    if defined.mean() >= LEVEL:
        variances = _variances(b.values.mean(0) - a.values.mean(0), draws[defined], a.drawn)
        variances += [(x.mean(1).var(ddof=1) / len(x), len(x) - 1) for x in (a.values, b.values) if len(x) > 1]
        half = _half_width(variances)
    value_a, value_b = float(a.values.mean()), float(b.values.mean())
    better = value_a - value_b if lower_is_better else value_b - value_a
    gain = better / abs(value_a) if value_a else math.nan  # a correlation may be below 0
    return Difference(value_a, value_b, gain, value_b - value_a, value_b - value_a - half, value_b - value_a + half)


class Parts(NamedTuple):
    """The headline of several sets of rows on each label subset, and what it becomes if test rows are drawn again."""

    values: Float[np.ndarray, "parts subsets"]
    draws: Float[np.ndarray, "parts r subsets"]  # from one draw of all rows, so that parts can be compared
    drawn: tuple[int, ...]  # independent rows or units of each part


def resampled_parts(
    statistics: Float[np.ndarray, "subsets n s"],
    value: Value,
    parts: Sequence[Bool[np.ndarray, "n"]],
    *,
    units: Sequence[str],
    resamples: int = 200,
    seed: int = 0,
) -> Parts:
    """Bootstrap of the headline on several sets of rows at once; whole units are drawn, whichever set a row is in.

    Args:
        parts: whether each row belongs to the part.
        units: of each row, see `resampled`.
    """
    by = drawn_by(units)
    rng, draws = np.random.default_rng(seed), list[np.ndarray]()
    for number in _chunks(resamples, len(by.first)):
        weights = by.weights(_counts(rng, by.units, number))
        draws.append(np.stack([_values(weights[:, rows], statistics[:, rows], value) for rows in parts]))
    values = np.stack([_values(np.ones((1, rows.sum())), statistics[:, rows], value)[0] for rows in parts])
    return Parts(values, np.concatenate(draws, axis=1), tuple(by.of(rows) for rows in parts))


def interval(
    values: Float[np.ndarray, "subsets"], draws: Float[np.ndarray, "r subsets"], n: int, level: float = LEVEL
) -> tuple[float, float]:
    """The interval of the mean over subsets of a value or of a difference, by the variances of `paired_difference`.

    Draws in which it is not defined are left out; NaN if they are more than one in twenty.

    Args:
        values: of each subset.
        draws: what they become if n independent rows or units are drawn again.
    """
    defined = np.isfinite(draws).all(1)
    if not np.isfinite(values).all() or defined.mean() < LEVEL:
        return math.nan, math.nan
    half, mean = _half_width(_variances(values, draws[defined], n), level), float(values.mean())
    return mean - half, mean + half


def _variances(
    differences: Float[np.ndarray, "subsets"], draws: Float[np.ndarray, "r subsets"], n: int
) -> list[tuple[float, int]]:
    """Variances of the mean difference and their degrees of freedom: that of test rows, and of subsets if several.

    Args:
        differences: of each subset.
        draws: what they become if n independent rows or units are drawn again.
    """
    subsets, of_rows = len(differences), draws.mean(1).var(ddof=1)
    if subsets == 1:
        return [(of_rows, max(n - 1, 1))]
    of_both = (draws - draws.mean(1, keepdims=True)).var(0, ddof=1).sum() / (subsets - 1) / subsets
    return [(max(of_rows - of_both, 0.0), max(n - 1, 1)), (differences.var(ddof=1) / subsets, subsets - 1)]


def _half_width(variances: Sequence[tuple[float, int]], level: float = LEVEL) -> float:
    """Half the interval of an estimate whose variance is a sum of variances, each with its degrees of freedom."""
    variance = sum(v for v, _ in variances)
    if not variance > 0:
        return float(variance)  # 0 or NaN
    freedom = variance**2 / sum(v**2 / degrees for v, degrees in variances)
    return float(stdtrit(freedom, (1 + level) / 2) * math.sqrt(variance))


def _counts(rng: np.random.Generator, n: int, draws: int) -> Float[np.ndarray, "r n"]:
    """How often each of n things comes up in n draws with replacement, `draws` times over."""
    return np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(draws)]).astype(np.float64)


def _values(
    weights: Float[np.ndarray, "r n"], statistics: Float[np.ndarray, "subsets n s"], value: Value
) -> Float[np.ndarray, "r subsets"]:
    """The headline of every subset under every draw of the rows."""
    return np.stack([value(subset, weights) for subset in statistics], axis=1)


def summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1 in the denominator, 0 for one value) over subsets; NaN becomes None."""
    if not values:
        raise ValueError("there are no values to sum up")
    numbers = np.array([math.nan if v is None or not math.isfinite(v) else v for v in values], np.float64)
    std = numbers.std(ddof=1) if len(values) > 1 else numbers[0] - numbers[0]

    def plain(v: Any) -> float | None:
        return None if math.isnan(v) else float(v)

    return {"mean": plain(numbers.mean()), "std": plain(std), "values": [plain(v) for v in numbers]}
