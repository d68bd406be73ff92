"""Encoders and baselines that were tried in one way, side by side: their table, and which differences are certain."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facerep_jax import config
from facerep_jax.evaluation.results import JUDGED, NETWORKS, NO_MATTER
from facerep_jax.evaluation.statistics import Resampled, difference, resampled
from facerep_jax.reporting import wording
from facerep_jax.reporting.page import Row, Table
from facerep_jax.reporting.workdirs import Evaluation, read_statistics

PRETRAINED, RANDOM, SCRATCH, BASELINE = "pre-trained", "random", "from scratch", "no encoder"
NETWORK_KINDS = dict(zip(NETWORKS, (RANDOM, SCRATCH), strict=True))
NO_WINNER = "No row is bold: none is better than all others with each 95% interval above 0."
TRAINED = ("finetune", "fine_tune")  # protocols that train the encoder too
KINDS = {PRETRAINED: "encoder", RANDOM: "random", SCRATCH: "random", BASELINE: "baseline"}  # for charts


class Line:
    """An encoder or a baseline on one label fraction; statistics of its test examples are read once, when asked for."""

    def __init__(self, name: str, kind: str, evaluation: Evaluation, source: str = JUDGED):
        self.name, self.kind, self.evaluation = name, kind, evaluation
        self.source = source  # its name in examples.parquet
        self.results = evaluation.results
        self.entry = self.results if source == JUDGED else self.results["baselines"][source]
        self.metrics: Mapping[str, Any] = self.entry["metrics"]

    @property
    def protocol(self) -> str:
        """By which it learnt, in words; empty where there is no network."""
        return "" if self.kind == BASELINE else str(self.entry.get("protocol", "")).replace("_", " ")

    @property
    def selection(self) -> str:
        """How it was selected, in words."""
        rates = (self.entry.get("protocol_settings") or {}).get("learning_rates") or ()
        return wording.selected(self.results["selection"], len(rates), self.entry.get("validation_labels"))

    @property
    def architecture(self) -> Any:
        """What must be equal for two encoders to be the same before any training."""
        spec = (self.results.get("config") or {}).get("encoder") or {}
        return (self.results.get("encoder") or {}).get("name"), {k: v for k, v in spec.items() if k not in NO_MATTER}

    @property
    def mean(self) -> float:
        """The headline; NaN where there is none."""
        mean = self.metrics.get(self.results["headline"], {}).get("mean")
        return math.nan if mean is None else float(mean)

    @property
    def spread(self) -> float:
        """The standard deviation of the headline over label subsets."""
        return float(self.metrics.get(self.results["headline"], {}).get("std") or 0)

    @property
    def conditions(self) -> str:
        """All that its numbers hold for."""
        r = self.results
        labels = f"{wording.plural(r['labels'], 'label')} ({100 * r['fraction']:g}%)"
        seeds = f"seed{'' if len(r['seeds']) == 1 else 's'} {wording.numbers(r['seeds'])}"
        encoder = (r.get("encoder") or {}).get("name", "")
        network = () if self.kind == BASELINE else (encoder, self.protocol, r.get("head", ""))
        facts = [self.kind, r["dataset"], *network, self.selection, labels, seeds]
        facts += [wording.plural(r["test_images"], "test image")] if r.get("test_images") else []
        return " · ".join(fact for fact in facts if fact)

    @cached_property
    def metric(self) -> Any:
        """The metric that scored it, from its spec."""
        spec = self.results["metric"]
        try:
            return config.build(spec)
        except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
            path = self.evaluation.folder / "results.json"
            raise ValueError(f"{path}: cannot build metric {spec}: {error}") from None

    def value(self, statistics: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The headline of rows of statistics, for each set of weights that say how much a row counts."""
        return self.metric.compute(statistics, weights)[self.results["headline"]]

    @cached_property
    def statistics(self) -> tuple[list[int], list[str], np.ndarray] | None:
        """Subsets, ids and statistics of the test examples; None where they were not written."""
        return read_statistics(self.evaluation.folder, self.source)

    @cached_property
    def resampled(self) -> Resampled:
        """Its bootstrap."""
        if self.statistics is None:
            raise ValueError(f"{self.evaluation.folder} has no statistics of {self.source}")
        return resampled(self.statistics[2][None], self.value)


