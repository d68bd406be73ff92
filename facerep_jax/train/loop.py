"""The training loop."""

import math
import os
import signal
import termios
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

ASKED_FOR = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # of a closed terminal, and what schedulers can be told
STOPPING = (signal.SIGTERM, signal.SIGINT, *ASKED_FOR)
CLOCK_STEPS = 10  # between looks at the clock, if several processes have to agree on it


class Stopped(Exception):
    """A signal asked the run to stop, and the run has saved its state."""


class NonFinite(Exception):
    """Too many consecutive steps had a loss or gradient that is not finite."""


class Signals:
    """Remembers the first signal of `STOPPING` inside its context; after it, SIGINT ends the process at once.

    SIGHUP, SIGUSR1 and SIGUSR2 stay ignored if the process was started so, as nohup does with SIGHUP. If there are
    several processes, jax handles SIGTERM and tells the others, and all other signals are passed on as SIGTERM.
    """

    def __enter__(self) -> "Signals":
        self.received: int | None = None
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        ignored = {number for number in ASKED_FOR if signal.getsignal(number) is signal.SIG_IGN}
        noted = {*STOPPING} - ignored - (set() if distributed.alone() else {signal.SIGTERM})
        self._before = {number: signal.signal(number, self._note) for number in noted}
        return self

    def stop_at(self, step: int) -> str:
        """Why the run must save at this step and end; empty if it goes on. All processes get the same decision."""
        if self.received is not None and distributed.alone():
            return signal.Signals(self.received).name
        return "SIGTERM to one of the processes" if distributed.preempted(step) else ""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number if self.received is None else self.received
        self._leave_terminal()
        if not distributed.alone():
            os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process even if a save or a barrier hangs

    def _leave_terminal(self) -> None:
        """Drop what is printed from now on if the terminal is gone: the run would fail at the next line, unsaved."""
        for stream in self._terminals:
            try:
                termios.tcgetattr(stream)
            except termios.error:
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), stream)

    def __exit__(self, *_: object) -> None:
        self._leave_terminal()
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Seen(NamedTuple):
    """A step that was started, with the ids of its records in this process."""

    step: int
    metrics: Metrics
    ids: Sequence[str]


class Faults:
    """Counts and records steps whose loss or gradient is not finite; such steps leave the state unchanged.

    Each becomes a line of `nonfinite.jsonl` with the ids of its records.

    Args:
        limit: number of such steps in a row at which NonFinite is raised.
    """

    def __init__(self, workdir: Path, limit: int):
        if limit < 1:
            raise ValueError(f"nonfinite_steps is at least 1, not {limit}")
        self.count, self._limit, self._in_a_row = 0, limit, 0
        self._path = workdir / "nonfinite.jsonl"

    def check(self, seen: Seen | None) -> None:
        """Check the metrics of a step, if there is one; waits until the step is done."""
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
    monitor: Callable[[int, TrainState], Mapping[str, float]] = lambda step, state: {},
    schedule: Callable[[int], Any],
    log_every: int,
    checkpoint_every: int,
    checkpoint_minutes: float,
) -> TrainState:
    """Train from the state's step to `steps`, while logging and saving; the last step is always saved.

    Args:
        step: a jitted `Step`.
        meta: called at each save, gives what a checkpoint holds besides the state.
        faults: checks that each step was finite.
        meter: measures where the time goes, for the log.
        profile: traces some steps.
        monitor: gives the scores of a state if they are due after a step, and nothing otherwise; they are logged.
        samples: records which examples every step saw; None records nothing.
        log_every, checkpoint_every: number of steps between logs and saves; 0 means never.
        checkpoint_minutes: minutes since the last save after which to save again; 0 means never.

    Raises:
        Stopped: after a signal, once the state is saved.
        SaveFailed: if a save failed.
        NonFinite: if too many consecutive steps were not finite, see `Faults`.
    """
    start = int(state.step)
    batches = iter(stream)
    timeline, logged = meter.timeline, start
    pending: Seen | None = None
    truncated, replaced, saved_at = 0, 0, time.monotonic()

    def due(done: int) -> bool:
        """Whether to save after this step, by the number of steps or by the first process's clock.

        Asking the first process costs a collective, so several processes look at its clock only every `CLOCK_STEPS`.
        """
        if done == steps or (checkpoint_every and done % checkpoint_every == 0):
            return True
        if not checkpoint_minutes or not (distributed.alone() or done % CLOCK_STEPS == 0):
            return False
        return distributed.same_as_first(time.monotonic() - saved_at >= 60 * checkpoint_minutes)

    quiet = None if distributed.first() else True
    bar = tqdm(total=steps, initial=start, unit="step", disable=quiet, smoothing=0.1, dynamic_ncols=True)

    def scores(done: int) -> Mapping[str, float]:
        with timeline.span("evaluate"):
            return monitor(done, state)

    with Signals() as signals, bar:
        if start == 0 and (first := scores(0)):
            writer.write(0, first)
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
                    # Some processes compile longer than others. They meet before the first step, whose collectives
                    # would otherwise time out.
                    step.lower(state, frozen, rows).compile()
                    distributed.meet()
                state, metrics = step(state, frozen, rows)
            timeline.started(metrics["loss"])
            profile.after(done, metrics)
            if samples is not None:
                samples.write(done, ids)
            faults.check(pending)  # the previous step: this one is queued behind it, so waiting leaves no device idle
            pending = Seen(done, metrics, ids)
            values: dict[str, float] = {}
            if log_every and (done % log_every == 0 or done == steps):
                values = {name: float(value) for name, value in metrics.items()}
                values |= meter.measure(done, done - logged) | {"learning_rate": float(schedule(done - 1))}
                logged = done
                values |= distributed.total(captions_truncated=truncated, records_replaced=replaced)
                values |= {"nonfinite_steps": faults.count}
                bar.set_postfix_str(
                    f"loss {values['loss']:.3f}, {values['images_per_second']:.0f} images/s, "
                    f"{values['input_wait']:.0%} waiting for input"
                )
            if values := {**values, **scores(done)}:
                writer.write(done, values)
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
    """The number of captions that were cut so far; logs a warning at the first."""
    now = before + int(np.sum(host.get("truncated", 0)))
    if now and not before:
        logging.warning("captions longer than the context are cut; metrics.jsonl counts them as captions_truncated")
    return now
