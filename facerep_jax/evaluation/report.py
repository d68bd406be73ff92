"""Workdirs to one page: `read` the folders, lay out the `page`, print it as `html` or `markdown`.

The page is plain data of finished strings, so that both prints hold the same numbers.
"""

import base64
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib
import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facerep_jax import config
from facerep_jax.evaluation.statistics import paired_difference


class Evaluation(NamedTuple):
    """One evaluation workdir."""

    folder: Path
    results: Mapping[str, Any]  # results.json


class Pretraining(NamedTuple):
    """One pre-training workdir: its config and every scalar as (steps, values)."""

    folder: Path
    config: Mapping[str, Any]
    scalars: Mapping[str, tuple[np.ndarray, np.ndarray]]
    note: str = ""


REQUIRED = (
    *("task", "dataset", "protocol", "selection", "fraction", "seeds", "metrics", "headline", "lower_is_better"),
    *("checkpoint", "labels", "metric"),
)


def read(folders: Sequence[Path]) -> tuple[list[Evaluation], list[Pretraining]]:
    """All evaluations and pre-training runs in or below the folders, each once, in the order of their paths.

    The curves of a fine-tuning inside an evaluation's workdir are not pre-training. FileNotFoundError for a folder that
    holds neither, ValueError for a file that cannot be read.
    """
    evaluations: dict[Path, Path] = {}  # resolved -> as given
    pretrainings: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        evaluated = {path.parent for path in folder.rglob("results.json")}
        logged = {path.parent for path in folder.rglob("metrics.jsonl")}
        pretrained = {f for f in logged if not evaluated & {f, *f.parents}}
        if not evaluated | pretrained:
            raise FileNotFoundError(
                f"{folder}: neither results.json nor metrics.jsonl in it or below; "
                "expected workdirs of facerep evaluate or facerep pretrain"
            )
        evaluations |= {f.resolve(): f for f in evaluated}
        pretrainings |= {f.resolve(): f for f in pretrained}
    return (
        [_read_evaluation(f) for f in sorted(evaluations.values())],
        [_read_pretraining(f) for f in sorted(pretrainings.values())],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, not {type(value).__name__}")
    return value


def _read_evaluation(folder: Path) -> Evaluation:
    path = folder / "results.json"
    results = _read_json(path)
    for key in REQUIRED:
        if key not in results:
            raise ValueError(f"{path} has no {key!r}; was it written by facerep evaluate?")
    if results["checkpoint"] != "random" and not isinstance(results["checkpoint"], dict):
        raise ValueError(f"{path}: checkpoint is an object or 'random', not {results['checkpoint']!r}")
    for name, metric in results["metrics"].items():
        if not {"mean", "std", "values"} <= set(metric):
            raise ValueError(f"{path}: metric {name} must have mean, std and values, not {', '.join(metric)}")
    if results["headline"] not in results["metrics"]:
        raise ValueError(f"{path} has no metric {results['headline']!r}, its headline")
    return Evaluation(folder, results)


def _read_pretraining(folder: Path) -> Pretraining:
    """The log of a run. After a resume steps repeat: the last value of a step counts."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")
    unfinished = lines.pop()  # empty, unless a run is writing it at this moment
    columns: dict[str, dict[int, float]] = defaultdict(dict)
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            step = values.pop("step")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{path}, line {number} is not a JSON object with a step: {line[:80]!r}") from None
        for name, value in values.items():
            if value is None or isinstance(value, int | float):
                columns[name][step] = math.nan if value is None else float(value)
    scalars = {}
    for name, by_step in columns.items():
        steps = sorted(by_step)
        scalars[name] = np.array(steps), np.array([by_step[s] for s in steps])
    described = _read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    note = "The last line of metrics.jsonl is incomplete and was left out." if unfinished.strip() else ""
    return Pretraining(folder, described, scalars, note)


def read_statistics(
    folder: Path, encoder: str = "encoder"
) -> tuple[list[int], list[str], Float[np.ndarray, "subsets n s"]] | None:
    """Subsets, test ids and per-example statistics of one encoder or baseline; None where they were not written."""
    path = folder / "examples.parquet"
    if not path.exists():
        return None
    try:
        rows = pq.read_table(
            path, columns=["id", "subset", "statistics"], filters=[("encoder", "=", encoder)]
        ).to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not rows["id"]:
        return None
    subsets, ids = sorted(set(rows["subset"])), sorted(set(rows["id"]))
    pairs = list(zip(rows["subset"], rows["id"], strict=True))
    if len(pairs) != len(subsets) * len(ids) or len(set(pairs)) != len(pairs):
        raise ValueError(
            f"{path}: {encoder} has {len(pairs)} rows, not one for each of {len(subsets)} subsets and {len(ids)} ids"
        )
    if len({len(s) for s in rows["statistics"]}) != 1:
        raise ValueError(f"{path}: the statistics of {encoder} differ in length")
    order = sorted(range(len(pairs)), key=pairs.__getitem__)
    statistics = np.array([rows["statistics"][i] for i in order], np.float64)
    return subsets, ids, statistics.reshape(len(subsets), len(ids), -1)


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


class Picture(NamedTuple):
    """A picture as a data URI."""

    caption: str
    uri: str
    kind: str = "panel"  # one of a grid, a "figure" by itself, or a "strip" that scrolls sideways rather than shrink
    folded: bool = False


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
        " and ".join(f"{n} {noun}{'s' if n != 1 else ''}" for n, noun in counted if n),
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
    baseline: bool = False


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
            if not line.baseline and path.exists():
                caption = f"{line.name}, {_labels_used(fraction)}: test faces with truth and prediction"
                folded = fraction < max(by_fraction)
                pictures.append(Picture(caption, _data_uri(path.read_bytes(), "png"), "strip", folded))
    facts = [results["protocol"].replace("_", " "), f"selection: {results['selection'].replace('_', ' ')}"]
    if results["selection"] == "test_best":
        facts.append("the best step on the test set itself: optimistic")
    title = f"{_title(results['task'])} on {results['dataset']}"
    notes = [SPREAD] + [INTERVAL] * any("Gain over random" in table.header for table in tables)
    return Section(title, " · ".join(facts), (*tables, _provenance(lines)), tuple(pictures), tuple(notes))


def _lines(evaluations: Sequence[Evaluation], names: Mapping[tuple[Any, ...], str]) -> list[_Line]:
    """Pre-trained encoders by name, then the random one, then the baselines; equal baselines once."""
    often = Counter(_checkpoint(e) for e in evaluations)
    encoders = []
    for e in evaluations:
        again = f" ({e.folder.name})" if often[_checkpoint(e)] > 1 else ""
        encoders.append(_Line(names[_checkpoint(e)] + again, e.results["metrics"], e))
    encoders.sort(key=lambda line: (_checkpoint(line.evaluation) == ("random",), line.name))
    baselines: dict[str, list[_Line]] = defaultdict(list)
    for line in encoders:
        for name, baseline in (line.evaluation.results.get("baselines") or {}).items():
            if all(baseline["metrics"] != known.metrics for known in baselines[name]):
                baselines[name].append(_Line(name, baseline["metrics"], line.evaluation, baseline=True))
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


def _mean(line: _Line) -> float:
    """The headline; NaN where there is none."""
    mean = line.metrics.get(line.evaluation.results["headline"], {}).get("mean")
    return math.nan if mean is None else float(mean)


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

    random = next((line for line in lines if line.name.startswith(RANDOM)), None)
    compared = random is not None and any(not line.baseline and line != random for line in lines)
    best = [m for m in map(_mean, lines) if not math.isnan(m)]
    target = (min if results["lower_is_better"] else max)(best, default=math.nan)
    rows, notes = [], []
    for line in lines:
        cells = [line.name, *(_measured(name, line.metrics.get(name)) for name in columns)]
        if random is not None and compared:
            plain = line.baseline or _checkpoint(line.evaluation) == ("random",)
            gain, difference, note = ("", "", "") if plain else _gain(line.evaluation, random.evaluation)
            cells += [gain, difference]
            notes += [f"{line.name}: {note}."] if note else []
        labels = line.evaluation.results["labels"]
        rows.append(Row((*cells, f"{labels:,}", str(_subsets(line))), best=_mean(line) == target))

    gains = ("Gain over random", "Difference [95% interval]") if compared else ()
    arrow = "↓" if results["lower_is_better"] else "↑"
    header = ("Encoder", f"{_words(headline)} {arrow}", *map(_words, columns[1:]), *gains, "Labels", "Subsets")
    counts = sorted({_subsets(line) for line in lines})
    subsets = " or ".join(map(str, counts)) + f" label subset{'' if counts == [1] else 's'}"
    facts = [_title(results["task"]), results["dataset"], results["protocol"].replace("_", " ")]
    facts += [f"selection: {results['selection'].replace('_', ' ')}", _labels_used(fraction), subsets]
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
    if mine["seeds"] != theirs["seeds"] or mine["labels"] != theirs["labels"]:
        return NOTHING, NOTHING, "learnt from other label subsets than the random encoder, so there is no gain"
    if mine["metric"] != theirs["metric"]:
        return NOTHING, NOTHING, "scored by another metric than the random encoder, so there is no gain"
    found, other = read_statistics(e.folder), read_statistics(random.folder)
    if found is None or other is None:
        a, b = (
            math.nan if r["metrics"][headline]["mean"] is None else r["metrics"][headline]["mean"]
            for r in (theirs, mine)
        )
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
    stored = mine["metrics"][headline]["mean"]
    differs = stored is None or not math.isclose(d.b, stored, rel_tol=1e-4)
    note = (
        f"examples.parquet gives {_percent(d.b)}, results.json {_percent(stored)}; is one of them old?"
        if differs
        else ""
    )
    return _gained(d.relative_gain), interval, note


def _gained(gain: float) -> str:
    return NOTHING if math.isnan(gain) else f"{_signed(100 * gain, '.1f')}%"


def _provenance(lines: Mapping[float, Sequence[_Line]]) -> Table:
    """Where every row comes from."""
    rows = []
    for fraction, found in lines.items():
        for line in found:
            if line.baseline:
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
    pictures = tuple(_curve(name, scalars) for name in shown)
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


STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Liberation Sans", "Arial", "Helvetica", "DejaVu Sans"],
    "font.size": 10.5,
    "text.color": "#222222",
    "axes.edgecolor": "#9a9a9a",
    "axes.labelcolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7e7e7",
    "grid.linewidth": 0.8,
    "xtick.color": "#9a9a9a",
    "ytick.color": "#9a9a9a",
    "xtick.labelcolor": "#444444",
    "ytick.labelcolor": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "facerep",  # the same report twice is the same file
}
COLOURS = ("#1b5e9b", "#c4611a", "#2f7d4f", "#7d4a96", "#a3862a", "#3d8f97")
GREYS = ("#6f6f6f", "#9b9b9b", "#b5b5b5", "#c6c6c6")
POINTS = 400  # of a curve; more are averaged


def _chart(draw: Callable[[Axes], None], size: tuple[float, float] = (4.4, 2.8)) -> str:
    """A drawn chart as a data URI of SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return _data_uri(drawn.getvalue(), "svg+xml")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points, each the mean of its neighbours."""
    if len(steps) <= POINTS:
        return steps, values
    x, y = (np.array([part.mean() for part in np.array_split(a, POINTS)]) for a in (steps, values))
    return x, y


def _curve(name: str, scalars: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Picture:
    """One scalar against steps; a term's unigram entropy, where it is logged, as a dashed line."""
    unigram = name.removesuffix("loss") + "unigram" if name.endswith("/loss") else ""

    def draw(axes: Axes) -> None:
        marker = "o" if len(scalars[name][0]) == 1 else ""
        axes.plot(*_thinned(*scalars[name]), color=COLOURS[0], marker=marker)
        if unigram in scalars:
            x, y = _thinned(*scalars[unigram])
            axes.plot(x, y, label="unigram entropy", linestyle=(0, (4, 3)), color=GREYS[0], linewidth=1.3)
            axes.legend(loc="best")
        if name in ("images_per_second", "input_wait"):
            axes.set_ylim(0, 1.1 * float(np.nan_to_num(scalars[name][1]).max()) or 1)
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 10_000 else f"{x:g}")

    beside = "; dashed: unigram entropy" if unigram in scalars else ""
    averaged = (
        f"; means over {len(scalars[name][0]) / POINTS:.0f} logged steps" if len(scalars[name][0]) > POINTS else ""
    )
    return Picture(f"{name}{beside}{averaged}", _chart(draw))