class Comparison(NamedTuple):
    """One line against another on the same test examples; above 0 is better."""

    line: Line
    other: Line
    gain: float  # relative
    improvement: float
    interval: tuple[float, float] | None
    note: str = ""  # why something is missing

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.interval is None:
            return "not known" if math.isnan(self.improvement) else "no interval"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "not decided"


def names(evaluations: Iterable[Evaluation]) -> dict[tuple[Any, ...], str]:
    """A name for every encoder: the last folder of its path, with more of it only where that is not enough."""
    found: dict[tuple[Any, ...], str] = {("random",): wording.RANDOM}
    rest = {identity(e) for e in evaluations} - found.keys()
    wider: tuple[Callable[[str, str], str], ...] = (
        lambda path, digest: Path(path).name,
        lambda path, digest: path,
        lambda path, digest: f"{path} {digest}",
    )
    for where in wider:
        tried = {c: _with_step(where(c[0], c[3]), c[1], c[2]) for c in rest}
        clashes = Counter(tried.values())
        found |= {c: name for c, name in tried.items() if clashes[name] == 1}
        rest -= found.keys()
    return found


def identity(e: Evaluation) -> tuple[Any, ...]:
    """What tells one encoder from another."""
    c = e.results["checkpoint"]
    return ("random",) if c == "random" else tuple(c.get(key) for key in ("path", "step", "weights", "digest"))


def _with_step(name: str, step: int | None, weights: str | None) -> str:
    return ", ".join([name, *([f"step {step:,}"] if step is not None else []), *([weights] if weights else [])])


def lines(evaluations: Sequence[Evaluation], names: Mapping[tuple[Any, ...], str]) -> list[Line]:
    """Pre-trained encoders by name, then the random one, then the baselines; equal baselines once."""
    often = Counter(identity(e) for e in evaluations)
    encoders = []
    for e in evaluations:
        again = f" ({e.folder.name})" if often[identity(e)] > 1 else ""
        untrained = SCRATCH if e.results["protocol"] in TRAINED else RANDOM
        kind = untrained if e.results["checkpoint"] == "random" else PRETRAINED
        encoders.append(Line(names[identity(e)] + again, kind, e))
    encoders.sort(key=lambda line: (line.kind != PRETRAINED, line.name))
    baselines: dict[str, list[Line]] = defaultdict(list)
    for line in encoders:
        for name, baseline in (line.results.get("baselines") or {}).items():
            if all(baseline["metrics"] != known.metrics for known in baselines[name]):
                baselines[name].append(Line(name, NETWORK_KINDS.get(name, BASELINE), line.evaluation, name))
    for name, found in baselines.items():
        for b in found:
            suffix = f" (of {b.evaluation.folder.name})" if len(found) > 1 else ""
            b.name = name.replace("_", " ") + suffix
    return encoders + [b for found in baselines.values() for b in found]


def compare(line: Line, other: Line) -> Comparison:
    """How much better a line is than another, and how certain that is."""
    mine, theirs = line.results, other.results
    nothing = (math.nan, math.nan, None)
    for key, reason in (
        ("seeds", "learnt from other label subsets"),
        ("labels", "learnt from other label subsets"),
        ("metric", "scored by another metric"),
        ("dataset_digest", "tested on other data of the same name"),
    ):
        if mine.get(key) != theirs.get(key):
            return Comparison(line, other, *nothing, f"{reason} than {other.name}, so there is no gain")
    a, b = other.mean, line.mean
    sign = -1 if mine["lower_is_better"] else 1
    missing = next((one for one in (line, other) if one.statistics is None), None)
    if missing is not None:
        gain = sign * (b - a) / a if a else math.nan
        note = f"no interval, since {missing.evaluation.folder.name} has no statistics of it in examples.parquet"
        return Comparison(line, other, gain, sign * (b - a), None, note)
    if line.statistics[:2] != other.statistics[:2]:  # type: ignore[index]
        return Comparison(line, other, *nothing, f"tested on other images than {other.name}, so there is no gain")
    d = difference(other.resampled, line.resampled, lower_is_better=mine["lower_is_better"])
    interval = (d.low, d.high) if sign > 0 else (-d.high, -d.low)
    note = ""
    for one, value in ((line, d.b), (other, d.a)):
        if not math.isclose(value, one.mean, rel_tol=1e-4):
            given = f"{wording.percent(value)}, results.json {wording.percent(one.mean)}"
            note = f"examples.parquet gives {given} for {one.name}; is one of them old?"
    return Comparison(line, other, d.relative_gain, sign * d.difference, interval, note)


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


