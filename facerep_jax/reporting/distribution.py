"""How errors are spread over test faces: the share of faces below each error, and the faces with the largest."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from facerep_jax.reporting import wording
from facerep_jax.reporting.charts import Picture, Series, lines
from facerep_jax.reporting.comparison import BASELINE, KINDS, Line, caption_of
from facerep_jax.reporting.page import Row, Table

STEPS = 240  # of a curve
WORST = 10


def has_errors(line: Line) -> bool:
    """Whether its headline is the mean of an error that every test example has."""
    return line.results["headline"].startswith("nme") and line.statistics is not None


def errors(line: Line) -> Float[np.ndarray, "subsets n"]:
    """The headline of every test example by itself; NaN where it does not count."""
    if line.statistics is None:
        raise ValueError(f"{line.evaluation.folder} has no examples.parquet")
    statistics = line.statistics[2]
    subsets, n, width = statistics.shape
    once = np.ones((1, 1))
    return np.array([line.value(row[None], once)[0] for row in statistics.reshape(-1, width)]).reshape(subsets, n)


def area(values: Float[np.ndarray, "n"], limit: float) -> float:
    """Area under the cumulative distribution up to `limit`, as a share of `limit`.

    Source: FaRL's scorers. Changed: exact, where they sum by Simpson's rule in steps of 1e-4.
    """
    return float(np.clip(1 - values / limit, 0, None).mean())


def chart(found: Mapping[Line, Float[np.ndarray, "_ _"]]) -> Picture:
    """Share of test faces against error, one line per encoder and baseline."""
    headline = wording.words(next(iter(found)).results["headline"])
    shown = [np.nanquantile(e, 0.97) for line, e in found.items() if line.kind != BASELINE]
    grid = np.linspace(0, max(shown) if shown else max(np.nanquantile(e, 0.97) for e in found.values()), STEPS)
    series = []
    for line, e in found.items():
        curves = np.stack([(subset[np.isfinite(subset)][:, None] <= grid[None]).mean(0) for subset in e])
        series.append(
            Series(line.name, KINDS[line.kind], 100 * grid, 100 * curves.mean(0), 100 * curves.min(0),
                   100 * curves.max(0))
        )  # fmt: skip
    first = next(iter(found))
    medians = "; ".join(f"{line.name} {100 * np.nanmedian(e):.2f}%" for line, e in found.items())
    band = ", band from the worst to the best subset" if len(first.results["seeds"]) > 1 else ""
    return lines(
        series,
        x_label=f"{headline} of a face (%)",
        y_label="test faces with at most this error (%)",
        caption=f"Cumulative error distribution, {wording.share(first.results['fraction'])}; higher and further left "
        f"is better. Mean over label subsets{band}.",
        alt=f"Cumulative distribution of {headline} over test faces, {caption_of(first)}. Median error: {medians}.",
        limits=((0.0, 100 * float(grid[-1])), (0.0, 100.0)),
    )


def table(found: Mapping[Line, Float[np.ndarray, "_ _"]]) -> Table:
    """The distribution in four numbers: median, ninth decile, area under the curve, failures."""
    first = next(iter(found))
    headline = first.results["headline"]
    limit = first.metric.error_limit  # the largest error of the area and of a success
    heads = ["Encoder", "Median (%) ↓", "90th percentile (%) ↓"]
    if limit:
        heads += [f"Area up to {100 * limit:g}% (%) ↑", f"Failures above {100 * limit:g}% (%) ↓"]
    rows = []
    for line, e in found.items():
        values = e[np.isfinite(e)]
        numbers = [np.median(values), np.quantile(values, 0.9)]
        numbers += [area(values, limit), float((values > limit).mean())] if limit else []
        rows.append(Row((line.name, *(wording.percent(float(v)) for v in numbers)), line.conditions))
    caption = f"{wording.words(headline)} of single faces, all label subsets together"
    return Table(f"Distribution of errors, {wording.share(first.results['fraction'])}", caption, tuple(heads),
                 tuple(rows), folded=True)  # fmt: skip


def worst_table(line: Line, e: Float[np.ndarray, "_ _"], others: Sequence[tuple[Line, np.ndarray]]) -> Table:
    """The test faces with the largest error of one line, and what others make of them."""
    ids = line.statistics[1] if line.statistics is not None else []
    median = np.median(e, axis=0)
    order = [i for i in np.argsort(-median, kind="stable") if np.isfinite(median[i])][:WORST]
    compared = [(other, np.median(values, axis=0)) for other, values in others]
    rows = tuple(
        Row((ids[i], wording.percent(float(median[i])), *(wording.percent(float(m[i])) for _, m in compared)))
        for i in order
    )
    caption = f"{wording.words(line.results['headline'])} in %, median over label subsets. {line.conditions}"
    header = ("Test face", line.name, *(other.name for other, _ in compared))
    return Table(f"Largest errors of {line.name}", caption, header, rows, folded=True)