def _fraction_chart(lines: Mapping[float, Sequence[_Line]]) -> Picture:
    """The headline against the label fraction, one line per encoder and baseline."""
    results = next(iter(lines.values()))[0].evaluation.results
    series: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for fraction, found in lines.items():
        for line in found:
            std = line.metrics.get(results["headline"], {}).get("std") or 0
            series[line.name].append((100 * fraction, 100 * _mean(line), 100 * std))
            kinds[line.name] = "baseline" if line.baseline else "random" if line.name.startswith(RANDOM) else "encoder"

    columns = 1 if max(map(len, series)) > 24 else 2

    def draw(axes: Axes) -> None:
        colours, greys = iter(COLOURS * len(series)), iter(GREYS * len(series))
        for name in sorted(series, key=lambda n: ("encoder", "random", "baseline").index(kinds[n])):
            x, y, spread = np.array(series[name]).T
            colour = next(colours) if kinds[name] == "encoder" else next(greys)
            dashes = {"encoder": "-", "random": (0, (5, 2)), "baseline": ":"}[kinds[name]]
            axes.plot(x, y, label=name, color=colour, linestyle=dashes, marker="o", markersize=4)
            axes.errorbar(x, y, spread, color=colour, fmt="none", elinewidth=1, capsize=2.5)
        axes.set_xscale("log")
        axes.set_xticks([100 * f for f in lines], [f"{100 * f:g}" for f in lines], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("labels used (%)")
        axes.set_ylabel(f"{_words(results['headline'])} (%)")
        axes.figure.legend(loc="outside lower left", ncols=columns)

    protocol, selection = (results[key].replace("_", " ") for key in ("protocol", "selection"))
    caption = (
        f"{_words(results['headline'])} against the label fraction: {results['dataset']}, {protocol}, "
        f"selection: {selection}. Mean ± standard deviation over label subsets; "
        f"{'lower' if results['lower_is_better'] else 'higher'} is better."
    )
    return Picture(caption, _chart(draw, (4.4, 2.9 + 0.2 * math.ceil(len(series) / columns))), "figure")


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
    lines = [table.header, ("---", *["---:"] * (len(table.header) - 1))]
    for row in table.rows:
        cells = [_escaped(cell) for cell in row.cells]
        lines.append(tuple(f"**{cell}**" if row.best and cell else cell for cell in cells))
    lines[0] = tuple(map(_escaped, table.header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown prints as it is."""
    for sign, instead in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\n", " ")):
        text = text.replace(sign, instead)
    for sign in "|*_`[]":
        text = text.replace(sign, f"\\{sign}")
    return text
