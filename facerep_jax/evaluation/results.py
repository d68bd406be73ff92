"""The schema of `results.json`: what an evaluation writes, and reports, studies and the demo read.

A `Results` says all that a reader needs to know, in words too, so that a reader needs no table of tasks, metrics,
protocols or encoders. `Results.to_json` gives the object of the file, `Results.read` the contents of one.

The file is one object. Its keys are the fields of `Results`, with two exceptions: the fields of `judged` stand at the
top level, and a checkpoint that is None is written as the string "random".
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from facerep_jax.files import read_object

JUDGED = "encoder"  # the encoder that an evaluation is about, among the names in examples.parquet
RANDOM, SCALED, SCRATCH, PATCHES = "random", "random_scaled", "scratch", "patch_kmeans"
# Baselines that learn by a protocol: the encoder untrained, untrained with blocks that act at its width, and trained on
# the same labels alone; and `models.patch_kmeans`.
NETWORKS = (RANDOM, SCALED, SCRATCH, PATCHES)


@dataclass(frozen=True)
class Summary:
    """A metric over the label subsets; None stands for a value that is not defined."""

    mean: float | None
    std: float | None  # n - 1 in the denominator, 0 for one subset
    values: Sequence[float | None]  # one for each subset, in the order of `Results.seeds`


@dataclass(frozen=True)
class Scores:
    """The scores of the judged encoder or of one baseline, and how it learnt.

    A baseline without a network has metrics alone, and its protocol is empty.
    """

    metrics: Mapping[str, Summary]
    protocol: str = ""  # the protocol's name
    protocol_settings: Mapping[str, Any] | None = None  # the keyword arguments of the protocol
    validation_labels: int | None = None  # labels that something was selected by, 0 if nothing was; None: not recorded
    trains_encoder: bool = False  # whether the protocol trains the encoder too, not only a head


@dataclass(frozen=True)
class Encoder:
    """The encoder that was judged."""

    name: str  # for people, such as "ViT B/16"
    kind: str = ""  # "pre-trained" or "random"
    parameters: int | None = None
    # What must be equal for two encoders to be the same before any training. Settings that features do not depend on
    # are left out by the writer.
    architecture: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Where the encoder's weights came from."""

    path: str
    step: int | None = None  # None if the file has no steps
    weights: str | None = None  # which of the checkpoint's weights, such as "params" or "ema"
    digest: str | None = None  # SHA-256 of the weights


def name_of(checkpoint: Checkpoint | None) -> str:
    """What `--checkpoint` names: WORKDIR@STEP, a FILE without steps, or random."""
    if checkpoint is None:
        return RANDOM
    return checkpoint.path if checkpoint.step is None else f"{checkpoint.path}@{checkpoint.step}"


@dataclass(frozen=True)
class TaskWords:
    """A task in words."""

    title: str  # for headings, such as "Landmarks"
    drawn: str  # how the sheets show truth and prediction: "truth green (ring), prediction red (dot)"


class Scale(NamedTuple):
    """How values of a metric are written."""

    factor: float = 100.0  # by which they are multiplied
    digits: int = 2  # after the point
    unit: str = "%"

    def text(self, value: float | None) -> str:
        """A value without its unit; `nan` if it is not defined."""
        return f"{math.nan if value is None else self.factor * value:.{self.digits}f}"

    def shown(self, value: float | None) -> str:
        """A value with its unit."""
        return self.text(value) + self.after

    @property
    def after(self) -> str:
        """The unit as it stands behind a number."""
        return f" {self.unit}" if self.unit.isalpha() else self.unit

    @property
    def bracketed(self) -> str:
        """The unit in brackets, for a column's head; empty if there is none."""
        return f" ({self.unit})" if self.unit else ""

    @property
    def said(self) -> str:
        """The unit in a sentence, ` in %`; empty if there is none."""
        return f" in {self.unit}" if self.unit else ""


PERCENT = Scale()


def scale_of(metric: str, counts: Collection[str], measures: Mapping[str, str]) -> Scale:
    """How a metric's values are written: `counts` and `measures` name those that are no fractions."""
    if metric in counts:
        return Scale(1.0, 0, "")
    return Scale(1.0, 3, measures[metric]) if metric in measures else PERCENT


