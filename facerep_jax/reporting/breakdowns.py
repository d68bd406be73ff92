"""How a report breaks results down: by groups of test examples, and by corruptions of their images."""

from collections.abc import Sequence

import numpy as np

from facerep_jax.evaluation.corruptions import TITLES
from facerep_jax.evaluation.results import JUDGED, Group, titled
from facerep_jax.reporting import wording
from facerep_jax.reporting.charts import Picture, Series, line_chart
from facerep_jax.reporting.lines import CHART_KINDS, Line
from facerep_jax.reporting.page import Block, Gallery, Row, Table
from facerep_jax.reporting.suite_charts import Dot, dots

DRAWN = 12  # groups of a chart, those with the largest differences
GROUPS = (
    "Groups: the result on some of the test examples alone, with the 95% interval of what others of their kind would "
    "give. A difference is from the other groups of its axis together. A group is called worse than those if that "
    "holds at a level which is divided by the number of groups, since the worst of many is bad by chance too.",
    "Groups of too few {units} have no interval: they say nothing.",
)
CORRUPTED = (
    "Corruptions: encoder and head learnt on clean images and are scored on the same test images under blur, noise, "
    "JPEG, occlusion and less light. Strengths 1 to 5 of Gaussian blur, Gaussian noise and JPEG are those of "
    "ImageNet-C (Hendrycks and Dietterich 2019), the blur in proportion to the image's side; occlusion covers 5, 10, "
    "20, 30 and 40% of the image, low light takes 1 to 5 stops."
)


def blocks(lines: Sequence[Line]) -> list[Block]:
    """What the encoders of one label fraction tell of groups and corruptions; nothing if they tell of neither."""
    judged = [line for line in lines if line.source == JUDGED]
    found = list[Block]()
    grouped = [line for line in judged if line.results.breakdown.groups]
    if any(_shown(line) for line in grouped):
        found.append(_worst_table(grouped))
        found.append(Gallery("Groups of test examples", "", tuple(_chart(line) for line in grouped if _shown(line))))
    found += [_table(line) for line in grouped]
    corrupted = [line for line in judged if line.results.corruptions]
    if corrupted:
        found += [_curves(corrupted), _corrupted_table(corrupted)]
    return found


def explained(lines: Sequence[Line]) -> tuple[str, ...]:
    """How to read these blocks."""
    results = [line.results for line in lines if line.source == JUDGED]
    words = results[0].words if results else None
    said = list[str]()
    if words is not None and any(r.breakdown.groups for r in results):
        units = wording.plural_noun(results[0].independent)
        said += [line.format(units=units) for line in GROUPS]
    return (*said, *([CORRUPTED] if any(r.corruptions for r in results) else []))


def _shown(line: Line) -> list[Group]:
    """The groups that have an interval, those with the largest differences from others."""
    known = [group for group in line.results.breakdown.groups if group.low is not None and group.value is not None]
    return sorted(known, key=lambda group: -abs(group.gap or 0.0))[:DRAWN]


def _worst_table(lines: Sequence[Line]) -> Table:
    """The worst group of each encoder."""
    rows = []
    for line in lines:
        parts, scale = line.results.breakdown, line.scale
        group = next((each for each in parts.groups if each.title == parts.worst), None)
        if group is None:
            cells = (line.name, "none has enough of them", *[wording.NOTHING] * 4)
        else:
            verdict = "worse than the others" if parts.decided else "not decided"
            cells = (line.name, group.title, _value(group, line), _gap(group, line), f"{group.units:,}", verdict)
        small = len(parts.small)
        note = f"{wording.plural(small, 'group')} too small to say anything" if small else ""
        rows.append(Row(cells, " · ".join(filter(None, (note, f"all: {wording.written(line.mean, scale)}")))))
    first = lines[0]
    header = (
        "Encoder",
        "Worst group",
        f"{first.results.words.name(first.results.headline)}{first.scale.bracketed} [95% interval]",
        "Less that of the others",
        titled(wording.plural_noun(first.results.independent)),
        "Verdict",
    )
    title = f"The group that each encoder serves worst, {wording.label_share(first.results.fraction)}"
    return Table(title, "Of those with enough test examples.", header, tuple(rows))


def _table(line: Line) -> Table:
    """All groups of an encoder."""
    results = line.results
    parts, unit = results.breakdown, results.independent
    rows = tuple(
        Row(
            (group.title, f"{group.rows:,}", f"{group.units:,}", _value(group, line), _gap(group, line)),
            "" if group.enough else f"too few {wording.plural_noun(unit)} to say anything",
        )
        for group in parts.groups
    )
    headline = f"{results.words.name(results.headline)}{line.scale.bracketed} [95% interval]"
    nouns = [titled(wording.plural_noun(noun)) for noun in (results.words.unit, unit)]
    nouns[1] = nouns[1] if nouns[1] != nouns[0] else "Independent"
    header = ("Group", *nouns, headline, "Less that of the others [95% interval]")
    title = f"Groups: {line.name}, {wording.label_share(results.fraction)}"
    return Table(title, line.conditions, header, rows, folded=True)


