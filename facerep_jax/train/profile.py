"""A trace of some steps, for TensorBoard's profiler, xprof or Perfetto."""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import logging

from facerep_jax.typing import Metrics


class Profile:
    """Traces what devices and host do during some steps.

    Args:
        folder: where each process writes files of its own.
        steps: the first step to trace and the one after the last, or empty to trace nothing.
    """

    def __init__(self, folder: Path, steps: Sequence[int]):
        if steps and (len(steps) != 2 or not 1 <= steps[0] < steps[1]):
            raise ValueError(f"profile_steps is a first step and the one after the last, such as (10, 13), not {steps}")
        self._folder, self._steps, self._tracing = folder, range(*steps) if steps else range(0), False

    def before(self, step: int) -> None:
        """Start tracing if this is the first step to trace; call it before each step."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def after(self, step: int, result: Metrics) -> None:
        """Stop tracing after the last step to trace, which it waits for; call it after each step."""
        if self._tracing and step == self._steps[-1]:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Write the trace, if one is running."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            logging.warning("the trace of steps %d to %d is in %s", self._steps[0], self._steps[-1], self._folder)
