"""Workdirs to one page: lay out the `page`, print it as `html` or `markdown`.

The page is plain data of finished strings, so that both prints hold the same numbers.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from facerep_jax import config
from facerep_jax.evaluation.charts import Picture, Series, curve, data_uri, fractions
from facerep_jax.evaluation.statistics import paired_difference
from facerep_jax.evaluation.workdirs import Evaluation, Pretraining, read_statistics


class Row(NamedTuple):
    """The cells of one row of a table, the first its name."""

    cells: tuple[str, ...]
    best: bool = False


class Table(NamedTuple):
    """A table with what is needed to understand it alone."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    folded: bool = False  # secondary: closed until asked for


class Section(NamedTuple):
    """What belongs together: one task, data set, protocol and selection, or one pre-training run."""

    title: str
    facts: str
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()  # on all tables


class Page(NamedTuple):
    """The whole report."""

    summary: str
    evaluations: tuple[Section, ...]
    pretrainings: tuple[Section, ...]


def page(evaluations: Sequence[Evaluation], pretrainings: Sequence[Pretraining]) -> Page:
    """Lay out everything that was read."""
    groups: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for e in evaluations:
        groups[tuple(str(e.results[key]) for key in ("task", "dataset", "protocol", "selection", "headline"))].append(e)
    names = _checkpoint_names(evaluations)
    counted = ((len(evaluations), "evaluation"), (len(pretrainings), "pre-training run"))
    return Page(
        " and ".join(_plural(n, noun) for n, noun in counted if n),
        tuple(_evaluation_section(groups[key], names) for key in sorted(groups)),
        tuple(_pretraining_section(run) for run in pretrainings),
    )


NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"  # a hyphen is narrower than the plus


def _signed(value: float, pattern: str) -> str:
    """A number with the sign of mathematics in front."""
    return NOTHING if math.isnan(value) else format(value, f"+{pattern}").replace("-", MINUS)


def _percent(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.2f}"


def _measured(name: str, metric: Mapping[str, Any] | None) -> str:
    """Mean ± standard deviation over subsets in percent; counts (`images...`) as they are, one subset without ±."""
    if metric is None or metric["mean"] is None:
        return NOTHING
    if name.startswith("images"):
        return f"{metric['mean']:,.0f}"
    spread = f" ± {_percent(metric['std'])}" if len(metric["values"]) > 1 else ""
    return _percent(metric["mean"]) + spread


def _number(value: float) -> str:
    """A number of a training log in four figures."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}".replace("-", MINUS)


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _title(name: str) -> str:
    """`linear_probe` as words."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


WORDS = {"nme": "NME", "f1": "F1", "miou": "mIoU", "ccc": "CCC", "tar": "TAR", "far": "FAR", "auc": "AUC"}


def _words(metric: str) -> str:
    """`nme_inter_ocular` as words."""
    words = " ".join(WORDS.get(word, word) for word in metric.split("_")).replace("inter ocular", "inter-ocular")
    return words[:1].upper() + words[1:] if words not in WORDS.values() else words


RANDOM = "random initialisation"


def _checkpoint(e: Evaluation) -> tuple[Any, ...]:
    """What tells one encoder from another."""
    c = e.results["checkpoint"]
    return ("random",) if c == "random" else tuple(c.get(key) for key in ("path", "step", "weights", "digest"))


def _checkpoint_names(evaluations: Iterable[Evaluation]) -> dict[tuple[Any, ...], str]:
    """A name for every encoder: the last folder of its path, with more of it only where that is not enough."""
    names: dict[tuple[Any, ...], str] = {("random",): RANDOM}
    rest = {_checkpoint(e) for e in evaluations} - names.keys()
    for where in (
        lambda path, digest: Path(path).name,
        lambda path, digest: path,
        lambda path, digest: f"{path} {digest}",
    ):
        found = {c: _with_step(where(c[0], c[3]), c[1], c[2]) for c in rest}
        clashes = Counter(found.values())
        names |= {c: name for c, name in found.items() if clashes[name] == 1}
        rest -= names.keys()
    return names


def _with_step(name: str, step: int | None, weights: str | None) -> str:
    return ", ".join([name, *([f"step {step:,}"] if step is not None else []), *([weights] if weights else [])])


class _Line(NamedTuple):
    """One row of a table of results before it is text."""

    name: str
    metrics: Mapping[str, Any]
    evaluation: Evaluation
    kind: str  # encoder, random or baseline


