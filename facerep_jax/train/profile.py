"""A trace of some steps, for TensorBoard's profiler, xprof or Perfetto."""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import logging

from facerep_jax.typing import Metrics


class Profile:
    """Writes what devices and host do in the steps from `steps[0]` to before `steps[1]`; none where it is empty.

    Args:
        folder: each process leaves files of its own there.
    """

    def __init__(self, folder: Path, steps: Sequence[int]):
        if steps and (len(steps) != 2 or not 1 <= steps[0] < steps[1]):
            raise ValueError(f"profile_steps is a first step and the one after the last, such as (10, 13), not {steps}")
        self._folder, self._steps, self._tracing = folder, range(*steps) if steps else range(0), False

    def before(self, step: int) -> None:
        """Call it before each step."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def after(self, step: int, result: Metrics) -> None:
        """Call it after each step; waits for the last that is traced."""
        if self._tracing and step == self._steps[-1]:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Write what there is."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            logging.warning("the trace of steps %d to %d is in %s", self._steps[0], self._steps[-1], self._folder)
