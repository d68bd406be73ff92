"""What came of a suite, encoders over tasks: as data, as tables, and as a page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facerep_jax.evaluation.ranks import LEVEL, Ranking, ranking
from facerep_jax.evaluation.results import Checkpoint, Scale
from facerep_jax.reporting import layout, wording
from facerep_jax.reporting.charts import Picture
from facerep_jax.reporting.comparison import Comparison, compare
from facerep_jax.reporting.lines import BASELINE, CHART_KINDS, PRETRAINED, RANDOM, SCRATCH, Line, rank
from facerep_jax.reporting.page import Block, Gallery, Page, Row, Section, Table
from facerep_jax.reporting.scores import scored
from facerep_jax.reporting.suite_charts import Dot, dots, in_words, rank_diagram
from facerep_jax.reporting.workdirs import read_evaluation

LEARNING = ("prepare", "learn")  # phases that are an encoder's own: to encode, and to learn and predict
WITHOUT = "best without an encoder"
READING = (
    "Each column is a task by its headline metric; each row learnt on the same labelled examples and was tested on "
    "the same test examples, by the protocol of that task. ± is the standard deviation over label subsets.",
    "Mean rank: 1 if an encoder is the best on every task. Each task counts once, whatever its unit. Two encoders "
    "differ if their mean ranks differ by more than the critical difference (Friedman, Nemenyi, at 5%; Demšar 2006). "
    "A handful of tasks can show only large differences.",
    "Seconds are those to encode, to learn and to predict, of all cells of an encoder, on the machine that ran the "
    "suite; operations count a multiply-add as two and are of one image.",
    "Best without an encoder: the best of the baselines that learn from the same labels without a network, such as the "
    "mean or ridge regression on pixels.",
)


class Cost(NamedTuple):
    """An encoder, and what one image costs it."""

    checkpoint: str
    digest: str | None  # of the weights; None: before any training
    image_size: int  # pixels of a side
    tokens: int  # patches of an image, or places of the last map
    flops_per_image: int


class Suite(NamedTuple):
    """All evaluations of a suite."""

    lines: Mapping[tuple[str, float], Mapping[str, Line]]  # (evaluation, label fraction) -> encoder -> its line
    costs: Mapping[str, Cost]
    against: str  # the encoder that others are compared with
    tokens: str  # how sizes of images were chosen: empty as the encoders were trained

    @property
    def fractions(self) -> list[float]:
        """The label fractions, the largest first."""
        return sorted({fraction for _, fraction in self.lines}, reverse=True)

    def at(self, fraction: float) -> dict[str, Mapping[str, Line]]:
        """The evaluations at a label fraction."""
        return {name: found for (name, of), found in self.lines.items() if of == fraction}

    def seconds(self, encoder: str) -> float:
        """Seconds that an encoder took to encode and learn; images that an earlier cell encoded are in that one's."""
        spent = [lines[encoder].results.seconds for lines in self.lines.values()]
        return sum(each.get(phase, 0.0) for each in spent for phase in LEARNING)

    def ranking(self, fraction: float) -> Ranking | None:
        """Mean ranks at a label fraction over tasks whose scores are all defined; None if those are fewer than two."""
        tasks = [[-rank(line) for line in lines.values()] for lines in self.at(fraction).values()]
        known = [scores for scores in tasks if all(map(math.isfinite, scores))]
        return ranking([*self.costs], np.array(known)) if len(known) > 1 and len(self.costs) > 1 else None


def line_of(name: str, folder: Path) -> Line:
    """The line of an encoder in the workdir of an evaluation."""
    evaluation = read_evaluation(folder)
    judged = evaluation.results.judged
    untrained = SCRATCH if judged.trains_encoder else RANDOM
    return Line(name, untrained if evaluation.results.checkpoint is None else PRETRAINED, [evaluation])


def to_json(suite: Suite) -> dict[str, Any]:
    """The object of suite.json."""
    first = next(iter(suite.lines.values()))
    encoders = [
        {"name": name, **cost._asdict(), "parameters": first[name].results.encoder.parameters}
        | {"seconds": round(suite.seconds(name), 3)}
        for name, cost in suite.costs.items()
    ]
    ranks = [
        {"fraction": fraction, **found._asdict()}
        for fraction in suite.fractions
        if (found := suite.ranking(fraction)) is not None
    ]
    every = [
        score._asdict()
        for (name, fraction), lines in suite.lines.items()
        for score in scored(name, fraction, lines, (suite.against,))
    ]
    return {"against": suite.against, "tokens": suite.tokens, "encoders": encoders, "scores": every, "ranks": ranks}