def _evaluation_section(evaluations: Sequence[Evaluation], names: Mapping[tuple[Any, ...], str]) -> Section:
    results = evaluations[0].results
    by_fraction: dict[float, list[Evaluation]] = defaultdict(list)
    for e in evaluations:
        by_fraction[float(e.results["fraction"])].append(e)
    tables, lines = [], {}
    for fraction in sorted(by_fraction):
        lines[fraction] = _lines(by_fraction[fraction], names)
        tables += _result_tables(fraction, lines[fraction])
    pictures = [_fraction_chart(lines)] if len(lines) > 1 else []
    for fraction in sorted(by_fraction, reverse=True):
        for line in lines[fraction]:
            path = line.evaluation.folder / "overlays.png"
            if line.kind != "baseline" and path.exists():
                caption = f"{line.name}, {_labels_used(fraction)}: test faces with truth and prediction"
                folded = fraction < max(by_fraction)
                pictures.append(Picture(caption, data_uri(path.read_bytes(), "png"), "strip", folded))
    facts = _conditions(results)
    if results["selection"] == "test_best":
        facts.append("the best step on the test set itself: optimistic")
    title = f"{_title(results['task'])} on {results['dataset']}"
    notes = [SPREAD] + [INTERVAL] * any("Gain over random" in table.header for table in tables)
    return Section(title, " · ".join(facts), (*tables, _provenance(lines)), tuple(pictures), tuple(notes))


def _fraction_chart(lines: Mapping[float, Sequence[_Line]]) -> Picture:
    """The headline against the label fraction, one line per encoder and baseline."""
    results = next(iter(lines.values()))[0].evaluation.results
    headline, direction = results["headline"], "lower" if results["lower_is_better"] else "higher"
    series: dict[str, Series] = {}
    for fraction, found in lines.items():
        for line in found:
            std = line.metrics.get(headline, {}).get("std") or 0
            point = 100 * fraction, 100 * _mean(line.metrics, headline), 100 * std
            series.setdefault(line.name, Series(line.kind, [])).points.append(point)
    caption = (
        f"{_words(headline)} against the label fraction: {', '.join([results['dataset'], *_conditions(results)])}. "
        f"Mean ± standard deviation over label subsets; {direction} is better."
    )
    return fractions(series, f"{_words(headline)} (%)", caption)


def _lines(evaluations: Sequence[Evaluation], names: Mapping[tuple[Any, ...], str]) -> list[_Line]:
    """Pre-trained encoders by name, then the random one, then the baselines; equal baselines once."""
    often = Counter(_checkpoint(e) for e in evaluations)
    encoders = []
    for e in evaluations:
        again = f" ({e.folder.name})" if often[_checkpoint(e)] > 1 else ""
        kind = "random" if e.results["checkpoint"] == "random" else "encoder"
        encoders.append(_Line(names[_checkpoint(e)] + again, e.results["metrics"], e, kind))
    encoders.sort(key=lambda line: (line.kind == "random", line.name))
    baselines: dict[str, list[_Line]] = defaultdict(list)
    for line in encoders:
        for name, baseline in (line.evaluation.results.get("baselines") or {}).items():
            if all(baseline["metrics"] != known.metrics for known in baselines[name]):
                baselines[name].append(_Line(name, baseline["metrics"], line.evaluation, "baseline"))
    flat = []
    for name, found in baselines.items():
        for b in found:
            suffix = f" (of {b.evaluation.folder.name})" if len(found) > 1 else ""
            flat.append(b._replace(name=name.replace("_", " ") + suffix))
    return encoders + flat


def _labels_used(fraction: float) -> str:
    return f"{100 * fraction:g}% of the labels"


def _subsets(line: _Line) -> int:
    return len(line.evaluation.results["seeds"])


def _mean(metrics: Mapping[str, Any], headline: str) -> float:
    """The headline; NaN where there is none."""
    mean = metrics.get(headline, {}).get("mean")
    return math.nan if mean is None else float(mean)


def _conditions(results: Mapping[str, Any]) -> list[str]:
    """How an encoder was tried, in words."""
    return [results["protocol"].replace("_", " "), f"selection: {results['selection'].replace('_', ' ')}"]


def _metric(e: Evaluation) -> Any:
    """The metric that scored an evaluation, from its spec."""
    try:
        return config.build(e.results["metric"])
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{e.folder / 'results.json'}: cannot build metric {e.results['metric']}: {error}") from None


