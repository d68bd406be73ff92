"""Where the wall time of a run goes, and what of it bore fruit."""

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
    "start": "starting",
    "other": "the rest of the loop",
}
LOST, DOWN = "lost", "down"
NAMES = {**KINDS, LOST: "steps that were lost", DOWN: "between runs"}  # in an Account

# Dense products in bfloat16, operations per second of one device as jax counts devices. Recalled from the makers' data
# sheets, not verified; `operational.peak_flops` replaces them.
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
}


def peak_flops(device: str) -> float:
    """Operations per second of a kind of device, by the longest name that its own begins with; 0 where unknown."""
    names = [name for name in PEAK_FLOPS if device.startswith(name)]
    return PEAK_FLOPS[max(names, key=len)] if names else 0.0


class Timeline:
    """Wall time of this process by kind: whole while the device computes, else what the host did meanwhile.

    Host and device work at once, so that a batch that was waited for while the step before ran cost nothing. A thread
    waits for the end of each step, since the loop may not.

    Args:
        began: when time began to count, by time.monotonic(); up to the first span it went into the start.
    """

    def __init__(self, began: float):
        self._mark = began
        self._host: dict[str, list[float]] = {"start": [began, time.monotonic()]}  # kind -> begin, end, begin, end, ...
        self._steps: list[tuple[float, Future[float]]] = []
        self._pool = ThreadPoolExecutor(1, "timeline")

    @contextmanager
    def span(self, kind: str) -> Iterator[None]:
        """What the host does within is of this kind."""
        begin = time.monotonic()
        yield
        self._host.setdefault(kind, []).extend((begin, time.monotonic()))

    def started(self, result: jax.Array) -> None:
        """A step was given to the device by now; it is done once `result` is there."""
        self._steps.append((time.monotonic(), self._pool.submit(ready_at, result)))

    def take(self) -> dict[str, float]:
        """Seconds of each kind since this was last called, in all the wall time; waits for the steps that run."""
        spans = [(begin, end.result()) for begin, end in self._steps]
        now = time.monotonic()
        begins, ends = np.array([*spans, (now, now)]).T
        ends = np.maximum.accumulate(np.maximum(ends, self._mark))
        before = np.concatenate([[self._mark], ends[:-1]])  # since when the device had nothing to do
        begins = np.maximum(begins, before)
        seconds = dict.fromkeys(KINDS, 0.0)
        seconds |= {kind: within(edges, before, begins) for kind, edges in self._host.items()}
        seconds["step"] += float((ends - begins).sum())
        seconds["other"] += max(now - self._mark - sum(seconds.values()), 0.0)
        self._mark, self._host, self._steps = now, {}, []
        return seconds

    def close(self) -> None:
        self._pool.shutdown()


def ready_at(result: jax.Array) -> float:
    """Waits for a result; gives the time."""
    result.block_until_ready()
    return time.monotonic()


def within(edges: list[float], begins: np.ndarray, ends: np.ndarray) -> float:
    """How much of some intervals lies in others, which follow one another: begin, end, begin, end, ..."""
    lengths = np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0)
    filled = np.concatenate([[0.0], np.cumsum(lengths)])  # of those others, up to each edge
    return float((np.interp(ends, edges, filled) - np.interp(begins, edges, filled)).sum())


class Logged(NamedTuple):
    """The steps of one line of metrics.jsonl."""

    first: int  # steps done before it
    last: int
    seconds: float  # of training steps


class Account:
    """Where the wall time of a run went since its first start, by the lines of metrics.jsonl.

    Steps are lost where a run went on from before them. What was not logged any more when a run was killed counts as
    between runs.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(NAMES, 0.0)
        self._logged: list[Logged] = []
        self._end: float | None = None

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> "Account":
        """Of all lines of a file."""
        account = cls()
        for line in lines:
            account.add(line)
        return account

    def add(self, line: Mapping[str, Any]) -> None:
        """One more line, in the order of the file; those without times are passed over."""
        if "time" not in line or "steps" not in line:
            return
        seconds = {kind: line.get(f"seconds/{kind}") or 0.0 for kind in KINDS}
        first, last = int(line["step"] - line["steps"]), int(line["step"])
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
        """Seconds since the first start."""
        return sum(self.seconds.values())

    @property
    def goodput(self) -> float:
        """The share of the time that went into steps that count."""
        return self.seconds["step"] / self.total if self.total else 0.0

    def summary(self) -> str:
        """The whole in a line."""
        parts = sorted(((value, NAMES[kind]) for kind, value in self.seconds.items()), reverse=True)
        shares = ", ".join(f"{value / self.total:.1%} {name}" for value, name in parts if value >= 0.001 * self.total)
        return f"{duration(self.total)} since the first start: {shares}"


class Meter:
    """What the lines of metrics.jsonl say of speed and time.

    Args:
        lines: of earlier runs in the same workdir.
        began: when this run did, by time.monotonic().
        flops_per_image: operations of a training step; 0 where unknown.
        peak_flops: operations per second that all devices are made for; 0 where unknown.
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
        """Of the last `steps` steps, up to `step`; waits until they are done."""
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
    """Seconds, minutes or hours."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
