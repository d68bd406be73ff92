"""Work that Apache Beam, an extra, spreads over a cluster."""

import functools
import json
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from facerep_jax import files

HELP = "run as an Apache Beam pipeline with these options: '--runner=DirectRunner'"  # of the flag


def options_of(words: str | None) -> Any:
    """What `--beam_options` says, as Beam takes it; None if it is not given.

    Raises:
        ValueError: it has a quotation without an end, or Beam is not installed.
    """
    if words is None:
        return None
    try:
        given = shlex.split(words)
    except ValueError as error:
        raise ValueError(f"--beam_options: {error}") from None
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise ValueError("--beam_options needs Apache Beam: pip install 'facerep_jax[prepare]'") from None
    return PipelineOptions(given)


def run(function: Callable[[Any], Any], items: Sequence[Any], options: Any) -> None:
    """Calls a function for each item, in whatever order, on the workers of a pipeline."""
    import apache_beam  # 2 s to import

    with apache_beam.Pipeline(options=options) as pipeline:
        _ = pipeline | apache_beam.Create(items) | apache_beam.Reshuffle() | apache_beam.Map(function)


def mapped(function: Callable[[Any], Any], items: Sequence[Any], options: Any, folder: Path) -> Iterator[Any]:
    """Maps over items by a pipeline; gives the results, which go through JSON, in order.

    Args:
        folder: that all workers see; results lie in it until the last of them is given.
    """
    with tempfile.TemporaryDirectory(prefix=".beam-", dir=folder) as name:
        work = Path(name)
        run(functools.partial(_written, function=function, folder=work), [*enumerate(items)], options)
        for number in range(len(items)):
            yield json.loads(_result(work, number).read_text())


def _written(numbered: tuple[int, Any], *, function: Callable[[Any], Any], folder: Path) -> None:
    number, item = numbered
    files.write(_result(folder, number), json.dumps(function(item)))


def _result(folder: Path, number: int) -> Path:
    return folder / f"{number}.json"
