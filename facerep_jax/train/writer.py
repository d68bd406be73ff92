"""Metrics to a file of JSON lines and to TensorBoard."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class Writer:
    """Appends one object per line to `metrics.jsonl`, with `step`, and the same to TensorBoard events.

    A run that resumes writes some steps again; readers take the last.
    """

    def __init__(self, workdir: Path):
        self._lines = (workdir / "metrics.jsonl").open("a", buffering=1)
        self._events = SummaryWriter(str(workdir), write_to_disk=True)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars; those that are not finite become null in JSON."""
        finite = {name: float(f"{value:.7g}") if math.isfinite(value) else None for name, value in metrics.items()}
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._lines.close()
        self._events.close()