def summary(suite: Suite) -> Page:
    """The tables over all tasks alone."""
    cells = f"{len(suite.lines) * len(suite.costs)} evaluations: {wording.plural(len(suite.costs), 'encoder')} on "
    cells += f"{wording.plural(len({name for name, _ in suite.lines}), 'task')}"
    return Page(cells, (("Encoders over tasks", (_section(suite),)),))


def page(suite: Suite) -> Page:
    """The page of a suite: tables and charts over all tasks, then all that `facerep report` shows of each."""
    every = [line.evaluations[0] for lines in suite.lines.values() for line in lines.values()]
    names: dict[Checkpoint | None, str] = {}
    for lines in suite.lines.values():
        names |= {line.results.checkpoint: name for name, line in lines.items()}
    short = summary(suite)
    return Page(short.summary, (*short.chapters, *layout.page(every, (), names).chapters))


def _section(suite: Suite) -> Section:
    largest = suite.fractions[0]
    blocks: list[Block] = [_table(suite, largest), _charts(suite, largest)]
    if len(suite.costs) > 1:
        blocks.append(_comparisons(suite, largest))
    for fraction in suite.fractions[1:]:
        blocks.append(_table(suite, fraction)._replace(folded=True))
        if len(suite.costs) > 1:
            blocks.append(_comparisons(suite, fraction)._replace(folded=True))
    first = next(iter(suite.at(largest).values()))[suite.against].results
    tokens = {"": "images as large as each encoder was trained on", "same": "as many tokens for each encoder"}
    crop = first.config.get("data", {}).get("crop", "")
    facts = (
        f"{'the boxes of faces' if crop == 'box' else 'whole images'}, the same for all",
        tokens.get(suite.tokens, f"{suite.tokens} tokens on a side for each encoder"),
        wording.selection(first.selection),
    )
    return Section("All tasks at a glance", " · ".join(facts), tuple(blocks), READING)


def _table(suite: Suite, fraction: float) -> Table:
    """Encoders by tasks, with mean ranks and costs."""
    tasks, ranked = suite.at(fraction), suite.ranking(fraction)
    heads, metrics, notes = [], [], []
    for lines in tasks.values():
        line = lines[suite.against]
        words = line.results.words
        heads.append(f"{words.task.title}{line.scale.bracketed} {_arrow(line)}")
        metrics.append(f"{words.task.title}: {words.name(line.results.headline)}")
    rows = []
    for name, cost in suite.costs.items():
        measured = [_measured(lines[name]) for lines in tasks.values()]
        mean = [f"{ranked.mean[name]:.2f}"] if ranked else []
        spent = f"{cost.flops_per_image / 1e9:.3g} GFLOP per image · {suite.seconds(name):.0f} s"
        conditions = f"{cost.image_size} px · {wording.plural(cost.tokens, 'token')} · {spent} · {cost.checkpoint}"
        rows.append(Row((name, *mean, *measured), conditions, best=_beats_all(ranked, name)))
    floors = [_floor(lines[suite.against]) for lines in tasks.values()]
    if any(floors):
        values = [wording.written(floor.mean, floor.scale) if floor else wording.NOTHING for floor in floors]
        named = [f"{name}: {floor.name}" for name, floor in zip(tasks, floors, strict=True) if floor]
        rows.append(Row((WITHOUT, *([""] if ranked else []), *values), ", ".join(named).replace("_", " ")))
    if ranked:
        notes.append(_ranks_in_words(ranked))
        if ranked.tasks < len(tasks):
            notes.append(f"{len(tasks) - ranked.tasks} of these tasks have a score that is not defined: not ranked.")
    header = ("Encoder", *(["Mean rank ↓"] if ranked else []), *heads)
    caption = "↓ lower and ↑ higher is better. Mean ± standard deviation over label subsets. "
    caption += f"{'; '.join(metrics)}."
    if any(row.best for row in rows):
        caption += " Bold: a mean rank that is better than every other by more than the critical difference."
    return Table(wording.label_share(fraction), caption, header, tuple(rows), tuple(notes))


def _arrow(line: Line) -> str:
    return "↓" if line.results.lower_is_better else "↑"


def _measured(line: Line) -> str:
    return wording.measurement(line.metrics.get(line.results.headline), line.scale)


def _beats_all(ranked: Ranking | None, name: str) -> bool:
    """Whether the mean rank of an encoder is better than all others by more than the critical difference."""
    if ranked is None or not ranked.decided:
        return False
    others = [rank for other, rank in ranked.mean.items() if other != name]
    return min(others) - ranked.mean[name] > ranked.critical_difference