@dataclass(frozen=True)
class Words:
    """Explanations, each from the thing that it explains: task, metric and protocols."""

    task: TaskWords
    columns: Sequence[str]  # metrics of the main table, the headline first
    names: Mapping[str, str]  # metric -> how tables write it, such as "NME, inter-ocular"; may leave some out
    counts: Sequence[str]  # metrics that are counts; all but these and `measures` are fractions, printed in percent
    metrics: Sequence[str]  # sentences that explain the metrics, in order
    protocols: Mapping[str, str]  # name -> a sentence, for each protocol of the results
    baselines: Mapping[str, str]  # name -> a sentence, for baselines that learn by a protocol
    unit: str  # what a row of examples.parquet is, a singular noun: "image", "pair", "template"
    belongs_to: str  # what several rows belong to that are drawn together for intervals: "person", "fold"
    per_row: bool  # whether the headline is defined on single rows, as a mean over rows is and an F1 is not
    error_limit: float | None  # the largest error of a row that is still a success; None if there is no such limit
    measures: Mapping[str, str] = field(default_factory=dict)  # metrics that are no fractions -> unit, "" without one
    ranked: str = ""  # the metric that the worst and best rows are found by; empty if rows have none, or not told

    def scale(self, metric: str) -> Scale:
        """How a metric's values are written."""
        return scale_of(metric, self.counts, self.measures)

    def name(self, metric: str) -> str:
        """How tables write a metric: as given, or derived from its name."""
        return self.names.get(metric) or titled(metric)


@dataclass(frozen=True)
class Group:
    """The judged encoder's headline on some of the test examples, mean over the label subsets."""

    axis: str  # what the group is one of, such as "yaw"
    name: str  # such as "30–60°"
    rows: int  # of examples.parquet
    units: int  # that these belong to
    enough: bool  # whether the units are so many that the value says something
    value: float | None
    low: float | None = None  # the 95 % interval; None without enough units
    high: float | None = None
    gap: float | None = None  # the value less that of the axis's other groups together
    gap_low: float | None = None
    gap_high: float | None = None
    decided: bool = False  # whether it is worse than those, at a level that allows for the number of groups
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # `words.columns`, mean over label subsets

    @property
    def title(self) -> str:
        """Axis and name."""
        return f"{self.axis}: {self.name}"


@dataclass(frozen=True)
class Breakdown:
    """A result by groups of test examples."""

    groups: Sequence[Group] = ()
    worst: str = ""  # title of the group with the worst value, of those with enough units; empty if there is none
    decided: bool = False  # whether that group is worse than the others of its axis
    small: Sequence[str] = ()  # titles of groups that are too small to say anything
    note: str = ""  # why there are no groups


@dataclass(frozen=True)
class Harm:
    """What one strength of a corruption makes of the headline."""

    strength: int
    mean: float | None  # over label subsets
    std: float | None
    values: Sequence[float | None]  # one for each subset
    change: float | None = None  # less the value on clean images
    low: float | None = None  # its 95 % interval
    high: float | None = None


@dataclass(frozen=True)
class Results:
    """All that came of an evaluation."""

    task: str  # the name of the task's module
    dataset: str
    dataset_digest: str | None
    encoder: Encoder
    head: str  # the task's head in words; empty if there is none
    selection: str  # how step and settings were chosen: "validation", "last" or "test_best"
    fraction: float  # share of the training labels, above 0 and at most 1
    labels: int  # training labels of a subset
    test_images: int | None  # test examples, each a `words.unit`
    test_units: int | None  # what they belong to, each a `words.belongs_to`; as many as examples if each stands alone
    predictions: int | None  # test examples whose predictions are kept
    seeds: Sequence[int]  # one for each subset of the labels
    headline: str  # the metric that counts
    lower_is_better: bool  # of the headline
    judged: Scores
    baselines: Mapping[str, Scores]
    metric: Mapping[str, Any]  # the spec of the metric
    checkpoint: Checkpoint | None  # None: the encoder before any training
    seconds: Mapping[str, float]  # phase -> wall time
    config: Mapping[str, Any]
    versions: Mapping[str, str]  # package -> version
    words: Words
    licence: Mapping[str, Any] = field(default_factory=dict)  # of the data set, as its meta says it
    held_out: int = 0  # training examples that served as validation split, since the data set has none
    left_out: Mapping[str, int] = field(default_factory=dict)  # split's role -> records that lack what is needed
    shots: int = 0  # training labels of each person or class; 0 if a fraction of all was drawn
    learnt: Mapping[str, Any] = field(default_factory=dict)  # file, seed, megabytes and digest of `evaluation.learnt`
    breakdown: Breakdown = field(default_factory=Breakdown)  # of the judged encoder
    corruptions: Mapping[str, Sequence[Harm]] = field(default_factory=dict)  # of test images, by rising strength
    notes: Sequence[str] = ()  # what a reader of the values has to know of the labels, such as those that nobody has

    @property
    def protocol(self) -> str:
        """The protocol by which the judged encoder learnt."""
        return self.judged.protocol

    @property
    def in_units(self) -> bool:
        """Whether several test examples belong together, such as to one person, and are drawn together."""
        return bool(self.test_images and self.test_units and self.test_units < self.test_images)

    @property
    def independent(self) -> str:
        """A noun for what is independent among test examples: what several belong to, such as person, or they."""
        return self.words.belongs_to if self.in_units else self.words.unit

    @property
    def scores(self) -> dict[str, Scores]:
        """The scores of all, by their names in examples.parquet."""
        return {JUDGED: self.judged, **self.baselines}

    def to_json(self) -> dict[str, Any]:
        """The object of results.json."""
        found = asdict(self)
        if self.checkpoint is None:
            found["checkpoint"] = RANDOM
        found["baselines"] = {
            name: scores if scores["protocol"] else {"metrics": scores["metrics"]}
            for name, scores in found["baselines"].items()
        }
        flat: dict[str, Any] = {}
        for key, value in found.items():
            flat |= value if key == "judged" else {key: value}
        return flat

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read a results.json.

        What earlier versions did not write has a default: no explanations, the first three metrics as columns.

        Raises:
            ValueError: a key is missing or has a value of the wrong type; the message names file and key.
        """
        return _results(_Object(str(path), read_object(path)))


def titled(name: str) -> str:
    """`linear_probe` as words, the first with a capital."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


