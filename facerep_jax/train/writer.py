"""Writer of metrics, to a file of JSON lines and to TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from absl import logging
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from facerep_jax.files import append_lines, object_of
from facerep_jax.train import distributed
from facerep_jax.train.collapse import PATIENCE, Watch
from facerep_jax.train.writers.feed import Feeds

LOG = "metrics.jsonl"
FLUSH_SECONDS = 30  # between flushes of the TensorBoard events, each of which waits for the disk


class Writer:
    """Appends one JSON object per line to `metrics.jsonl`, with `step` and Unix `time`, and the same to TensorBoard.

    A run that resumes writes some steps again; readers take the last line of a step. Only the first process writes.
    What it writes is watched for signs of a collapse, each of which is a line of warning.

    Args:
        patience: see `collapse.Watch`.
        others: writers that get the same, see `writers`; how many lines they lost becomes a scalar.
    """

    def __init__(self, workdir: Path, patience: int = PATIENCE, others: Feeds | None = None):
        self._open = distributed.first()
        if not self._open:
            return
        self._others = Feeds() if others is None else others
        self._watch = Watch(lines_of(workdir), patience)
        self._lines = append_lines(workdir / LOG)
        # Not a SummaryWriter: a full disk silently ends its thread, and ten values later the run would wait for ever.
        self._events = EventsWriter(str(workdir / "events"))
        self._flushed = 0.0

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars; values that are not finite become null in JSON."""
        if not self._open:
            return
        metrics = {**metrics, **self._others.counts}
        finite = {name: float(f"{value:.7g}") if math.isfinite(value) else None for name, value in metrics.items()}
        now = time.time()
        self._lines.write(json.dumps({"step": step, "time": round(now, 3), **finite}) + "\n")
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._events.write_event(Event(step=step, wall_time=now, summary=Summary(value=values)))
        self._others.put(step, metrics)
        for warning in self._watch.look(step, metrics):
            logging.warning("%s", warning)
        if now - self._flushed > FLUSH_SECONDS:
            self._events.flush()
            self._flushed = now

    def close(self) -> None:
        if self._open:
            with closing(self._events):  # even if a full disk keeps the lines from being closed
                self._lines.close()


def lines_of(workdir: Path) -> list[dict[str, Any]]:
    """The lines that earlier runs wrote; an incomplete last line, which a crash may leave behind, is ignored.

    Raises:
        ValueError: another line is not JSON; the message names it.
    """
    path = workdir / LOG
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [object_of(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
