"""Metrics to a file of JSON lines and to TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from facerep_jax.files import append_lines
from facerep_jax.train import distributed

LOG = "metrics.jsonl"
FLUSH_SECONDS = 30  # between flushes of the events, each of which waits for the disk


class Writer:
    """Appends one object per line to `metrics.jsonl`, with `step` and Unix `time`, and the same to TensorBoard events.

    A run that resumes writes some steps again; readers take the last. Only the first of many processes writes.
    """

    def __init__(self, workdir: Path):
        self._open = distributed.first()
        if not self._open:
            return
        self._lines = append_lines(workdir / LOG)
        # Not a SummaryWriter: a full disk ends its thread without a word, and ten values later the run waits for ever.
        self._events = EventsWriter(str(workdir / "events"))
        self._flushed = 0.0

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars; those that are not finite become null in JSON."""
        if not self._open:
            return
        finite = {name: float(f"{value:.7g}") if math.isfinite(value) else None for name, value in metrics.items()}
        now = time.time()
        self._lines.write(json.dumps({"step": step, "time": round(now, 3), **finite}) + "\n")
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._events.write_event(Event(step=step, wall_time=now, summary=Summary(value=values)))
        if now - self._flushed > FLUSH_SECONDS:
            self._events.flush()
            self._flushed = now

    def close(self) -> None:
        if self._open:
            with closing(self._events):  # which a full disk keeps the other from
                self._lines.close()


def lines_of(workdir: Path) -> list[dict[str, Any]]:
    """What earlier runs wrote; a last line that was left half is passed over."""
    path = workdir / LOG
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]