class _Object(NamedTuple):
    """An object of the file, and what it is called in messages."""

    where: str
    found: Mapping[str, Any]

    def need(self, key: str, kind: type) -> Any:
        """The value of a key that must be there."""
        if key not in self.found:
            raise ValueError(f"{self.where} has no {key!r}; was it written by facerep evaluate?")
        return _check(f"{self.where}: {key}", self.found[key], kind)

    def get(self, key: str, kind: type, default: Any) -> Any:
        """The value of a key, or the default if it is missing or null."""
        return default if self.found.get(key) is None else self.need(key, kind)

    def objects(self, key: str) -> dict[str, "_Object"]:
        """The objects in the object of a key, by name; none if it is missing."""
        return {
            name: _Object(where := f"{self.where}: {key}: {name}", _check(where, value, dict))
            for name, value in self.get(key, dict, {}).items()
        }

    def list(self, key: str) -> list["_Object"]:
        """The objects in the list of a key, in order; none if it is missing."""
        return [
            _Object(where := f"{self.where}: {key} {place}", _check(where, value, dict))
            for place, value in enumerate(self.get(key, list, ()))
        ]

    def object(self, key: str) -> "_Object":
        """The object of a key, or an empty one if it is missing."""
        return _Object(f"{self.where}: {key}", self.get(key, dict, {}))


KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def _check(where: str, value: Any, kind: type) -> Any:
    # JSON writes a float without a fraction as a whole number. To Python true is a number, to JSON it is not.
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} must be {KINDS[kind]}, not {value!r}")
    return value


def _results(top: _Object) -> Results:
    config = top.get("config", dict, {})
    found = Results(
        task=top.need("task", str),
        dataset=top.need("dataset", str),
        dataset_digest=top.get("dataset_digest", str, None),
        encoder=_encoder(top.object("encoder"), config),
        head=top.get("head", str, ""),
        selection=top.need("selection", str),
        fraction=float(top.need("fraction", float)),
        labels=top.need("labels", int),
        test_images=top.get("test_images", int, None),
        test_units=top.get("test_units", int, top.get("test_images", int, None)),
        predictions=top.get("predictions", int, None),
        seeds=tuple(_check(f"{top.where}: seeds", seed, int) for seed in top.need("seeds", list)),
        headline=top.need("headline", str),
        lower_is_better=top.need("lower_is_better", bool),
        judged=replace(_scores(top), protocol=top.need("protocol", str)),
        baselines={name: _scores(entry) for name, entry in top.objects("baselines").items()},
        metric=top.need("metric", dict),
        checkpoint=_checkpoint(top),
        seconds=top.get("seconds", dict, {}),
        config=config,
        versions=top.get("versions", dict, {}),
        words=_words(top),
        licence=top.get("licence", dict, {}),
        held_out=top.get("held_out", int, 0),
        left_out=top.get("left_out", dict, {}),
        shots=top.get("shots", int, 0),
        learnt=top.get("learnt", dict, {}),
        breakdown=_breakdown(top.object("breakdown")),
        corruptions={name: _harms(top, name) for name in top.get("corruptions", dict, {})},
        notes=tuple(_check(f"{top.where}: notes", note, str) for note in top.get("notes", list, ())),
    )
    if found.headline not in found.judged.metrics:
        raise ValueError(f"{top.where} has no metric {found.headline!r}, its headline")
    return found


