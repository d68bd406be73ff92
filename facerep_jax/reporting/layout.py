"""The page of a report: which sections it has, and what stands in each, in which order."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from facerep_jax.evaluation.results import JUDGED, PERCENT, Checkpoint, Words
from facerep_jax.reporting import anchors, attachments, breakdowns, distribution, explanations, pretraining, wording
from facerep_jax.reporting.cards import evaluation_card
from facerep_jax.reporting.charts import Picture, Series, line_chart
from facerep_jax.reporting.comparison import Comparison, compare, comparisons, result_tables
from facerep_jax.reporting.lines import (
    BASELINE,
    CHART_KINDS,
    PRETRAINED,
    RANDOM,
    SCRATCH,
    Line,
    encoder_names,
    ordered_lines,
    rank,
)
from facerep_jax.reporting.page import Block, Cards, Gallery, Page, Row, Section, Table
from facerep_jax.reporting.workdirs import Evaluation, Pretraining

SHEETS = ("overlays.png", "worst.png", "tokens.png")
ANCHOR_HEADER = ("Published", "Data set", "Metric", "Value (%)", "Labels")

Fractions = Mapping[float, list[Line]]


class Group:
    """Evaluations that differ in encoder and label fraction alone: one task, data set, protocol, head and selection."""

    def __init__(self, evaluations: Sequence[Evaluation], names: Mapping[Checkpoint | None, str]):
        by_fraction: dict[float, list[Evaluation]] = defaultdict(list)
        for e in evaluations:
            by_fraction[e.results.fraction].append(e)
        self.lines = {fraction: ordered_lines(by_fraction[fraction], names) for fraction in sorted(by_fraction)}
        self.compared = {fraction: comparisons(found) for fraction, found in self.lines.items()}
        self.results = evaluations[0].results
        self.scale = self.results.words.scale(self.results.headline)
        self.title = f"{self.results.words.task.title} on {self.results.dataset}"


def page(
    evaluations: Sequence[Evaluation],
    pretrainings: Sequence[Pretraining],
    names: Mapping[Checkpoint | None, str] | None = None,
) -> Page:
    """The page of all evaluations and pre-training runs.

    Args:
        names: of the encoders, by their checkpoints; `encoder_names` by default.
    """
    grouped: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for e in evaluations:
        r = e.results
        grouped[r.task, r.dataset, r.protocol, r.head, r.selection, r.headline].append(e)
    names = encoder_names(evaluations) if names is None else names
    groups = [Group(grouped[key], names) for key in sorted(grouped)]
    images = [e.folder / name for e in evaluations for name in SHEETS]
    images += [run.folder / "masked.png" for run in pretrainings]
    allowed = attachments.bytes_each(sum(path.exists() for path in images))
    counted = ((len(evaluations), "evaluation"), (len(pretrainings), "pre-training run"))
    chapters = (
        ("At a glance", _glance(groups)),
        ("Evaluation", tuple(_evaluation_section(group, allowed) for group in groups)),
        ("What the encoders see", _tokens(groups, allowed)),
        ("Pre-training", tuple(pretraining.section(run, allowed) for run in pretrainings)),
        ("Published results", _published(groups)),
    )
    return Page(
        " and ".join(wording.plural(n, noun) for n, noun in counted if n),
        tuple((name, sections) for name, sections in chapters if sections),
    )


def _glance(groups: Sequence[Group]) -> tuple[Section, ...]:
    """Every pre-trained encoder against the same one before any training, one row each."""
    rows, verdicts = [], []
    all_shares = all(group.scale == PERCENT for group in groups)
    for group in groups:
        for fraction, found in group.lines.items():
            # A random encoder that was fine-tuned is what fine-tuning is held against. The baseline scratch is not:
            # it learnt by a protocol of its own.
            untrained = [
                line for line in found if line.kind == RANDOM or (line.kind == SCRATCH and line.source == JUDGED)
            ]
            baselines = [line for line in found if line.kind == BASELINE and not math.isnan(line.mean)]
            without = min(baselines, key=rank, default=None)
            for line in (line for line in found if line.kind == PRETRAINED):
                architecture = line.results.encoder.architecture
                same = next((x for x in untrained if x.results.encoder.architecture == architecture), None)
                against = _against(group.compared[fraction], line, same)
                rows.append(_glance_row(line, same, without, against, with_unit=not all_shares))
                verdicts += [against.verdict] if against is not None else []
    if not rows:
        return ()
    unit = PERCENT.bracketed if all_shares else ""
    scores = (f"Pre-trained{unit}", f"Untrained{unit}", f"Best baseline{unit}")
    header = ("Task and metric", *scores, "Improvement over untrained [95% interval]", "Verdict")
    title = "Pre-trained against untrained encoders"
    caption = (
        "↓ lower and ↑ higher is better. The improvement is in points of the metric, above 0 is better; it is drawn "
        "relative to the untrained encoder, so that tasks can be compared."
    )
    table = Table(title, caption, header, tuple(rows), scale=("worse", "better"))
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


def _glance_row(
    line: Line, untrained: Line | None, without: Line | None, against: Comparison | None, *, with_unit: bool
) -> Row:
    headline, scale = line.results.headline, line.scale
    unit = scale.after if with_unit else ""
    arrow = "↓" if line.results.lower_is_better else "↑"
    values = [
        wording.measurement(x.metrics.get(headline), scale) + unit if x else wording.NOTHING for x in (line, untrained)
    ]
    values.append(f"{wording.written(without.mean, scale)}{unit} ({without.name})" if without else wording.NOTHING)
    improvement, interval = wording.NOTHING, None
    if against is not None and against.interval is not None:
        improvement = wording.improvement(against.improvement, *against.interval, scale)
        low, high = against.interval
        if not math.isnan(low + high) and (whole := abs(against.other.mean)):
            interval = (against.improvement / whole, low / whole, high / whole)
    elif against is not None:
        improvement = wording.signed(against.improvement, scale)
    words = line.results.words
    name = f"{words.task.title}, {words.name(headline)} {arrow}"
    verdict = against.verdict if against else wording.NOTHING
    return Row((name, *values, improvement, verdict), f"{line.name} · {line.conditions}", interval=interval)


def _evaluation_section(group: Group, allowed: int) -> Section:
    blocks: list[Block] = []
    if len(group.lines) > 1:
        blocks.append(Gallery("Labels and error", "", (_fraction_chart(group.lines),)))
    for fraction, found in group.lines.items():
        blocks += result_tables(found, group.compared[fraction])
        blocks += breakdowns.blocks(found)
    blocks += _distributions(group.lines)
    blocks += _anchors_beside(group)
    blocks += _sheets(group.lines, allowed)
    every = [line for found in group.lines.values() for line in found]
    cards = tuple(evaluation_card(line) for line in every if line.kind != BASELINE)
    blocks.append(Cards("How each row was made, and how to make it again", cards))
    blocks.sort(key=lambda block: block.folded)  # what is folded comes last, in its order
    r = group.results
    facts = (r.protocol.replace("_", " "), r.head, wording.selection(r.selection))
    explained = (*explanations.of_lines(every, compared=any(group.compared.values())), *breakdowns.explained(every))
    return Section(group.title, " · ".join(filter(None, facts)), tuple(blocks), explained)


def _fraction_chart(found: Fractions) -> Picture:
    """The headline against the label fraction, one line per encoder and baseline."""
    results = next(iter(found.values()))[0].results
    headline, scale = results.words.name(results.headline), results.words.scale(results.headline)
    by_name: dict[str, list[tuple[float, Line]]] = defaultdict(list)
    ticks = {}
    for fraction, some in found.items():
        ticks[100 * fraction] = f"{100 * fraction:g}%\n{some[0].results.labels:,}"
        for line in some:
            by_name[line.name].append((100 * fraction, line))
    series = []
    for name, points in by_name.items():
        x, y, spread = zip(
            *((x, scale.factor * line.mean, scale.factor * line.spread) for x, line in points), strict=True
        )
        low, high = ([a + sign * b for a, b in zip(y, spread, strict=True)] for sign in (-1, 1))
        series.append(Series(name, CHART_KINDS[points[0][1].kind], x, y, low, high))
    learnt = results.protocol.replace("_", " ")
    conditions = ", ".join((results.dataset, learnt, wording.selection(results.selection)))
    direction = wording.better(results.lower_is_better)[2:]
    said = f".{scale.digits}f"
    ends = "; ".join(
        f"{s.name} from {s.y[0]:{said}}{scale.after} at {s.x[0]:g}% to {s.y[-1]:{said}}{scale.after} at {s.x[-1]:g}%"
        for s in series
    )
    return line_chart(
        series,
        x_label="labels used: share and number",
        y_label=headline + scale.bracketed,
        caption=f"{headline} against the label fraction: {conditions}; {direction}. "
        "Band: ± one standard deviation over label subsets.",
        alt=f"{headline} against the label fraction on {conditions}: {ends}.",
        ticks=ticks,
    )


def _distributions(found: Fractions) -> list[Block]:
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
    if not charts:
        return []
    units = wording.plural_noun(next(iter(found.values()))[0].results.words.unit)
    return [Gallery(f"How many {units} have how small an error", "", tuple(charts)), *tables]


def _anchors_beside(group: Group) -> list[Table]:
    """The published results on a data set of the same name."""
    results = group.results
    found = [anchor for anchor in anchors.of(results.task) if anchors.same_data(anchor, results.dataset)]
    if not found:
        return []
    caption = (
        "By others, on a data set of the same name. Not taken under the conditions above: each row says in what it "
        "differs."
    )
    rows = tuple(_anchor_row(anchor, results.words, anchors.differences(anchor, results)) for anchor in found)
    return [Table("Published by others", caption, ANCHOR_HEADER, rows, foreign=True)]


def _anchor_row(anchor: anchors.Anchor, words: Words, differs: Sequence[str] = ()) -> Row:
    selection = {"test_best": "best epoch on the test set", "last": "last epoch"}.get(anchor.selection, "")
    if anchor.epoch is not None:
        selection += f" ({anchor.epoch})"
    value = f"{anchor.value:.3f}" if anchor.value < 10 else f"{anchor.value:.2f}"
    conditions = [anchor.protocol, selection or "selection not known", "seeds not stated", anchor.provenance]
    conditions += [f"differs from ours: {', '.join(differs)}"] if differs else []
    cells = (anchor.encoder, anchor.dataset, words.name(anchor.metric), value, anchor.labels)
    return Row(cells, " · ".join(conditions))


def _published(groups: Sequence[Group]) -> tuple[Section, ...]:
    """The published results of the same tasks on other data, folded away."""
    tables = []
    words = {group.results.task: group.results.words for group in groups}
    for task in sorted(words):
        ours = [group.results.dataset for group in groups if group.results.task == task]
        foreign = [a for a in anchors.of(task) if not any(anchors.same_data(a, dataset) for dataset in ours)]
        if foreign:
            caption = f"Published, other data: not comparable with ours on {', '.join(dict.fromkeys(ours))}."
            rows = tuple(_anchor_row(anchor, words[task]) for anchor in foreign)
            title = f"{words[task].task.title}: published, other data, not comparable"
            tables.append(Table(title, caption, ANCHOR_HEADER, rows, folded=True, foreign=True))
    if not tables:
        return ()
    return (
        Section("Of the same tasks on other data", "not ours · not comparable", tuple(tables), explanations.PUBLISHED),
    )


def _sheets(found: Fractions, allowed: int) -> list[Gallery]:
    """Test examples with truth and prediction, worst and best; folded are the best, and all at smaller fractions."""
    galleries = []
    for fraction in sorted(found, reverse=True):
        encoders = [line for line in found[fraction] if line.source == JUDGED]
        if not encoders:
            continue
        results = encoders[0].results
        words, drawn = results.words, results.words.task.drawn
        units = wording.plural_noun(words.unit)
        some = f"Evenly spaced over the test set, first label subset: {drawn}."
        ranked = (
            f"first label subset, with the {words.name(words.ranked or results.headline)} of each and its id: {drawn}."
        )
        worst, best = f"Worst first, {ranked}", f"Best first, {ranked}"
        if words.unit == "pair":
            of = "The pairs of one person that are {} alike, and those of two that are {}, with the cosine of each."
            worst, best = of.format("least", "most"), of.format("most", "least")
        for name, title, caption in (
            ("overlays.png", f"Some test {units}", some),
            ("worst.png", f"The ten worst test {units}", worst),
            ("best.png", f"The ten best test {units}", best),
        ):
            pictures = []
            for line in encoders:
                path = line.folder / name
                if path.exists():
                    alt = f"{title} of {line.name}, {drawn}. {line.conditions}."
                    shown = f"{line.name}, {wording.label_share(fraction)}"
                    pictures.append(Picture(shown, alt, uri=attachments.data_uri(path, allowed)))
            folded = fraction < max(found) or name == "best.png"
            title += f", {wording.label_share(fraction)}" if len(found) > 1 else ""
            galleries += [Gallery(title, caption, tuple(pictures), folded=folded)] if pictures else []
    return galleries


def _tokens(groups: Sequence[Group], allowed: int) -> tuple[Section, ...]:
    """Sheets of patch tokens, each encoder's once per data set."""
    seen: dict[str, list[Picture]] = defaultdict(list)
    digests = set()
    for group in groups:
        for line in (line for found in group.lines.values() for line in found if line.source == JUDGED):
            path = line.folder / "tokens.png"
            if not path.exists():
                continue
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest not in digests:
                digests.add(digest)
                alt = f"Test faces beside the three principal components of the patch tokens of {line.name}."
                picture = Picture(f"{line.name} ({line.kind})", alt, uri=attachments.data_uri(path, allowed))
                seen[group.results.dataset].append(picture)
    return tuple(
        Section(f"Patch tokens on {dataset}", "three principal components as colours",
                (Gallery("Test faces and their tokens", "", tuple(pictures)),), explanations.TOKENS)
        for dataset, pictures in seen.items()
    )  # fmt: skip
