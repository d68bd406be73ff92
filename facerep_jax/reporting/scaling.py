"""Scores of a study against amounts of data: power laws, charts, and a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from facerep_jax.evaluation.power_law import PowerLaw, power_law
from facerep_jax.reporting import wording
from facerep_jax.reporting.charts import Picture, Series, line_chart
from facerep_jax.reporting.page import Block, Gallery, Page, Row, Section, Table
from facerep_jax.reporting.scores import Score, tables

AHEAD = 4.0  # times as much data as there was, for which a law is read
READING = (
    "Error: the score itself where lower is better, and 1 less the score where higher is.",
    "A power law, error = factor / amount^exponent, is a straight line on logarithmic axes. Its 95% interval takes all "
    "points, one for each amount and seed of pre-training, to be independent, which subsets of one set are not quite.",
    "p of the line: Fisher's test of whether means of one amount are further from the line than seeds are from their "
    "means. If it is small, there is no power law, and its interval means nothing.",
    "Three or four amounts within one or two orders of magnitude do not tell a power law from other curves.",
)


class Curve(NamedTuple):
    """One line of a chart."""

    chart: str
    name: str
    amounts: tuple[float, ...]
    scores: tuple[Score, ...]  # at these
    law: PowerLaw | None  # of the error; None if there are too few points, or an error that is not above 0

    @property
    def means(self) -> np.ndarray:
        """The score at each amount, mean over seeds."""
        return np.array([np.mean(score.values) for score in self.scores])

    @property
    def spreads(self) -> np.ndarray:
        """The standard deviation over seeds; that over label subsets where there is one seed."""
        each = [np.std(s.values, ddof=1) if len(s.values) > 1 else s.std_subsets for s in self.scores]
        return np.array(each, np.float64)


def _at_the_least_share(found: Sequence[Score]) -> dict[tuple[str, str], Score]:
    """(evaluation, encoder) -> its score at the least share of the labels."""
    falling = sorted(reversed(found), key=lambda score: score.fraction, reverse=True)  # of equals the first one
    return {(score.evaluation, score.encoder): score for score in falling}


def curves_of(config: ConfigDict, found: Sequence[Score]) -> list[Curve]:
    """The curves that a study's config names in `curves`: chart -> `lines`, name -> (amount, evaluation, encoder) ...

    Raises:
        ValueError: a point is none of the scores.
    """
    place = _at_the_least_share(found)
    made = []
    for chart, described in config.get("curves", {}).items():
        for name, points in described.lines.items():
            for _, evaluation, encoder in points:
                if (evaluation, encoder) not in place:
                    raise ValueError(f"curve {name!r} of {chart!r}: {encoder!r} has no score on {evaluation!r}")
            scores = tuple(place[evaluation, encoder] for _, evaluation, encoder in points)
            amounts = tuple(float(amount) for amount, *_ in points)
            made.append(Curve(chart, name, amounts, scores, law_of(amounts, scores)))
    return made


def law_of(amounts: Sequence[float], scores: Sequence[Score]) -> PowerLaw | None:
    """The power law of errors at all amounts and seeds; None if one is not above 0."""
    x = [amount for amount, score in zip(amounts, scores, strict=True) for _ in score.values]
    y = [error_of(value, score) for score in scores for value in score.values]
    return power_law(x, y) if all(math.isfinite(error) and error > 0 for error in y) else None


def error_of(value: float, score: Score) -> float:
    """How far a value is from the best there can be."""
    return value if score.lower_is_better else 1 - value


def to_json(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Curves as data."""
    return [
        {
            "chart": curve.chart,
            "name": curve.name,
            "amounts": curve.amounts,
            "values": [score.values for score in curve.scores],
            "law": None if curve.law is None else curve.law._asdict(),
        }
        for curve in curves
    ]


