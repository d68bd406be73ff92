"""Account of a run's wall time: where it went, and how much of it went into steps that count."""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

KINDS = {
    "step": "training steps",
    "input": "waiting for input",
    "save": "waiting for saves",
    "compile": "compiling",
    "evaluate": "scoring the encoder",
    "start": "starting",
    "other": "the rest of the loop",
}
LOST, DOWN = "lost", "down"
NAMES = {**KINDS, LOST: "steps that were lost", DOWN: "between runs"}  # in an Account

# Operations per second of dense products in bfloat16, for one device as jax counts devices. Recalled from the makers'
# data sheets, not verified; `operational.peak_flops` replaces them.
PEAK_FLOPS = {
    "TPU v2": 22.5e12,  # a core: half a chip
    "TPU v3": 61.5e12,  # likewise
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}


def peak_flops(device: str) -> float:
    """Peak operations per second of a kind of device, or 0 if it is unknown.

    The longest name in `PEAK_FLOPS` that `device` begins with decides.
    """
    names = [name for name in PEAK_FLOPS if device.startswith(name)]
    return PEAK_FLOPS[max(names, key=len)] if names else 0.0


class Timeline:
    """Wall time of this process by kind.

    While the device computes, time counts as training steps. While the device is idle, time counts as what the host was
    doing. Host and device work in parallel, so waiting for a batch costs nothing while the previous step still runs. A
    thread waits for the end of each step, because the loop must not block.

    Args:
        began: when counting begins, by time.monotonic(). Time from then to this call counts as the start.
    """

    def __init__(self, began: float):
        self._mark = began
        self._host: dict[str, list[float]] = {"start": [began, time.monotonic()]}  # kind -> begin, end, begin, end, ...
        self._steps: list[tuple[float, Future[float]]] = []
        self._pool = ThreadPoolExecutor(1, "timeline")

    @contextmanager
    def span(self, kind: str) -> Iterator[None]:
        """Count what the host does inside this context as one kind."""
        begin = time.monotonic()
        yield
        self._host.setdefault(kind, []).extend((begin, time.monotonic()))

    def started(self, result: jax.Array) -> None:
        """Note that a step was just handed to the device, which is done with it once `result` is ready."""
        self._steps.append((time.monotonic(), self._pool.submit(ready_at, result)))

    def take(self) -> dict[str, float]:
        """Seconds of each kind since the last call, which sum to the wall time; waits for running steps to end."""
        spans = [(begin, end.result()) for begin, end in self._steps]
        now = time.monotonic()
        # An empty step at `now` ends the list, so that the idle time after the last real step is seen too.
        begins, ends = np.array([*spans, (now, now)]).T
        # The device runs steps in order. A step that was handed over while the previous one ran begins when that ends.
        ends = np.maximum.accumulate(np.maximum(ends, self._mark))
        before = np.concatenate([[self._mark], ends[:-1]])  # when the device became idle, ahead of each step
        begins = np.maximum(begins, before)
        # The device idles from `before` to `begins`. Only host time that falls into these gaps held the run up.
        seconds = dict.fromkeys(KINDS, 0.0)
        seconds |= {kind: within(edges, before, begins) for kind, edges in self._host.items()}
        seconds["step"] += float((ends - begins).sum())
        # What no span of the host covers is the loop itself; rounding could make it slightly negative.
        seconds["other"] += max(now - self._mark - sum(seconds.values()), 0.0)
        self._mark, self._host, self._steps = now, {}, []
        return seconds

    def close(self) -> None:
        self._pool.shutdown()


def ready_at(result: jax.Array) -> float:
    """Wait for a result and return the time at which it is ready, by time.monotonic()."""
    result.block_until_ready()
    return time.monotonic()


def within(edges: list[float], begins: np.ndarray, ends: np.ndarray) -> float:
    """Total length of the intervals from `begins` to `ends` that is covered by the intervals in `edges`.

    `edges` is an ascending list begin, end, begin, end, ...
    """
    # The covered length up to a time is piecewise linear: it grows inside the intervals and is flat between them.
    # Interpolating it at both ends of an interval and subtracting gives the overlap, without pairing intervals up.
    lengths = np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0)
    filled = np.concatenate([[0.0], np.cumsum(lengths)])
    return float((np.interp(ends, edges, filled) - np.interp(begins, edges, filled)).sum())