def _result_tables(fraction: float, lines: Sequence[_Line]) -> list[Table]:
    """The table of one label fraction, and behind it all metrics where there are more."""
    results = lines[0].evaluation.results
    headline, direction = results["headline"], "lower" if results["lower_is_better"] else "higher"
    known = tuple(dict.fromkeys(name for line in lines for name in line.metrics))
    wanted = getattr(_metric(lines[0].evaluation), "columns", known[:3])
    columns = (headline, *(name for name in wanted if name in known and name != headline))

    random = next((line.evaluation for line in lines if line.kind == "random"), None)
    compared = random is not None and sum(line.kind != "baseline" for line in lines) > 1
    means = [_mean(line.metrics, headline) for line in lines]
    best = (min if results["lower_is_better"] else max)((m for m in means if not math.isnan(m)), default=math.nan)
    rows, notes = [], []
    for line, mean in zip(lines, means, strict=True):
        cells = [line.name, *(_measured(name, line.metrics.get(name)) for name in columns)]
        if random is not None and compared:
            *gain, note = _gain(line.evaluation, random) if line.kind == "encoder" else ("", "", "")
            cells += gain
            notes += [f"{line.name}: {note}."] if note else []
        labels = line.evaluation.results["labels"]
        rows.append(Row((*cells, f"{labels:,}", str(_subsets(line))), best=mean == best))

    gains = ("Gain over random", "Difference [95% interval]") if compared else ()
    arrow = "↓" if results["lower_is_better"] else "↑"
    header = ("Encoder", f"{_words(headline)} {arrow}", *map(_words, columns[1:]), *gains, "Labels", "Subsets")
    counts = sorted({_subsets(line) for line in lines})
    subsets = " or ".join(map(str, counts)) + f" label subset{'' if counts == [1] else 's'}"
    facts = [_title(results["task"]), results["dataset"], *_conditions(results), _labels_used(fraction), subsets]
    facts += [_plural(results["test_images"], "test image")] if results.get("test_images") else []
    caption = " · ".join([*facts, f"{direction} is better"])
    tables = [Table(_title(_labels_used(fraction)), caption, header, tuple(rows), tuple(notes))]
    if set(known) - set(columns):
        every = tuple(
            Row((_words(name), *(_measured(name, line.metrics.get(name)) for line in lines))) for name in known
        )
        names = ("Metric", *(line.name for line in lines))
        tables.append(Table(f"All metrics, {_labels_used(fraction)}", caption, names, every, folded=True))
    return tables


SPREAD = "Mean ± standard deviation over label subsets, in %. The row that is best in the first column is bold."
INTERVAL = (
    "Gain: improvement over the random encoder, relative to it; above 0 is better. Difference: encoder minus random in "
    "points of the first column, with its 95% interval by a paired bootstrap over test images and label subsets (over "
    "test images alone where there is one subset; too narrow where there are few)."
)


def _gain(e: Evaluation, random: Evaluation) -> tuple[str, str, str]:
    """Relative gain, difference with interval, and why something is missing."""
    mine, theirs, headline = e.results, random.results, e.results["headline"]
    for key, reason in (
        ("seeds", "learnt from other label subsets"),
        ("labels", "learnt from other label subsets"),
        ("metric", "scored by another metric"),
    ):
        if mine[key] != theirs[key]:
            return NOTHING, NOTHING, f"{reason} than the random encoder, so there is no gain"
    found, other = read_statistics(e.folder), read_statistics(random.folder)
    if found is None or other is None:
        a, b = (_mean(r["metrics"], headline) for r in (theirs, mine))
        gain = ((a - b) if mine["lower_is_better"] else (b - a)) / a if a else math.nan
        missing = e.folder.name if found is None else random.folder.name
        return _gained(gain), _signed(100 * (b - a), ".2f"), f"no interval, since {missing} has no examples.parquet"
    if found[:2] != other[:2]:
        return NOTHING, NOTHING, "tested on other images than the random encoder, so there is no gain"
    metric = _metric(e)
    d = paired_difference(
        other[2], found[2], lambda sums: metric.compute(sums)[headline], lower_is_better=mine["lower_is_better"]
    )
    interval = f"{_signed(100 * d.difference, '.2f')} [{_signed(100 * d.low, '.2f')}, {_signed(100 * d.high, '.2f')}]"
    stored = _mean(mine["metrics"], headline)
    if math.isclose(d.b, stored, rel_tol=1e-4):
        return _gained(d.relative_gain), interval, ""
    note = f"examples.parquet gives {_percent(d.b)}, results.json {_percent(stored)}; is one of them old?"
    return _gained(d.relative_gain), interval, note


