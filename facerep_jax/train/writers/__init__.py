"""Writers of metrics to trackers of experiments, beside the files of the workdir: none unless a config asks.

`config.writers` is a tuple of specs, or of strings, which are names of `NAMES` or MODULE:NAME. Whatever has the methods
of `MetricWriter` can be named, such as CLU's writers. Each works in a process of its own, see `feed`.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from facerep_jax.config import Spec, build, locate, parameters_of, plain, signature_of, taken
from facerep_jax.suggestions import nearest

NAMES = {
    "wandb": "facerep_jax.train.writers.wandb:WandB",
    "mlflow": "facerep_jax.train.writers.mlflow:MLflow",
}
FOLDER = "writers"  # of a workdir: what each writer keeps for the next start, and what it printed


@runtime_checkable
class MetricWriter(Protocol):
    """What a spec of `config.writers` builds: the part of CLU's interface of the same name that a run needs.

    The constructor may take `workdir`, which its spec leaves open. It connects, so that it may take long or fail: it is
    then called again for the next line. A class may list what it imports in `packages`, so that a run which misses one
    is refused before it begins.
    """

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Write the config, once at each start."""
        ...

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write a line of metrics.jsonl. After a resume steps come again."""
        ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def specs_of(writers: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """What `config.writers` names, as plain data.

    Raises:
        ValueError: there is no such callable, an argument of it is unknown, or a package is not installed.
    """
    if isinstance(writers, str):
        raise ValueError(f"config.writers is a tuple, such as ('{writers}',), not {writers!r}")
    return tuple(_checked({"call": _named(each)} if isinstance(each, str) else plain(each)) for each in writers)


def _named(name: str) -> str:
    if ":" in name:
        return name
    if name not in NAMES:
        raise ValueError(f"config.writers: no writer {name!r} (nor MODULE:NAME); {nearest(name, NAMES)}")
    return NAMES[name]


def _checked(described: Any) -> dict[str, Any]:
    if not isinstance(described, dict) or "call" not in described:
        raise ValueError(f"config.writers holds specs {{'call': 'MODULE:NAME', ...}} or names, not {described!r}")
    call = locate(described)
    keywords = {name: value for name, value in described.items() if name != "call"} | taken(described, {"workdir": ""})
    try:
        signature_of(call).bind(**keywords)
    except TypeError as error:
        known = ", ".join(name for name in parameters_of(described) if name != "workdir")
        raise ValueError(f"config.writers: {described['call']}: {error}; arguments: {known or 'none'}") from None
    for package in getattr(call, "packages", ()):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"config.writers: {described['call']} needs a package: pip install {package}")
    return described


def opened(described: Spec, workdir: Path, config: Mapping[str, Any]) -> MetricWriter:
    """The writer that a spec names, which has written the config."""
    writer: MetricWriter = build(described, **taken(described, {"workdir": workdir}))
    writer.write_hparams(config)
    return writer