def rank(line: Line) -> float:
    """Smaller is better."""
    return line.mean if line.results["lower_is_better"] else -line.mean


def winner(lines: Sequence[Line], compared: Sequence[Comparison]) -> Line | None:
    """The line that is better than every other with an interval above 0; None where that is not certain."""
    ranked = sorted((line for line in lines if not math.isnan(line.mean)), key=rank)
    if len(ranked) < 2:
        return None
    best = ranked[0]
    beaten = {id(c.other) for c in compared if c.line is best and c.verdict == "better"}
    beaten |= {id(c.line) for c in compared if c.other is best and c.verdict == "worse"}
    return best if all(id(line) in beaten for line in ranked[1:]) else None


def result_tables(lines: Sequence[Line], compared: Sequence[Comparison]) -> list[Table]:
    """The results of one label fraction, the comparisons, and behind them all metrics where there are more."""
    first = lines[0]
    results, headline = first.results, first.results["headline"]
    known = tuple(dict.fromkeys(name for line in lines for name in line.metrics))
    wanted = getattr(first.metric, "columns", known[:3])
    columns = (headline, *(name for name in wanted if name in known and name != headline))
    best = winner(lines, compared)
    labels = f"{wording.title(wording.share(results['fraction']))} ({wording.plural(results['labels'], 'face')})"

    arrow = "↓" if results["lower_is_better"] else "↑"
    heads = (f"{wording.words(headline)} (%) {arrow}", *(f"{wording.words(name)} (%)" for name in columns[1:]))
    rows = tuple(
        Row(
            (line.name, *(wording.measured(name, line.metrics.get(name)) for name in columns)),
            line.conditions,
            best=line is best,
        )
        for line in lines
    )
    caption = f"{arrow} {'lower' if results['lower_is_better'] else 'higher'} is better. Mean"
    caption += " ± standard deviation over label subsets" if any(_subsets(line) > 1 for line in lines) else ""
    caption += ". Bold: better than every other row, with each 95% interval above 0." if best else f". {NO_WINNER}"
    tables = [Table(labels, caption, ("Encoder", *heads), rows)]
    if compared:
        tables.append(_comparison_table(compared, labels))
    if set(known) - set(columns):
        every = tuple(
            Row((wording.words(name), *(wording.measured(name, line.metrics.get(name)) for line in lines)))
            for name in known
        )
        caption = "In %, counts of images as they are. " + caption_of(first)
        tables.append(
            Table(f"All metrics, {wording.share(results['fraction'])}", caption, ("Metric", *_heads(lines)), every,
                  folded=True)
        )  # fmt: skip
    return tables


def caption_of(line: Line) -> str:
    """All that a table of one fraction holds for, without what is each row's own."""
    return line.conditions.partition(" · ")[2]


def _heads(lines: Sequence[Line]) -> tuple[str, ...]:
    return tuple(line.name for line in lines)


def _subsets(line: Line) -> int:
    return len(line.results["seeds"])


def _comparison_table(compared: Sequence[Comparison], labels: str) -> Table:
    rows = []
    for c in compared:
        improvement = wording.signed(100 * c.improvement, ".2f")
        interval = None
        if c.interval is not None and not any(math.isnan(v) for v in c.interval):
            improvement = wording.interval(c.improvement, *c.interval)
            interval = (c.improvement, *c.interval)
        cells = (f"{c.line.name} against {c.other.name}", wording.gained(c.gain), improvement, c.verdict)
        rows.append(Row(cells, interval=interval))
    notes = tuple(dict.fromkeys(f"{c.line.name}: {c.note}." for c in compared if c.note))
    header = ("Against each other", "Relative gain", "Improvement in points [95% interval]", "Verdict")
    caption = f"On the same test images and label subsets; above 0 the first is better. {caption_of(compared[0].line)}"
    return Table(f"How certain is that? {labels}", caption, header, tuple(rows), notes, scale=("worse", "better"))
