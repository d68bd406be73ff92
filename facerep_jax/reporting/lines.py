"""Lines of tables and charts: encoders and baselines that learnt from one share of the labels, and their names."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from facerep_jax import config
from facerep_jax.evaluation import results as schema
from facerep_jax.evaluation.results import JUDGED, Checkpoint, Results, Scale, Summary
from facerep_jax.evaluation.statistics import Resampled, resampled
from facerep_jax.reporting import wording
from facerep_jax.reporting.workdirs import Evaluation, Statistics, read_statistics
from facerep_jax.typing import Coarse

PRETRAINED, RANDOM, SCRATCH, BASELINE = "pre-trained", "random", "from scratch", "baseline"
NETWORKS = {schema.RANDOM: RANDOM, schema.SCRATCH: SCRATCH}  # the baselines that are the judged encoder
CHART_KINDS = {PRETRAINED: "encoder", RANDOM: "random", SCRATCH: "random", BASELINE: "baseline"}


class Line:
    """An encoder or a baseline on one label fraction.

    Statistics of its test examples are read once, when they are first asked for.

    Args:
        name: how tables and charts call it.
        kind: PRETRAINED, RANDOM, SCRATCH or BASELINE.
        evaluations: one, or several of encoders that differ in nothing but the seed of their pre-training.
        source: its name in examples.parquet.
    """

    def __init__(self, name: str, kind: str, evaluations: Sequence[Evaluation], source: str = JUDGED):
        self.name, self.kind, self.evaluations, self.source = name, kind, tuple(evaluations), source
        self.folder = self.evaluations[0].folder
        self.results: Results = self.evaluations[0].results
        self.scores = self.results.scores[source]

    @property
    def metrics(self) -> Mapping[str, Summary]:
        """The metrics of the first evaluation."""
        return self.scores.metrics

    @property
    def scale(self) -> Scale:
        """How the headline is written."""
        return self.results.words.scale(self.results.headline)

    @property
    def protocol(self) -> str:
        """The protocol by which it learnt, in words; empty if there is no network."""
        return self.scores.protocol.replace("_", " ")

    @property
    def selection(self) -> str:
        """How it was selected, in words."""
        held_out = " held out of the training split" if self.results.held_out and self.scores.validation_labels else ""
        return wording.row_selection(self.results.selection, self.scores.validation_labels) + held_out

    @property
    def means(self) -> tuple[float, ...]:
        """The headline in each evaluation; NaN if it has none."""
        return tuple(math.nan if found is None or found.mean is None else found.mean for found in self._headlines)

    @property
    def mean(self) -> float:
        """The headline, mean over evaluations; NaN if one has none."""
        return float(np.mean(self.means))

    @property
    def spread(self) -> float:
        """The standard deviation of the headline over label subsets, mean over evaluations."""
        return float(np.mean([(found and found.std) or 0.0 for found in self._headlines]))

    @property
    def _headlines(self) -> list[Summary | None]:
        return [e.results.scores[self.source].metrics.get(e.results.headline) for e in self.evaluations]

    @property
    def shared_conditions(self) -> str:
        """All that its numbers hold for, and those of all lines beside it, without its kind."""
        r = self.results
        labels = f"{wording.plural(r.labels, 'label')} ({wording.share(r)})"
        seeds = f"seed{'' if len(r.seeds) == 1 else 's'} {wording.ranges(r.seeds)}"
        if r.fraction == 1 and len(r.seeds) == 1:
            seeds = "all labels at once, so that there is no spread over subsets to show"
        learnt = (self.protocol, r.head) if self.protocol else ()
        network = learnt if self.kind == BASELINE else (r.encoder.name, *learnt)
        return " · ".join(filter(None, (r.dataset, *network, self.selection, labels, seeds, wording.tested(r))))

    @property
    def conditions(self) -> str:
        """All that its numbers hold for."""
        return f"{self.kind} · {self.shared_conditions}"

    @cached_property
    def metric(self) -> Any:
        """The metric that scored it, from its spec."""
        spec = self.results.metric
        try:
            return config.build(spec)
        except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.folder / 'results.json'}: cannot build metric {spec}: {error}") from None

    def value(self, rows: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
        """The headline of some rows of statistics, for each set of weights that say how often a row counts."""
        return self.metric.compute(rows, weights)[self.results.headline]

    @cached_property
    def statistics(self) -> list[Statistics]:
        """The statistics of the test examples in each evaluation; none if they were not written in all."""
        found = [read_statistics(e.folder, self.source) for e in self.evaluations]
        written = [statistics for statistics in found if statistics is not None]
        if len(written) < len(found):
            return []
        for e, statistics in zip(self.evaluations, written, strict=True):
            if statistics.conditions != written[0].conditions:
                raise ValueError(f"{e.folder} has other test examples, units or label subsets than {self.folder}")
        return written

    @cached_property
    def bootstrap(self) -> Resampled:
        """What the headline becomes as test examples are drawn again, those of one unit together."""
        if not self.statistics:
            raise ValueError(f"{self.folder} has no statistics of {self.source}")
        rows = np.stack([statistics.rows for statistics in self.statistics])
        cells = self.metric.cells if isinstance(self.metric, Coarse) else None
        return resampled(rows, self.value, units=self.statistics[0].units, cells=cells)


def encoder_names(evaluations: Iterable[Evaluation]) -> dict[Checkpoint | None, str]:
    """A name for every encoder: the last folder of its path, with more of it only if that is not enough."""
    found: dict[Checkpoint | None, str] = {None: wording.RANDOM}
    rest = {checkpoint for e in evaluations if (checkpoint := e.results.checkpoint) is not None}
    wider: tuple[Callable[[Checkpoint], str], ...] = (
        lambda checkpoint: Path(checkpoint.path).name,
        lambda checkpoint: checkpoint.path,
        lambda checkpoint: f"{checkpoint.path} {checkpoint.digest}",
    )
    for name_of in wider:
        tried = {checkpoint: _with_step(name_of(checkpoint), checkpoint) for checkpoint in rest}
        clashes = Counter(tried.values())
        found |= {checkpoint: name for checkpoint, name in tried.items() if clashes[name] == 1}
        rest -= found.keys()
    return found


def _with_step(name: str, checkpoint: Checkpoint) -> str:
    step = "" if checkpoint.step is None else f"step {checkpoint.step:,}"
    return ", ".join(filter(None, (name, step, checkpoint.weights)))


def ordered_lines(evaluations: Sequence[Evaluation], names: Mapping[Checkpoint | None, str]) -> list[Line]:
    """Pre-trained encoders by name, then the random one, then the baselines; equal baselines once."""
    often = Counter(e.results.checkpoint for e in evaluations)
    encoders = []
    for e in evaluations:
        again = f" ({e.folder.name})" if often[e.results.checkpoint] > 1 else ""
        untrained = SCRATCH if e.results.judged.trains_encoder else RANDOM
        kind = untrained if e.results.checkpoint is None else PRETRAINED
        encoders.append(Line(names[e.results.checkpoint] + again, kind, [e]))
    encoders.sort(key=lambda line: (line.kind != PRETRAINED, line.name))
    baselines: dict[str, list[Line]] = defaultdict(list)
    for line in encoders:
        for name, scores in line.results.baselines.items():
            if all(scores.metrics != known.metrics for known in baselines[name]):
                baselines[name].append(Line(name, NETWORKS.get(name, BASELINE), line.evaluations, name))
    for name, found in baselines.items():
        for baseline in found:
            suffix = f" (of {baseline.folder.name})" if len(found) > 1 else ""
            baseline.name = name.replace("_", " ") + suffix
    return encoders + [baseline for found in baselines.values() for baseline in found]


def rank(line: Line) -> float:
    """The headline with a sign such that smaller is better."""
    return line.mean if line.results.lower_is_better else -line.mean
