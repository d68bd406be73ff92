"""The training loop."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from facerep_jax.data.pipeline import split_host
from facerep_jax.train import distributed
from facerep_jax.train.account import Meter
from facerep_jax.train.checkpoint import Checkpoints
from facerep_jax.train.profile import Profile
from facerep_jax.train.samples import Ledger
from facerep_jax.train.sharding import global_batch
from facerep_jax.train.state import TrainState
from facerep_jax.train.writer import Writer
from facerep_jax.typing import Metrics, Tree

CLOCK_STEPS = 10  # between looks at the clock, where all processes have to agree on it


class Stopped(Exception):
    """The run was asked to stop by a signal, and saved."""


class NonFinite(Exception):
    """Too many steps in a row had a loss or gradient that is not finite."""


class Signals:
    """Remembers SIGTERM and SIGINT while it is entered; after either, a SIGINT ends the process at once.

    Where there are several processes, jax takes SIGTERM and tells the others; SIGINT is passed on as that.
    """

    def __enter__(self) -> "Signals":
        self.received: int | None = None
        noted = (signal.SIGTERM, signal.SIGINT) if distributed.alone() else (signal.SIGINT,)
        self._before = {number: signal.signal(number, self._note) for number in noted}
        return self

    def stop_at(self, step: int) -> str:
        """Why the run is to save at this step and end, the same in all processes; empty where it goes on."""
        if self.received is not None and distributed.alone():
            return signal.Signals(self.received).name
        return "SIGTERM to one of the processes" if distributed.preempted(step) else ""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if not distributed.alone():
            os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever a save or a barrier waits for

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Seen(NamedTuple):
    """A step that was started, and the ids of its records in this process."""

    step: int
    metrics: Metrics
    ids: Sequence[str]


class Faults:
    """Steps whose loss or gradient was not finite, which changed nothing in the state.

    Each is a line of `nonfinite.jsonl` with its records' ids.

    Args:
        limit: of them in a row; the last raises NonFinite.
    """

    def __init__(self, workdir: Path, limit: int):
        if limit < 1:
            raise ValueError(f"nonfinite_steps is at least 1, not {limit}")
        self.count, self._limit, self._in_a_row = 0, limit, 0
        self._path = workdir / "nonfinite.jsonl"

    def check(self, seen: Seen | None) -> None:
        """Look at a step's metrics, which waits until it is done."""
        if seen is None:
            return
        numbers = {name: float(seen.metrics[name]) for name in ("loss", "gradient_norm")}
        if all(map(math.isfinite, numbers.values())):
            self._in_a_row = 0
            return
        self.count, self._in_a_row = self.count + 1, self._in_a_row + 1
        with closing(Ledger(self._path)) as ledger:
            ledger.write(seen.step, seen.ids, **{name: str(number) for name, number in numbers.items()})
        which = next(name for name, number in numbers.items() if not math.isfinite(number)).replace("_", " ")
        logging.error("step %d changed nothing: its %s is not finite; see %s", seen.step, which, self._path)
        if self._in_a_row == self._limit:
            raise NonFinite(
                f"the last {self._limit} steps up to {seen.step} had a {which} that is not finite and changed nothing; "
                f"{self._path} has their records. Lower the learning rate, clip the gradient (optimizer.clip_norm), "
                "or look at those records"
            )


def run(
    step: jax.stages.Wrapped,
    state: TrainState,
    frozen: Tree,
    stream: Iterable[dict[str, np.ndarray]],
    *,
    steps: int,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    meta: Callable[[], dict[str, Any]],
    writer: Writer,
    faults: Faults,
    meter: Meter,
    profile: Profile,
    samples: Ledger | None = None,
    schedule: Callable[[int], Any],
    log_every: int,
    checkpoint_every: int,
    checkpoint_minutes: float,
) -> TrainState:
    """Train from the state's step to `steps`, log, and save; at the end, the last step is saved.

    Raises Stopped after a signal, once the state is saved; SaveFailed where a save failed; and NonFinite where `faults`
    has seen enough.

    Args:
        step: a jitted `Step`.
        meta: gives what a checkpoint holds beside the state, called when one is saved.
        faults: is told of steps that were not finite, and so changed nothing.
        meter: measures where the time goes, for the log.
        profile: traces some steps.
        samples: is told of the records of every step.
        log_every, checkpoint_every: steps; 0 never.
        checkpoint_minutes: since the last save; 0 never.
    """
    start = int(state.step)
    batches = iter(stream)
    timeline, logged = meter.timeline, start
    pending: Seen | None = None
    truncated, replaced, saved_at = 0, 0, time.monotonic()

    def due(done: int) -> bool:
        """Whether to save, by steps or by the first process's clock, which many processes look at only now and then."""
        if done == steps or (checkpoint_every and done % checkpoint_every == 0):
            return True
        if not checkpoint_minutes or not (distributed.alone() or done % CLOCK_STEPS == 0):
            return False
        return distributed.same_as_first(time.monotonic() - saved_at >= 60 * checkpoint_minutes)

    quiet = None if distributed.first() else True
    bar = tqdm(total=steps, initial=start, unit="step", disable=quiet, smoothing=0.1, dynamic_ncols=True)
    with Signals() as signals, bar:
        for done in range(start + 1, steps + 1):
            profile.before(done)
            with timeline.span("input"):
                batch, host = split_host(next(batches))
            ids = host["id"].tolist() if "id" in host else []
            truncated = count_truncated(host, truncated)
            replaced += int(np.sum(host.get("replaced", 0)))
            with timeline.span("compile" if done == start + 1 else "step"):
                rows = global_batch(batch, mesh)
                if done == start + 1 and distributed.impatient():
                    step.lower(state, frozen, rows).compile()  # processes do not take equally long
                    distributed.meet()
                state, metrics = step(state, frozen, rows)
            timeline.started(metrics["loss"])
            profile.after(done, metrics)
            if samples is not None:
                samples.write(done, ids)
            faults.check(pending)  # the step before, which is done: reading it does not hold the device up
            pending = Seen(done, metrics, ids)
            if log_every and (done % log_every == 0 or done == steps):
                values = {name: float(value) for name, value in metrics.items()}
                values |= meter.measure(done, done - logged) | {"learning_rate": float(schedule(done - 1))}
                logged = done
                values |= distributed.total(captions_truncated=truncated, records_replaced=replaced)
                writer.write(done, values | {"nonfinite_steps": faults.count})
                bar.set_postfix_str(
                    f"loss {values['loss']:.3f}, {values['images_per_second']:.0f} images/s, "
                    f"{values['input_wait']:.0%} waiting for input"
                )
            bar.update()
            checkpoints.poll()
            stop = signals.stop_at(done)
            if due(done) or stop:
                with timeline.span("save"):
                    checkpoints.save(done, state, meta())
                saved_at = time.monotonic()
            if stop and done < steps:
                checkpoints.wait()
                raise Stopped(f"saved step {done} after {stop}; start me again to go on")
    faults.check(pending)
    checkpoints.wait()
    return state


def count_truncated(host: Mapping[str, np.ndarray], before: int) -> int:
    """The number of captions cut so far; says so once."""
    now = before + int(np.sum(host.get("truncated", 0)))
    if now and not before:
        logging.warning("captions longer than the context are cut; metrics.jsonl counts them as captions_truncated")
    return now