def _gained(gain: float) -> str:
    return NOTHING if math.isnan(gain) else f"{_signed(100 * gain, '.1f')}%"


def _provenance(lines: Mapping[float, Sequence[_Line]]) -> Table:
    """Where every row comes from."""
    rows = []
    for fraction, found in lines.items():
        for line in found:
            if line.kind == "baseline":
                continue
            e = line.evaluation
            checkpoint = {} if e.results["checkpoint"] == "random" else e.results["checkpoint"]
            parts = [str(checkpoint.get(key, NOTHING)) for key in ("path", "digest")]
            versions = ", ".join(f"{k} {v}" for k, v in (e.results.get("versions") or {}).items())
            seeds = ", ".join(map(str, e.results["seeds"]))
            rows.append(Row((line.name, f"{100 * fraction:g}%", seeds, *parts, str(e.folder), versions or NOTHING)))
    header = ("Encoder", "Labels", "Seeds", "Checkpoint", "Digest", "Workdir", "Versions")
    return Table("Provenance", "Where every row comes from", header, tuple(rows), folded=True)


def _pretraining_section(run: Pretraining) -> Section:
    scalars = run.scalars
    terms = [name for name in sorted(scalars) if name.endswith("/loss")]
    shown = [name for name in ("loss", *terms, "images_per_second", "input_wait", "learning_rate") if name in scalars]
    rows = []
    for name in dict.fromkeys([*shown, *sorted(scalars)]):
        values = scalars[name][1]
        middle = values[np.isfinite(values)]
        numbers = (values[0], np.median(middle) if middle.size else math.nan, values[-1])
        rows.append(Row((name, *(_number(float(v)) for v in numbers))))
    steps = np.unique(np.concatenate([steps for steps, _ in scalars.values()])) if scalars else np.zeros(0, int)
    caption = f"{run.folder.name} · {_plural(len(steps), 'logged step')}"
    caption += f", {steps[0]:,} to {steps[-1]:,}" if len(steps) else ""
    table = Table(
        "Scalars", caption, ("Scalar", "First", "Median", "Last"), tuple(rows), (run.note,) if run.note else ()
    )
    pictures = tuple(curve(name, scalars) for name in shown)
    return Section(run.folder.name, _run_facts(run.config), (table,), pictures)


def _run_facts(described: Mapping[str, Any]) -> str:
    """What a reader wants to know of a config first, as far as it is there."""

    def get(*keys: str) -> Any:
        value: Any = described
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def called(key: str) -> str:
        return str(get(key, "call") or "").rpartition(":")[2]

    encoder = " ".join(str(part) for part in (called("encoder"), get("encoder", "variant")) if part)
    terms = get("objective", "terms")
    objective = " + ".join(terms) if isinstance(terms, Mapping) else called("objective")
    facts = [encoder, objective, get("data", "dataset")]
    facts += [f"batch {get('data', 'batch_size'):,}"] if isinstance(get("data", "batch_size"), int) else []
    facts += [f"{get('steps'):,} steps"] if isinstance(get("steps"), int) else []
    return " · ".join(str(fact) for fact in facts if fact)


def html(page: Page) -> str:
    """The page as one HTML file that loads nothing."""
    text = (resources.files(__package__) / "report.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text).render(page=page)


def markdown(page: Page) -> str:
    """The page's words and tables; pictures are in the HTML alone."""
    parts = ["# Face representations: report", f"{page.summary}. Curves and pictures: report.html."]
    for heading, sections in (("Evaluation", page.evaluations), ("Pre-training", page.pretrainings)):
        parts += [f"## {heading}"] if sections else []
        for section in sections:
            parts += [f"### {_escaped(section.title)}", _escaped(section.facts)]
            parts += [_escaped(note) for note in section.notes]
            for table in section.tables:
                parts += [f"#### {_escaped(table.title)}", _escaped(table.caption), _markdown_table(table)]
                parts += [_escaped(note) for note in table.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [tuple(map(_escaped, table.header)), ("---", *["---:"] * (len(table.header) - 1))]
    for row in table.rows:
        cells = [_escaped(cell) for cell in row.cells]
        lines.append(tuple(f"**{cell}**" if row.best and cell else cell for cell in cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


ESCAPES: dict[int, str] = {ord(sign): f"\\{sign}" for sign in "\\|*_`[]"}
ESCAPES |= {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\n"): " "}


def _escaped(text: str) -> str:
    """Text that Markdown prints as it is."""
    return text.translate(ESCAPES)