class Logged(NamedTuple):
    """The steps that one line of metrics.jsonl covers."""

    first: int  # steps done before the first of them
    last: int
    seconds: float  # spent on training steps


class Account:
    """Where the wall time of a run went since its first start, read from the lines of metrics.jsonl.

    Steps are lost if the run later resumed from a checkpoint before them. Time that a killed process did not log any
    more counts as time between runs.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(NAMES, 0.0)
        self._logged: list[Logged] = []
        self._end: float | None = None

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> "Account":
        """The account of all lines of a file."""
        account = cls()
        for line in lines:
            account.add(line)
        return account

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one line, in the order of the file; a line without times is ignored."""
        if "time" not in line or "steps" not in line:
            return
        seconds = {kind: line.get(f"seconds/{kind}") or 0.0 for kind in KINDS}
        first, last = int(line["step"] - line["steps"]), int(line["step"])
        # Lines that reach beyond where this one begins were logged before a resume: their steps are done again, so the
        # earlier work is lost. The time of a line that is lost only in part is divided in proportion to its steps.
        while self._logged and self._logged[-1].last > first:
            before = self._logged.pop()
            kept = max(first - before.first, 0) / max(before.last - before.first, 1)
            self.seconds[LOST] += (1 - kept) * before.seconds
            self.seconds["step"] -= (1 - kept) * before.seconds
            if kept:
                self._logged.append(Logged(before.first, first, kept * before.seconds))
        self._logged.append(Logged(first, last, seconds["step"]))
        begin = line["time"] - sum(seconds.values())
        self.seconds[DOWN] += max(begin - self._end, 0.0) if self._end is not None else 0.0
        self._end = line["time"]
        for kind, value in seconds.items():
            self.seconds[kind] += value

    @property
    def total(self) -> float:
        """Wall time in seconds since the first start."""
        return sum(self.seconds.values())

    @property
    def goodput(self) -> float:
        """Share of the wall time that went into steps that were not lost."""
        return self.seconds["step"] / self.total if self.total else 0.0

    def summary(self) -> str:
        """The account in one line of text."""
        parts = sorted(((value, NAMES[kind]) for kind, value in self.seconds.items()), reverse=True)
        shares = ", ".join(f"{value / self.total:.1%} {name}" for value, name in parts if value >= 0.001 * self.total)
        return f"{duration(self.total)} since the first start: {shares}"


class Meter:
    """Measures the speed and the times that each line of metrics.jsonl holds.

    Args:
        lines: lines that earlier runs in the same workdir wrote.
        began: when this run began, by time.monotonic().
        flops_per_image: operations of a training step for each image; 0 if unknown.
        peak_flops: peak operations per second of all devices together; 0 if unknown.
    """

    def __init__(
        self,
        batch_size: int,
        lines: Iterable[Mapping[str, Any]] = (),
        *,
        began: float | None = None,
        flops_per_image: int = 0,
        peak_flops: float = 0.0,
    ):
        self.timeline = Timeline(time.monotonic() if began is None else began)
        self.account = Account.of(lines)
        self._batch_size, self._flops, self._peak = batch_size, flops_per_image, peak_flops

    def measure(self, step: int, steps: int) -> dict[str, float]:
        """Speed and times of the last `steps` steps, which end with `step`; waits until they are done."""
        seconds = self.timeline.take()
        wall = sum(seconds.values())
        rate = steps * self._batch_size / wall
        values = {"images_per_second": rate, "input_wait": seconds["input"] / wall}
        if self._flops:
            values["model_flops_per_second"] = rate * self._flops
        if self._flops and self._peak:
            values["mfu"] = rate * self._flops / self._peak
        values |= {f"seconds/{kind}": value for kind, value in seconds.items()}
        values["steps"] = steps
        self.account.add({"step": step, "time": time.time(), **values})
        return values | {"goodput": self.account.goodput}

    def close(self) -> None:
        self.timeline.close()


def duration(seconds: float) -> str:
    """A duration as text, in seconds, minutes or hours."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
