"""Metrics to a file of JSON lines and to TensorBoard."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from facerep_jax.train import distributed


class Writer:
    """Appends one object per line to `metrics.jsonl`, with `step`, and the same to TensorBoard events.

    A run that resumes writes some steps again; readers take the last. Only the first of many processes writes.
    """

    def __init__(self, workdir: Path):
        self._open = distributed.first()
        if not self._open:
            return
        self._lines = (workdir / "metrics.jsonl").open("a", buffering=1)
        self._events = SummaryWriter(str(workdir), write_to_disk=True)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars; those that are not finite become null in JSON."""
        if not self._open:
            return
        finite = {name: float(f"{value:.7g}") if math.isfinite(value) else None for name, value in metrics.items()}
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        if self._open:
            self._lines.close()
            self._events.close()
