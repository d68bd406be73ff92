"""The training loop."""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from facerep_jax.data.pipeline import HOST_ONLY
from facerep_jax.train.checkpoint import Checkpoints
from facerep_jax.train.sharding import global_batch
from facerep_jax.train.state import TrainState
from facerep_jax.train.step import Step
from facerep_jax.train.writer import Writer
from facerep_jax.typing import Metrics, Tree


class Stopped(Exception):
    """The run was asked to stop by a signal, and saved."""


class NonFinite(Exception):
    """The loss is no number any more."""


class Signals:
    """Remembers SIGTERM and SIGINT while it is entered; a second SIGINT ends the process at once."""

    def __enter__(self) -> "Signals":
        self.received: int | None = None
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run(
    step: Step,
    state: TrainState,
    frozen: Tree,
    stream: Iterable[dict[str, np.ndarray]],
    *,
    steps: int,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    meta: Callable[[], dict[str, Any]],
    writer: Writer,
    schedule: Callable[[int], Any],
    log_every: int,
    checkpoint_every: int,
    checkpoint_minutes: float,
) -> TrainState:
    """Train from the state's step to `steps`, log, and save; at the end, the last step is saved.

    Raises Stopped after a signal, once the state is saved, and NonFinite where the loss is; the latter saves nothing,
    so that the newest checkpoint is from before.

    Args:
        meta: gives what a checkpoint holds beside the state, called when one is saved.
        log_every, checkpoint_every: steps; 0 never.
        checkpoint_minutes: since the last save; 0 never.
    """
    start = int(state.step)
    batches = iter(stream)
    window = Window(batch_size)
    pending: tuple[int, Metrics] | None = None
    truncated, saved_step, saved_at = 0, start, time.monotonic()

    def save(done: int) -> None:
        nonlocal saved_step, saved_at
        check(pending, saved_step)
        checkpoints.save(done, state, meta())
        saved_step, saved_at = done, time.monotonic()

    bar = tqdm(total=steps, initial=start, unit="step", disable=None, smoothing=0.1, dynamic_ncols=True)
    with Signals() as signals, bar:
        for done in range(start + 1, steps + 1):
            batch = window.fetch(batches)
            truncated = count_truncated(batch, truncated)
            state, metrics = step(state, frozen, global_batch(batch, mesh))
            check(pending, saved_step)  # of the step before, which is done: reading it does not hold the device up
            pending = (done, metrics)
            if log_every and (done % log_every == 0 or done == steps):
                values = {name: float(value) for name, value in metrics.items()}
                values |= window.rates() | {"learning_rate": float(schedule(done - 1))}
                writer.write(done, values | {"captions_truncated": truncated})
                bar.set_postfix_str(
                    f"loss {values['loss']:.3f}, {values['images_per_second']:.0f} images/s, "
                    f"{values['input_wait']:.0%} waiting for input"
                )
            bar.update()
            minutes = (time.monotonic() - saved_at) / 60
            if (
                done == steps
                or signals.received
                or (checkpoint_every and done % checkpoint_every == 0)
                or (checkpoint_minutes and minutes >= checkpoint_minutes)
            ):
                save(done)
            if signals.received and done < steps:
                checkpoints.wait()
                raise Stopped(
                    f"saved step {done} after {signal.Signals(signals.received).name}; start me again to go on"
                )
    checkpoints.wait()
    return state


def check(pending: tuple[int, Metrics] | None, saved_step: int) -> None:
    """NonFinite where a step's loss is no finite number."""
    if pending is not None and not math.isfinite(loss := float(pending[1]["loss"])):
        raise NonFinite(
            f"the loss is {loss} at step {pending[0]}; nothing after step {saved_step} was saved. "
            "Lower the learning rate, clip the gradient (optimizer.clip_norm), or look at that step's data"
        )


def count_truncated(batch: dict[str, np.ndarray], before: int) -> int:
    """Takes what only the host reads out of a batch; gives the number of captions cut so far, and says so once."""
    host = {key: batch.pop(key) for key in HOST_ONLY if key in batch}
    now = before + int(np.sum(host.get("truncated", 0)))
    if now and not before:
        logging.warning("captions longer than the context are cut; metrics.jsonl counts them as captions_truncated")
    return now


class Window:
    """Rates since the last look: images per second, and the share of time spent waiting for input."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._reset()

    def _reset(self) -> None:
        self._start, self._waited, self._batches = time.monotonic(), 0.0, 0

    def fetch(self, batches: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The next batch."""
        before = time.monotonic()
        batch = dict(next(batches))
        self._waited += time.monotonic() - before
        self._batches += 1
        return batch

    def rates(self) -> dict[str, float]:
        """Both, since this was last called."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rates = {
            "images_per_second": self._batches * self.batch_size / elapsed,
            "input_wait": self._waited / elapsed,
        }
        self._reset()
        return rates