def _value(group: Group, line: Line) -> str:
    value = wording.written(group.value, line.scale)
    if group.low is None or group.high is None:
        return value
    return f"{value} [{wording.written(group.low, line.scale)}, {wording.written(group.high, line.scale)}]"


def _gap(group: Group, line: Line) -> str:
    if group.gap is None:
        return wording.NOTHING
    if group.gap_low is None or group.gap_high is None:
        return wording.signed(group.gap, line.scale)
    return wording.improvement(group.gap, group.gap_low, group.gap_high, line.scale)


def _chart(line: Line) -> Picture:
    """The groups of an encoder that differ most from others, with their intervals."""
    scale, headline = line.scale, line.results.words.name(line.results.headline)
    shown = sorted(_shown(line), key=lambda group: group.value or 0.0, reverse=line.results.lower_is_better)
    found = [
        Dot(
            group.title,
            scale.factor * (group.value or 0.0),
            scale.factor * ((group.high or 0.0) - (group.low or 0.0)) / 2,
            "encoder" if group.decided else "random",
        )
        for group in shown
    ]
    caption = f"{line.name}: the groups that differ most from the others of their axis, the worst on top; whiskers are "
    caption += f"95% intervals, coloured if worse than the others. Dashed: all, {scale.shown(line.mean)}."
    alt = f"{headline} by group, {line.name}: "
    alt += "; ".join(f"{group.title} {scale.shown(group.value)}" for group in shown)
    return dots(
        found, x_label=headline + scale.bracketed, caption=caption, alt=alt, beside=("all", scale.factor * line.mean)
    )


def _curves(lines: Sequence[Line]) -> Gallery:
    """A chart for each kind of corruption, with a line for each encoder."""
    first = lines[0]
    headline, scale = first.results.words.name(first.results.headline), first.scale
    kinds = dict.fromkeys(kind for line in lines for kind in line.results.corruptions)
    pictures = []
    for kind in kinds:
        series = [_series(line, kind) for line in lines if kind in line.results.corruptions]
        ends = "; ".join(f"{s.name} from {s.y[0]:.{scale.digits}f} to {s.y[-1]:.{scale.digits}f}" for s in series)
        pictures.append(
            line_chart(
                series,
                x_label="strength, 0 is clean",
                y_label=headline + scale.bracketed,
                caption=f"{TITLES.get(kind, kind)}; {wording.better(first.results.lower_is_better)[2:]}. "
                "Band: ± one standard deviation over label subsets.",
                alt=f"{headline} against the strength of {TITLES.get(kind, kind)}: {ends}.",
            )
        )
    title = f"Corrupted test images, {wording.label_share(first.results.fraction)}"
    return Gallery(title, "", tuple(pictures))


def _series(line: Line, kind: str) -> Series:
    harms = line.results.corruptions[kind]
    means = np.array([line.mean, *(np.nan if harm.mean is None else harm.mean for harm in harms)])
    spreads = np.array([line.spread, *(harm.std or 0.0 for harm in harms)])
    y, spread = line.scale.factor * means, line.scale.factor * spreads
    x = np.array([0, *(harm.strength for harm in harms)])
    return Series(line.name, CHART_KINDS[line.kind], x, y, y - spread, y + spread)


def _corrupted_table(lines: Sequence[Line]) -> Table:
    """What each strength of each corruption costs each encoder."""
    rows = []
    for line in lines:
        for kind, harms in line.results.corruptions.items():
            cells = [wording.written(harm.mean, line.scale) for harm in harms]
            last = harms[-1]
            change = wording.NOTHING
            if last.change is not None and last.low is not None and last.high is not None:
                change = wording.improvement(last.change, last.low, last.high, line.scale)
            name = f"{line.name}, {TITLES.get(kind, kind).lower() if kind != 'jpeg' else 'JPEG'}"
            rows.append(Row((name, wording.written(line.mean, line.scale), *cells, change)))
    first = lines[0]
    strengths = [str(harm.strength) for harm in next(iter(first.results.corruptions.values()))]
    headline = first.results.words.name(first.results.headline) + first.scale.bracketed
    title = f"Corruptions, {wording.label_share(first.results.fraction)}"
    header = ("Encoder and corruption", "Clean", *strengths, "Strongest less clean [95% interval]")
    return Table(title, f"{headline} at each strength. {first.conditions}", header, tuple(rows), folded=True)