def _floor(line: Line) -> Line | None:
    """The best baseline without an encoder that learnt beside a line; None if there is none."""
    plain = [
        Line(name.replace("_", " "), BASELINE, line.evaluations, name)
        for name, scores in line.results.baselines.items()
        if not scores.protocol
    ]
    return min((each for each in plain if math.isfinite(each.mean)), key=rank, default=None)


def _ranks_in_words(ranked: Ranking) -> str:
    verdict = "not all are equal" if ranked.decided else "no difference is shown"
    return (
        f"Over {ranked.tasks} tasks: Friedman's statistic {ranked.statistic:.2f}, p = {ranked.p:.3f}, so {verdict} at "
        f"{LEVEL:.0%}; critical difference of two mean ranks {ranked.critical_difference:.2f}."
    )


def _comparisons(suite: Suite, fraction: float) -> Table:
    """Every encoder against one, on each task."""
    rows, verdicts = [], []
    for lines in suite.at(fraction).values():
        compared = [compare(line, lines[suite.against]) for name, line in lines.items() if name != suite.against]
        ends = [abs(end) for c in compared for end in (*(c.interval or ()), c.improvement) if math.isfinite(end)]
        for c in compared:
            rows.append(_comparison_row(c, max(ends, default=0.0) or 1.0))
            verdicts.append(c.verdict)
    known = [name for name in ("better", "worse", "not decided") if name in verdicts]
    counts = ", ".join(f"{name} in {verdicts.count(name)}" for name in known)
    caption = (
        f"On the same test examples and label subsets; above 0 is better than {suite.against}, in points of a "
        "percentage or the unit of the metric. Each task is drawn on a scale of its own. "
        f"Of {wording.plural(len(rows), 'comparison')}: {counts}; one interval in twenty misses by chance."
    )
    header = ("Task and encoder", "Improvement [95% interval]", "Verdict")
    title = f"Against {suite.against}, {wording.label_share(fraction)}"
    return Table(title, caption, header, tuple(rows), scale=("worse", "better"))


def _comparison_row(c: Comparison, whole: float) -> Row:
    improvement, interval = wording.signed(c.improvement, c.line.scale), None
    if c.interval is not None and all(map(math.isfinite, c.interval)):
        improvement = wording.improvement(c.improvement, *c.interval, c.line.scale)
        low, high = c.interval
        interval = (c.improvement / whole, low / whole, high / whole)
    title = f"{c.line.results.words.task.title}: {c.line.name}"
    return Row((title, improvement, c.verdict), interval=interval)


def _charts(suite: Suite, fraction: float) -> Gallery:
    """The rank diagram, and a chart of each task."""
    pictures: list[Picture] = []
    if ranked := suite.ranking(fraction):
        said = f"Mean ranks over {ranked.tasks} tasks at {wording.label_share(fraction)}, 1 is best"
        caption = f"{said}. Bars join encoders that differ by less than the critical difference."
        pictures.append(rank_diagram(ranked, caption=caption, alt=f"{said}: {in_words(ranked)}."))
    pictures += [_task_chart(lines, fraction) for lines in suite.at(fraction).values()]
    return Gallery(f"Each task, {wording.label_share(fraction)}", "", tuple(pictures))


def _task_chart(lines: Mapping[str, Line], fraction: float) -> Picture:
    """The encoders on one task."""
    some: Sequence[Line] = [line for line in lines.values() if math.isfinite(line.mean)]
    first = next(iter(lines.values()))
    r, scale, floor = first.results, first.scale, _floor(first)
    found = [
        Dot(line.name, scale.factor * line.mean, scale.factor * line.spread, CHART_KINDS[line.kind]) for line in some
    ]
    metric = f"{r.words.task.title}: {r.words.name(r.headline)}"
    beside = (floor.name, scale.factor * floor.mean) if floor else None
    caption = f"{metric}, {wording.better(r.lower_is_better)[2:]}."
    caption += f" Dashed: {floor.name}, {scale.shown(floor.mean)}, without an encoder." if floor else ""
    alt = f"{metric} at {wording.label_share(fraction)}: {'; '.join(_spoken(line, scale) for line in some)}."
    return dots(found, x_label=r.words.name(r.headline) + scale.bracketed, caption=caption, alt=alt, beside=beside)


def _spoken(line: Line, scale: Scale) -> str:
    return f"{line.name} {scale.shown(line.mean)}"
