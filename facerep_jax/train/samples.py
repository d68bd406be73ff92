"""Ledger of the records that each step saw."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jax.experimental import multihost_utils

from facerep_jax.files import append_lines
from facerep_jax.train import distributed


def of_all_processes(ids: Sequence[str]) -> list[str]:
    """The ids of all processes, sorted. Every process must call this, with equally many ids."""
    if distributed.alone():
        return sorted(map(str, ids))
    encoded = np.asarray([str(name).encode() for name in ids])
    width = int(multihost_utils.process_allgather(np.asarray(encoded.dtype.itemsize)).max())
    padded = encoded.astype(f"S{width}").view(np.uint8).reshape(len(encoded), width)
    rows = multihost_utils.process_allgather(padded).reshape(-1, width)
    return sorted(row.tobytes().rstrip(b"\0").decode() for row in rows)


class Ledger:
    """A file of JSON lines, one for each step that is written; a line that a killed process left half is removed.

    Only the first process writes to the file, but all must call `write`, which gathers their ids.
    """

    def __init__(self, path: Path):
        self._file = append_lines(path) if distributed.first() else None

    def write(self, step: int, ids: Sequence[str], **more: object) -> None:
        """Append {"step": step, "ids": sorted ids of all processes, ...}."""
        everyone = of_all_processes(ids)
        if self._file is not None:
            self._file.write(json.dumps({"step": step, "ids": everyone, **more}) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
