"""The distribution of errors over test examples: the share below each error, and the examples with the largest."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from facerep_jax.reporting import wording
from facerep_jax.reporting.charts import Picture, Series, line_chart
from facerep_jax.reporting.lines import BASELINE, CHART_KINDS, Line
from facerep_jax.reporting.page import Row, Table

STEPS = 240  # of a curve
WORST = 10


def has_errors(line: Line) -> bool:
    """Whether each test example has an error of its own and the statistics to compute it from."""
    return line.results.words.per_row and line.results.lower_is_better and bool(line.statistics)


def errors(line: Line) -> Float[np.ndarray, "subsets n"]:
    """The headline of every test example by itself; NaN for an example that does not count."""
    if not line.statistics:
        raise ValueError(f"{line.folder} has no examples.parquet")
    rows = np.concatenate([statistics.rows for statistics in line.statistics])
    subsets, n, width = rows.shape
    once = np.ones((1, 1))
    return np.concatenate([line.value(row[None], once) for row in rows.reshape(-1, width)]).reshape(subsets, n)


def area(values: Float[np.ndarray, "n"], limit: float) -> float:
    """Area under the cumulative distribution up to `limit`, as a share of `limit`.

    Source: FaRL's scorers (github.com/FacePerceiver/FaRL).
    Changed: exact; FaRL sums by Simpson's rule in steps of 1e-4.
    """
    return float(np.clip(1 - values / limit, 0, None).mean())


def chart(found: Mapping[Line, Float[np.ndarray, "_ _"]]) -> Picture:
    """Share of test examples against error, one line per encoder and baseline."""
    first = next(iter(found))
    results, words, scale = first.results, first.results.words, first.scale
    headline, units = words.name(results.headline), wording.plural_noun(words.unit)
    # Bad baselines would squeeze the curves of the encoders into a corner, so that encoders alone set the width.
    shown = [np.nanquantile(e, 0.97) for line, e in found.items() if line.kind != BASELINE]
    grid = np.linspace(0, max(shown) if shown else max(np.nanquantile(e, 0.97) for e in found.values()), STEPS)
    series = []
    for line, e in found.items():
        curves = 100 * np.stack([(subset[np.isfinite(subset)][:, None] <= grid[None]).mean(0) for subset in e])
        kind = CHART_KINDS[line.kind]
        series.append(Series(line.name, kind, scale.factor * grid, curves.mean(0), curves.min(0), curves.max(0)))
    medians = "; ".join(f"{line.name} {scale.shown(float(np.nanmedian(e)))}" for line, e in found.items())
    band = ", band from the worst to the best subset" if len(results.seeds) > 1 else ""
    return line_chart(
        series,
        x_label=f"{headline} of one {words.unit}{scale.bracketed}",
        y_label=f"test {units} with at most this error (%)",
        caption=f"Cumulative error distribution, {wording.label_share(results.fraction)}; higher and further left "
        f"is better. Mean over label subsets{band}.",
        alt=f"Cumulative distribution of {headline} over test {units}, {first.shared_conditions}. "
        f"Median error: {medians}.",
        limits=((0.0, scale.factor * float(grid[-1])), (0.0, 100.0)),
    )


def table(found: Mapping[Line, Float[np.ndarray, "_ _"]]) -> Table:
    """The distribution in numbers: median, ninth decile and, if there is a limit, area under the curve and failures."""
    first = next(iter(found))
    results, scale = first.results, first.scale
    limit = results.words.error_limit
    heads = ["Encoder", f"Median{scale.bracketed} ↓", f"90th percentile{scale.bracketed} ↓"]
    if limit:
        shown = f"{scale.factor * limit:g}{scale.unit}"
        heads += [f"Area up to {shown} (%) ↑", f"Failures above {shown} (%) ↓"]
    rows = []
    for line, e in found.items():
        values = e[np.isfinite(e)]
        numbers = [wording.written(float(np.quantile(values, share)), scale) for share in (0.5, 0.9)]
        shares = [area(values, limit), float((values > limit).mean())] if limit else []
        rows.append(Row((line.name, *numbers, *map(wording.percent, shares)), line.conditions))
    units = wording.plural_noun(results.words.unit)
    caption = f"{results.words.name(results.headline)} of single {units}, all label subsets together"
    title = f"Distribution of errors, {wording.label_share(results.fraction)}"
    return Table(title, caption, tuple(heads), tuple(rows), folded=True)


def worst_table(line: Line, e: Float[np.ndarray, "_ _"], others: Sequence[tuple[Line, np.ndarray]]) -> Table:
    """The test examples with the largest error of one line, and what others make of them."""
    ids = line.statistics[0].ids
    median = np.median(e, axis=0)
    order = [i for i in np.argsort(-median, kind="stable") if np.isfinite(median[i])][:WORST]
    compared = [(other, np.median(values, axis=0)) for other, values in others]
    rows = tuple(
        Row((ids[i], *(wording.written(float(m[i]), line.scale) for m in (median, *(m for _, m in compared)))))
        for i in order
    )
    words = line.results.words
    caption = f"{words.name(line.results.headline)}{line.scale.said}, median over label subsets. {line.conditions}"
    header = (f"Test {words.unit}", line.name, *(other.name for other, _ in compared))
    return Table(f"Largest errors of {line.name}", caption, header, rows, folded=True)
