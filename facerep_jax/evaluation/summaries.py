"""What results.json says of the parts of an evaluation: numbers over label subsets, and words."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from flax import nnx

from facerep_jax.config import Spec, locate, plain
from facerep_jax.evaluation import results
from facerep_jax.evaluation.metrics import ranked_by, score
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.results import Summary, TaskWords, Words
from facerep_jax.evaluation.statistics import summary
from facerep_jax.train.state import count
from facerep_jax.typing import Encoder, Metric, Rows, Task


def summarised(metric: Metric, subsets: Sequence[Rows]) -> dict[str, Summary]:
    """The values of a metric over label subsets, by name."""
    values = [score(metric, rows.statistics) for rows in subsets]
    return {name: Summary(**summary([of[name] for of in values])) for name in values[0]}


def words_of(
    task: Task, metric: Metric, protocols: Iterable[Protocol], baselines: Mapping[str, str] = MappingProxyType({})
) -> Words:
    """The explanations of a task, a metric, protocols, and baselines by name."""
    return Words(
        task=TaskWords(task.title, task.drawn),
        columns=metric.columns,
        names=dict(metric.names),
        counts=metric.counts,
        metrics=metric.explains,
        protocols={protocol.name: protocol.explains for protocol in protocols},
        baselines=dict(baselines),
        unit=metric.unit,
        belongs_to=metric.belongs_to,
        per_row=metric.per_row,
        error_limit=metric.error_limit,
        measures=dict(getattr(metric, "measures", {})),
        ranked=(ranked_by(metric) or ("",))[0],
    )


def described(spec: Spec, encoder: Encoder, *, trained: bool) -> results.Encoder:
    """What an encoder is, from its spec."""
    name = " ".join([locate(spec).__name__, str(spec.get("variant") or "")]).strip()
    settings = {key: value for key, value in plain(spec).items() if key not in encoder.no_matter}
    parameters = count(nnx.state(encoder, nnx.Param))
    return results.Encoder(name, "pre-trained" if trained else "random", parameters, settings)


def in_words(spec: Spec) -> str:
    """A spec with its settings, those that are specs too, in words."""
    settings = {name: value for name, value in spec.items() if name != "call"}
    words = [f"{name} {in_words(x) if isinstance(x, Mapping) and 'call' in x else x}" for name, x in settings.items()]
    return spec["call"].rpartition(":")[2] + (f" ({', '.join(words)})" if words else "")


def settings_of(spec: Spec) -> dict[str, Any]:
    """The keyword arguments of a spec."""
    return {name: value for name, value in plain(spec).items() if name != "call"}