def law_table(curves: Sequence[Curve]) -> Table:
    """The law of each curve."""
    rows = []
    for curve in curves:
        law, score = curve.law, curve.scores[0]
        cells = [wording.NOTHING] * 3
        if law is not None:
            (far,), (low,), (high,) = law.at([AHEAD * max(curve.amounts)])
            ends = [wording.written(float(error_of(x, score)), score.scale) for x in (far, low, high)]
            cells = [
                f"{law.exponent:.3f} [{law.low:.3f}, {law.high:.3f}]",
                wording.NOTHING if law.bends is None else f"{law.bends:.3f}",
                f"{ends[0]} [{', '.join(ends[1:] if score.lower_is_better else ends[:0:-1])}]",
            ]
        ends_of = " to ".join(f"{amount:g}" for amount in (min(curve.amounts), max(curve.amounts)))
        means = ", ".join(wording.written(float(mean), score.scale) for mean in curve.means)
        rows.append(
            Row((f"{curve.chart}: {curve.name}", ends_of, f"{score.metric}{score.scale.said}: {means}", *cells))
        )
    header = ("Curve", "Amounts", "Scores", "Exponent [95%]", "p of the line", f"At {AHEAD:g} times as much [95%]")
    return Table("Scores against data", "", header, tuple(rows))


def picture(chart: str, x_label: str, curves: Sequence[Curve], levels: Mapping[str, Score]) -> Picture:
    """The curves of a chart with their laws, and scores that do not depend on the amount as level lines."""
    first = curves[0].scores[0]
    scale, drawn = first.scale, list[Series]()
    amounts = sorted({amount for curve in curves for amount in curve.amounts})
    for curve in curves:
        y, spread = scale.factor * curve.means, scale.factor * curve.spreads
        drawn.append(Series(curve.name, "encoder", curve.amounts, y, y - spread, y + spread))
        if curve.law is not None:
            x = np.geomspace(min(curve.amounts), max(curve.amounts), 30)
            line = [scale.factor * (e if first.lower_is_better else 1 - e) for e in curve.law.at(x)]
            drawn.append(Series(f"{curve.name}, power law", "baseline", x, line[0], *sorted(line[1:], key=np.mean)))
    for name, score in levels.items():
        level = np.full(len(amounts), scale.factor * np.mean(score.values))
        drawn.append(Series(name, "random", amounts, level, level, level))
    said = f".{scale.digits}f"
    ends = "; ".join(
        f"{c.name} from {scale.factor * c.means[0]:{said}} at {c.amounts[0]:g} to "
        f"{scale.factor * c.means[-1]:{said}} at {c.amounts[-1]:g}"
        for c in curves
    )
    return line_chart(
        drawn,
        x_label=x_label,
        y_label=first.metric + scale.bracketed,
        caption=f"{chart}; {wording.better(first.lower_is_better)[2:]}. Band: ± one standard deviation over seeds, and "
        "the 95% band of the law.",
        alt=f"{first.metric} against {x_label}, {chart}: {ends}.",
        ticks={amount: f"{amount:,g}" for amount in amounts},
    )


def page(name: str, config: ConfigDict, found: Sequence[Score], curves: Sequence[Curve]) -> Page:
    """The page of a study: its curves, then its tables of scores."""
    place = _at_the_least_share(found)
    pictures = []
    for chart, described in config.curves.items():
        own = [curve for curve in curves if curve.chart == chart]
        on = own[0].scores[0].evaluation
        levels = {e: place[on, e] for e in described.get("levels", ()) if (on, e) in place}
        pictures.append(picture(chart.replace("_", " "), described.x, own, levels))
    blocks: tuple[Block, ...] = (Gallery("Score against data", "", tuple(pictures)), law_table(curves), *tables(found))
    section = Section(name.replace("_", " "), "", blocks, READING)
    summary = f"{wording.plural(len(found), 'score')} of {len({score.encoder for score in found})} encoders"
    beside = "The same tables without charts: study.md; the numbers: study.json."
    return Page(summary, (("Study", (section,)),), title=f"Study {name}", made_by="facerep study", beside=beside)
