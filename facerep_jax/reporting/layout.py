"""Workdirs to one page: what belongs together, in the order in which one wants to know it."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from facerep_jax.evaluation.results import JUDGED
from facerep_jax.reporting import anchors, attachments, distribution, reading, wording
from facerep_jax.reporting.cards import evaluation_card
from facerep_jax.reporting.charts import Picture, Series, lines
from facerep_jax.reporting.comparison import (
    BASELINE,
    KINDS,
    PRETRAINED,
    RANDOM,
    SCRATCH,
    Comparison,
    Line,
    compare,
    comparisons,
    names,
    rank,
    result_tables,
)
from facerep_jax.reporting.comparison import lines as lines_of
from facerep_jax.reporting.page import Cards, Gallery, Page, Part, Row, Section, Table
from facerep_jax.reporting.pretraining import section as training_section
from facerep_jax.reporting.workdirs import Evaluation, Pretraining

SHEETS = ("overlays.png", "worst.png", "tokens.png")
DRAWN = {
    "landmarks": "truth green (ring), prediction red (dot)",
    "parsing": "image, truth, prediction",
}  # in the sheets of a task

Fractions = Mapping[float, list[Line]]


class Group:
    """Evaluations that differ in encoder and label fraction alone: one task, data set, protocol, head and selection."""

    def __init__(self, evaluations: Sequence[Evaluation], named: Mapping[tuple[Any, ...], str]):
        by_fraction: dict[float, list[Evaluation]] = defaultdict(list)
        for e in evaluations:
            by_fraction[float(e.results["fraction"])].append(e)
        self.lines = {fraction: lines_of(by_fraction[fraction], named) for fraction in sorted(by_fraction)}
        self.compared = {fraction: comparisons(found) for fraction, found in self.lines.items()}
        self.results = evaluations[0].results
        self.title = f"{wording.title(self.results['task'])} on {self.results['dataset']}"


def page(evaluations: Sequence[Evaluation], pretrainings: Sequence[Pretraining]) -> Page:
    """Lay out everything that was read."""
    grouped: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for e in evaluations:
        key = tuple(str(e.results.get(key)) for key in ("task", "dataset", "protocol", "head", "selection", "headline"))
        grouped[key].append(e)
    named = names(evaluations)
    groups = [Group(grouped[key], named) for key in sorted(grouped)]
    images = [e.folder / name for e in evaluations for name in SHEETS]
    images += [run.folder / "masked.png" for run in pretrainings]
    allowed = attachments.share(sum(path.exists() for path in images))
    counted = ((len(evaluations), "evaluation"), (len(pretrainings), "pre-training run"))
    chapters = (
        ("At a glance", _glance(groups)),
        ("Evaluation", tuple(_evaluation_section(group, allowed) for group in groups)),
        ("What the encoders see", _tokens(groups, allowed)),
        ("Pre-training", tuple(training_section(run, allowed) for run in pretrainings)),
        ("Published results", _published(groups)),
    )
    return Page(
        " and ".join(wording.plural(n, noun) for n, noun in counted if n),
        tuple((name, sections) for name, sections in chapters if sections),
    )


def _glance(groups: Sequence[Group]) -> tuple[Section, ...]:
    """Every pre-trained encoder against the same one before any training, one row each."""
    rows, verdicts = [], []
    for group in groups:
        for fraction, found in group.lines.items():
            untrained = [
                line for line in found if line.kind == RANDOM or (line.kind == SCRATCH and line.source == JUDGED)
            ]
            baselines = [line for line in found if line.kind == BASELINE and not math.isnan(line.mean)]
            without = min(baselines, key=rank, default=None)
            for line in (line for line in found if line.kind == PRETRAINED):
                same = next((other for other in untrained if other.architecture == line.architecture), None)
                against = _against(group.compared[fraction], line, same)
                rows.append(_glance_row(line, same, without, against))
                verdicts += [against.verdict] if against is not None else []
    if not rows:
        return ()
    columns = (
        "Pre-trained (%)",
        "Untrained (%)",
        "Best without encoder (%)",
        "Improvement over untrained [95% interval]",
    )
    title = "Pre-trained against untrained encoders"
    caption = (
        "↓ lower and ↑ higher is better. The improvement is in points of the metric, above 0 is better; it is drawn "
    )
    caption += "relative to the untrained encoder, so that tasks can be compared."
    table = Table(title, caption, ("Task and metric", *columns, "Verdict"), tuple(rows), scale=("worse", "better"))
    known = [name for name in ("better", "worse", "not decided") if name in verdicts]
    counts = ", ".join(f"{name} in {verdicts.count(name)}" for name in known)
    summed = f"Of {wording.plural(len(verdicts), 'comparison')} with the same encoder before any training: {counts}."
    return (Section(title, summed if known else "", (table,)),)


def _against(compared: Sequence[Comparison], line: Line, other: Line | None) -> Comparison | None:
    """The comparison of a line with another, whichever way round it was made."""
    for c in compared:
        if c.line is line and c.other is other:
            return c
        if c.line is other and c.other is line:
            return compare(line, c.line)
    return None


def _glance_row(line: Line, untrained: Line | None, without: Line | None, against: Comparison | None) -> Row:
    headline = line.results["headline"]
    arrow = "↓" if line.results["lower_is_better"] else "↑"
    values = [wording.measured(headline, x.metrics.get(headline)) if x else wording.NOTHING for x in (line, untrained)]
    values.append(f"{wording.percent(without.mean)} ({without.name})" if without else wording.NOTHING)
    improvement, interval = wording.NOTHING, None
    if against is not None and against.interval is not None:
        improvement = wording.interval(against.improvement, *against.interval)
        low, high = against.interval
        if not math.isnan(low + high) and (scale := abs(against.other.mean)):
            interval = (against.improvement / scale, low / scale, high / scale)
    elif against is not None:
        improvement = wording.signed(100 * against.improvement, ".2f")
    name = f"{wording.title(line.results['task'])}, {wording.words(headline)} {arrow}"
    verdict = against.verdict if against else wording.NOTHING
    return Row((name, *values, improvement, verdict), f"{line.name} · {line.conditions}", interval=interval)


def _evaluation_section(group: Group, allowed: int) -> Section:
    parts: list[Part] = []
    if len(group.lines) > 1:
        parts.append(Gallery("Labels and error", "", (_fraction_chart(group.lines),)))
    for fraction, found in group.lines.items():
        parts += result_tables(found, group.compared[fraction])
    parts += _distributions(group.lines)
    parts += _anchors_beside(group.results)
    parts += _sheets(group.lines, allowed)
    cards = [evaluation_card(line) for found in group.lines.values() for line in found if line.kind != BASELINE]
    parts.append(Cards("How each row was made, and how to make it again", tuple(cards)))
    first = next(iter(group.lines.values()))[0]
    columns = list(getattr(first.metric, "columns", (group.results["headline"],)))
    every = [line for found in group.lines.values() for line in found]
    several = any(len(line.results["seeds"]) > 1 for line in every)
    facts = [
        group.results["protocol"].replace("_", " "),
        group.results.get("head"),
        wording.selection(group.results["selection"]),
    ]
    explained = reading.of_evaluation(group.results, columns, several=several, compared=any(group.compared.values()))
    # What is folded comes last, in its order.
    return Section(
        group.title, " · ".join(filter(None, facts)), tuple(sorted(parts, key=lambda part: part.folded)), explained
    )


def _fraction_chart(found: Fractions) -> Picture:
    """The headline against the label fraction, one line per encoder and baseline."""
    first = next(iter(found.values()))[0]
    results, headline = first.results, first.results["headline"]
    by_name: dict[str, list[tuple[float, Line]]] = defaultdict(list)
    ticks = {}
    for fraction, some in found.items():
        ticks[100 * fraction] = f"{100 * fraction:g}%\n{some[0].results['labels']:,}"
        for line in some:
            by_name[line.name].append((100 * fraction, line))
    series = []
    for name, points in by_name.items():
        x, y, spread = zip(*((x, 100 * line.mean, 100 * line.spread) for x, line in points), strict=True)
        low, high = ([a + sign * b for a, b in zip(y, spread, strict=True)] for sign in (-1, 1))
        series.append(Series(name, KINDS[points[0][1].kind], x, y, low, high))
    conditions = ", ".join((results["dataset"], results["protocol"].replace("_", " "),
                            wording.selection(results["selection"])))  # fmt: skip
    direction = wording.better(results["lower_is_better"])[2:]
    ends = "; ".join(f"{s.name} from {s.y[0]:.2f}% at {s.x[0]:g}% to {s.y[-1]:.2f}% at {s.x[-1]:g}%" for s in series)
    return lines(
        series,
        x_label="labels used: share and number of faces",
        y_label=f"{wording.words(headline)} (%)",
        caption=f"{wording.words(headline)} against the label fraction: {conditions}; {direction}. "
        "Band: ± one standard deviation over label subsets.",
        alt=f"{wording.words(headline)} against the label fraction on {conditions}: {ends}.",
        ticks=ticks,
    )


def _distributions(found: Fractions) -> list[Part]:
    charts, tables = [], []
    for some in found.values():
        spread = {line: distribution.errors(line) for line in some if distribution.has_errors(line)}
        if not spread:
            continue
        charts.append(distribution.chart(spread))
        tables.append(distribution.table(spread))
        encoders = [(line, e) for line, e in spread.items() if line.kind != BASELINE]
        if encoders:
            tables.append(distribution.worst_table(*encoders[0], encoders[1:]))
    gallery = [Gallery("How many faces have how small an error", "", tuple(charts))] if charts else []
    return [*gallery, *tables]


def _anchors_beside(results: Mapping[str, Any]) -> list[Table]:
    """What was published on the same data set, by its name."""
    found = [anchor for anchor in anchors.of(results["task"]) if anchors.same_data(anchor, results["dataset"])]
    if not found:
        return []
    caption = (
        "By others, on a data set of the same name. Not taken under the conditions above: each row says in what it "
        "differs."
    )
    rows = tuple(_anchor_row(anchor, anchors.differences(anchor, results)) for anchor in found)
    return [Table("Published by others", caption, ANCHOR_HEADER, rows, foreign=True)]


ANCHOR_HEADER = ("Published", "Data set", "Metric", "Value (%)", "Labels")


def _anchor_row(anchor: anchors.Anchor, differs: Sequence[str]) -> Row:
    selection = {"test_best": "best epoch on the test set", "last": "last epoch"}.get(anchor.selection, "")
    if anchor.epoch is not None:
        selection += f" ({anchor.epoch})"
    value = f"{anchor.value:.3f}" if anchor.value < 10 else f"{anchor.value:.2f}"
    conditions = [anchor.protocol, selection or "selection not known", "seeds not stated", anchor.provenance]
    conditions += [f"differs from ours: {', '.join(differs)}"] if differs else []
    cells = (anchor.encoder, anchor.dataset, wording.words(anchor.metric), value, anchor.labels)
    return Row(cells, " · ".join(conditions))


def _published(groups: Sequence[Group]) -> tuple[Section, ...]:
    """What was published of the same tasks on other data, folded away."""
    tables = []
    for task in sorted({group.results["task"] for group in groups}):
        ours = [group.results["dataset"] for group in groups if group.results["task"] == task]
        foreign = [a for a in anchors.of(task) if not any(anchors.same_data(a, dataset) for dataset in ours)]
        if foreign:
            caption = f"Published, other data: not comparable with ours on {', '.join(dict.fromkeys(ours))}."
            rows = tuple(_anchor_row(anchor, ()) for anchor in foreign)
            tables.append(Table(f"{wording.title(task)}: published, other data, not comparable", caption,
                                ANCHOR_HEADER, rows, folded=True, foreign=True))  # fmt: skip
    if not tables:
        return ()
    return (Section("Of the same tasks on other data", "not ours · not comparable", tuple(tables), reading.PUBLISHED),)


def _sheets(found: Fractions, allowed: int) -> list[Gallery]:
    """Test faces with truth and prediction, and the worst: open at the largest fraction, folded at smaller ones."""
    galleries = []
    for fraction in sorted(found, reverse=True):
        encoders = [line for line in found[fraction] if line.source == JUDGED]
        metric = wording.words(encoders[0].results["headline"]) if encoders else ""
        drawn = DRAWN.get(encoders[0].results["task"], "truth and prediction") if encoders else ""
        for name, title, what in (
            ("overlays.png", "Some test faces", f"Evenly spaced over the test set, first label subset: {drawn}."),
            (
                "worst.png",
                "The ten worst test faces",
                f"Worst first, first label subset, with the {metric} of each and its id: {drawn}.",
            ),
        ):
            pictures = []
            for line in encoders:
                path = line.evaluation.folder / name
                if path.exists():
                    caption = f"{line.name}, {wording.share(fraction)}"
                    alt = f"{title} of {line.name}, {drawn}. {line.conditions}."
                    pictures.append(Picture(caption, alt, uri=attachments.attached(path, allowed)))
            smaller = fraction < max(found)
            title += f", {wording.share(fraction)}" if len(found) > 1 else ""
            galleries += [Gallery(title, what, tuple(pictures), folded=smaller)] if pictures else []
    return galleries


def _tokens(groups: Sequence[Group], allowed: int) -> tuple[Section, ...]:
    """Sheets of patch tokens, each encoder's once per data set."""
    seen: dict[str, list[Picture]] = defaultdict(list)
    digests = set()
    for group in groups:
        for line in (line for found in group.lines.values() for line in found if line.source == JUDGED):
            path = line.evaluation.folder / "tokens.png"
            if not path.exists():
                continue
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest not in digests:
                digests.add(digest)
                alt = f"Test faces beside the three principal components of the patch tokens of {line.name}."
                picture = Picture(f"{line.name} ({line.kind})", alt, uri=attachments.attached(path, allowed))
                seen[group.results["dataset"]].append(picture)
    return tuple(
        Section(f"Patch tokens on {dataset}", "three principal components as colours",
                (Gallery("Test faces and their tokens", "", tuple(pictures)),), reading.TOKENS)
        for dataset, pictures in seen.items()
    )  # fmt: skip