def _scores(entry: _Object) -> Scores:
    """The scores in the top level or in a baseline's object."""
    entry.need("metrics", dict)
    return Scores(
        metrics={name: _summary(metric) for name, metric in entry.objects("metrics").items()},
        protocol=entry.get("protocol", str, ""),
        protocol_settings=entry.get("protocol_settings", dict, None),
        validation_labels=entry.get("validation_labels", int, None),
        trains_encoder=entry.get("trains_encoder", bool, False),
    )


def _summary(metric: _Object) -> Summary:
    if not {"mean", "std", "values"} <= set(metric.found):
        raise ValueError(f"{metric.where} must have mean, std and values, not {', '.join(metric.found)}")
    values = metric.need("values", list)
    return Summary(
        mean=metric.get("mean", float, None),
        std=metric.get("std", float, None),
        values=tuple(None if v is None else _check(f"{metric.where}: values", v, float) for v in values),
    )


def _encoder(encoder: _Object, config: Mapping[str, Any]) -> Encoder:
    name = encoder.get("name", str, "")
    return Encoder(
        name=name,
        kind=encoder.get("kind", str, ""),
        parameters=encoder.get("parameters", int, None),
        architecture=encoder.get("architecture", dict, {"name": name, "encoder": config.get("encoder")}),
    )


def _checkpoint(top: _Object) -> Checkpoint | None:
    value = top.found.get("checkpoint")
    if value == RANDOM:
        return None
    if "checkpoint" in top.found and not isinstance(value, dict):
        raise ValueError(f"{top.where}: checkpoint is an object or {RANDOM!r}, not {value!r}")
    top.need("checkpoint", dict)
    origin = top.object("checkpoint")
    return Checkpoint(
        path=origin.need("path", str),
        step=origin.get("step", int, None),
        weights=origin.get("weights", str, None),
        digest=origin.get("digest", str, None),
    )


def _breakdown(found: _Object) -> Breakdown:
    groups = tuple(map(_group, found.list("groups")))
    small = tuple(_check(f"{found.where}: small", title, str) for title in found.get("small", list, ()))
    worst, note = (found.get(key, str, "") for key in ("worst", "note"))
    return Breakdown(groups, worst, found.get("decided", bool, False), small, note)


def _group(group: _Object) -> Group:
    numbers = {key: group.get(key, float, None) for key in ("value", "low", "high", "gap", "gap_low", "gap_high")}
    return Group(
        axis=group.need("axis", str),
        name=group.need("name", str),
        rows=group.need("rows", int),
        units=group.need("units", int),
        enough=group.need("enough", bool),
        decided=group.get("decided", bool, False),
        metrics=group.get("metrics", dict, {}),
        **numbers,
    )


def _harms(top: _Object, name: str) -> tuple[Harm, ...]:
    return tuple(
        Harm(
            strength=harm.need("strength", int),
            values=_summary(harm).values,
            **{key: harm.get(key, float, None) for key in ("mean", "std", "change", "low", "high")},
        )
        for harm in top.object("corruptions").list(name)
    )


def _words(top: _Object) -> Words:
    words = top.object("words")
    task = words.object("task")
    headline, known = top.need("headline", str), list(top.need("metrics", dict))
    first = [headline, *(name for name in known[:3] if name != headline)]
    return Words(
        task=TaskWords(
            task.get("title", str, titled(top.need("task", str))), task.get("drawn", str, "truth and prediction")
        ),
        columns=tuple(words.get("columns", list, first)),
        names=words.get("names", dict, {}),
        counts=tuple(words.get("counts", list, [name for name in known if name.startswith("images")])),
        metrics=tuple(words.get("metrics", list, ())),
        protocols=words.get("protocols", dict, {}),
        baselines=words.get("baselines", dict, {}),
        unit=words.get("unit", str, "image"),
        belongs_to=words.get("belongs_to", str, "group"),
        per_row=words.get("per_row", bool, False),
        error_limit=words.get("error_limit", float, None),
        measures=words.get("measures", dict, {}),
        ranked=words.get("ranked", str, ""),
    )
