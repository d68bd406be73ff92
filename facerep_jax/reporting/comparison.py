"""Which of two encoders or baselines is better, how certain that is, and the tables that say so."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from facerep_jax.evaluation.results import PERCENT
from facerep_jax.evaluation.statistics import difference
from facerep_jax.reporting import wording
from facerep_jax.reporting.lines import PRETRAINED, Line, rank
from facerep_jax.reporting.page import Row, Table

NO_WINNER = "No row is bold: none is better than all others with each 95% interval above 0."


class Comparison(NamedTuple):
    """One line against another on the same test examples."""

    line: Line
    other: Line
    gain: float  # relative; above 0 if `line` is better; NaN if it is not known
    improvement: float  # of the headline; above 0 if `line` is better; NaN if it is not known
    interval: tuple[float, float] | None  # the 95% interval of the improvement; None if there is none
    note: str = ""  # why something is missing

    @property
    def verdict(self) -> str:
        """What the interval says."""
        low, high = self.interval or (math.nan, math.nan)
        if math.isnan(low) or math.isnan(high):
            return "not known" if math.isnan(self.improvement) else "no interval"
        return "better" if low > 0 else "worse" if high < 0 else "not decided"

    @property
    def difference(self) -> tuple[float, float, float]:
        """The headline of `line` less that of `other`, and the ends of its 95% interval; NaN for what is not known."""
        low, high = self.interval or (math.nan, math.nan)
        if self.line.results.lower_is_better:
            return -self.improvement, -high, -low
        return self.improvement, low, high


def compare(line: Line, other: Line) -> Comparison:
    """How much better a line is than another, and how certain that is."""
    mine, theirs = line.results, other.results
    for differs, reason in (
        (mine.seeds != theirs.seeds, "learnt from other label subsets"),
        (mine.labels != theirs.labels, "learnt from other label subsets"),
        (mine.metric != theirs.metric, "scored by another metric"),
        (mine.dataset_digest != theirs.dataset_digest, "tested on other data of the same name"),
    ):
        if differs:
            return _nothing(line, other, reason)
    a, b = other.mean, line.mean
    sign = -1 if mine.lower_is_better else 1
    missing = next((one for one in (line, other) if not one.statistics), None)
    if missing is not None:
        gain = sign * (b - a) / a if a else math.nan
        note = f"no interval, since {missing.folder.name} has no statistics of it in examples.parquet"
        return Comparison(line, other, gain, sign * (b - a), None, note)
    if line.statistics[0].conditions != other.statistics[0].conditions:
        return _nothing(line, other, f"tested on other {wording.plural_noun(mine.words.unit)} or units of them")
    d = difference(other.bootstrap, line.bootstrap, lower_is_better=mine.lower_is_better)
    interval = (d.low, d.high) if sign > 0 else (-d.high, -d.low)
    note = "" if math.isfinite(d.high - d.low) else "no interval, since draws of the test examples have no value"
    for one, value in ((line, d.b), (other, d.a)):
        if math.isfinite(value) and not math.isclose(value, one.mean, rel_tol=1e-4):
            given = f"{wording.written(value, one.scale)}, results.json {wording.written(one.mean, one.scale)}"
            note = f"examples.parquet gives {given} for {one.name}; is one of them old?"
    return Comparison(line, other, d.relative_gain, sign * d.difference, interval, note)


def _nothing(line: Line, other: Line, reason: str) -> Comparison:
    return Comparison(line, other, math.nan, math.nan, None, f"{reason} than {other.name}, so there is no gain")


def full_comparison(line: Line, other: Line) -> Comparison:
    """The same as `compare`, with an interval.

    Raises:
        ValueError: there is no interval; the message says why, and which workdirs to remove.
    """
    found = compare(line, other)
    if found.interval is None:
        raise ValueError(
            f"{line.name}: {found.note}; remove {line.folder} or {other.folder}, whichever is old, and start again"
        )
    return found


def comparisons(lines: Sequence[Line]) -> list[Comparison]:
    """Every pre-trained encoder against the others, and the best line against all: each pair once, better first."""
    ranked = sorted((line for line in lines if not math.isnan(line.mean)), key=rank)
    chosen = [line for line in ranked if line.kind == PRETRAINED]
    pairs = [(line, other) for line in chosen for other in lines if line is not other and other in ranked]
    pairs += [(ranked[0], other) for other in ranked[1:]]
    once: dict[frozenset[int], tuple[Line, Line]] = {}
    for line, other in pairs:
        once.setdefault(frozenset((id(line), id(other))), (line, other))
    return [compare(*pair) for pair in once.values()]


def winner(lines: Sequence[Line], compared: Sequence[Comparison]) -> Line | None:
    """The line that is better than every other with an interval above 0; None if none certainly is."""
    ranked = sorted((line for line in lines if not math.isnan(line.mean)), key=rank)
    if len(ranked) < 2:
        return None
    best = ranked[0]
    beaten = {id(c.other) for c in compared if c.line is best and c.verdict == "better"}
    beaten |= {id(c.line) for c in compared if c.other is best and c.verdict == "worse"}
    return best if all(id(line) in beaten for line in ranked[1:]) else None


def result_tables(lines: Sequence[Line], compared: Sequence[Comparison]) -> list[Table]:
    """The results of one label fraction, the comparisons, and, folded, all metrics if there are more."""
    results = lines[0].results
    known = tuple(dict.fromkeys(name for line in lines for name in line.metrics))
    columns = dict.fromkeys((results.headline, *(name for name in results.words.columns if name in known)))
    labels = f"{wording.label_share(results.fraction)} ({results.labels:,})"
    tables = [_main_table(lines, tuple(columns), labels, winner(lines, compared))]
    if compared:
        tables.append(_comparison_table(compared, labels))
    if set(known) - set(columns):
        tables.append(_all_metrics(lines, known))
    return tables


def _main_table(lines: Sequence[Line], columns: Sequence[str], labels: str, best: Line | None) -> Table:
    results = lines[0].results
    arrow = "↓" if results.lower_is_better else "↑"
    heads = [results.words.name(name) + results.words.scale(name).bracketed for name in columns]
    heads[0] += f" {arrow}"
    rows = tuple(
        Row((line.name, *(_measurement(line, name) for name in columns)), line.conditions, best=line is best)
        for line in lines
    )
    caption = f"{arrow} {'lower' if results.lower_is_better else 'higher'} is better. Mean"
    caption += " ± standard deviation over label subsets" if any(len(line.results.seeds) > 1 for line in lines) else ""
    caption += ". Bold: better than every other row, with each 95% interval above 0." if best else f". {NO_WINNER}"
    return Table(labels, caption, ("Encoder", *heads), rows)


def _all_metrics(lines: Sequence[Line], known: Sequence[str]) -> Table:
    results = lines[0].results
    names = {name: results.words.name(name) for name in known}
    for name in results.words.measures.keys() & names:
        names[name] += results.words.scale(name).bracketed
    rows = tuple(Row((names[name], *(_measurement(line, name) for line in lines))) for name in known)
    plain = "all else as it is, in the unit that is given" if results.words.measures else "counts as they are"
    caption = f"{'Shares in' if results.words.measures else 'In'} %, {plain}. {lines[0].shared_conditions}"
    title = f"All metrics, {wording.label_share(results.fraction)}"
    return Table(title, caption, ("Metric", *(line.name for line in lines)), rows, folded=True)


def _measurement(line: Line, name: str) -> str:
    words = line.results.words
    return wording.measurement(line.metrics.get(name), words.scale(name), count=name in words.counts)


def _comparison_table(compared: Sequence[Comparison], labels: str) -> Table:
    rows = []
    for c in compared:
        improvement = wording.signed(c.improvement, c.line.scale)
        interval = None
        if c.interval is not None and not any(math.isnan(v) for v in c.interval):
            improvement = wording.improvement(c.improvement, *c.interval, c.line.scale)
            interval = (c.improvement, *c.interval)
        cells = (f"{c.line.name} against {c.other.name}", wording.gain(c.gain), improvement, c.verdict)
        rows.append(Row(cells, interval=interval))
    notes = tuple(dict.fromkeys(f"{c.line.name}: {c.note}." for c in compared if c.note))
    line = compared[0].line
    unit = " in points" if line.scale == PERCENT else line.scale.said
    header = ("Against each other", "Relative gain", f"Improvement{unit} [95% interval]", "Verdict")
    caption = f"On the same test {wording.plural_noun(line.results.words.unit)} and label subsets; above 0 the first "
    caption += f"is better. {line.shared_conditions}"
    return Table(f"How certain is that? {labels}", caption, header, tuple(rows), notes, scale=("worse", "better"))
