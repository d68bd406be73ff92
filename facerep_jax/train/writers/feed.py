"""Feeds of writers: a run hands lines over and never waits, whatever a writer does.

A writer works in a process of its own, so that one that hangs, crashes or computes neither stops nor slows the run, and
can be ended. Lines wait in a queue; when it is full, the oldest is dropped. What is lost is counted, and said twice at
most: when it begins, and how much it was at the end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from facerep_jax.train.writers import FOLDER

WAITING = 1000  # lines, at most
CLOSE_SECONDS = 10.0  # that all writers together have at the end of a run to write what waits and to close


class Feed:
    """Hands the lines of a run to one writer.

    Args:
        name: of the writer, in messages and of its log in the workdir.
        described: its spec.
        config: of the run, which the writer is given first.
    """

    def __init__(self, name: str, described: Mapping[str, Any], workdir: Path, config: Mapping[str, Any]):
        self.name, self.lost, self._offered = name, 0, 0
        self._log = workdir / FOLDER / f"{name}.log"
        self._log.parent.mkdir(exist_ok=True)
        self._lines: deque[str] = deque()
        self._more, self._ending, self._warned = threading.Condition(), False, False
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", "facerep_jax.train.writers.child"],  # a crash loses nothing of the log
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run alone, and all that it starts can be ended with it
                text=True,
                encoding="utf-8",
            )
        first = json.dumps({"writer": described, "workdir": str(workdir.absolute()), "config": config})
        self._thread = threading.Thread(target=self._run, args=(first,), name=f"writer {name}", daemon=True)
        self._thread.start()

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Hand a line over; never waits, and raises nothing."""
        line = json.dumps([step, {name: float(value) for name, value in scalars.items()}])
        with self._more:
            self._offered += 1
            full = len(self._lines) == WAITING
            if full:
                self._lines.popleft()
            self._lines.append(line)
            self._more.notify()
        if full:
            self._count("it takes lines more slowly than the run writes them")

    def _run(self, first: str) -> None:
        with contextlib.suppress(OSError):  # of a process that has ended, which the next line shows
            print(first, file=self._process.stdin, flush=True)
        while True:
            with self._more:
                self._more.wait_for(lambda: self._lines or self._ending)
                if not self._lines:
                    return
                line = self._lines.popleft()
            if wrong := self._answer(line):
                self._count(wrong)

    def _answer(self, line: str) -> str:
        """What went wrong with a line that the writer is given; empty if nothing did. Waits as long as the writer."""
        with contextlib.suppress(OSError):
            print(line, file=self._process.stdin, flush=True)
            if answer := self._process.stdout.readline():  # type: ignore[union-attr]
                return answer.strip()
        return "its process has ended"

    def _count(self, wrong: str) -> None:
        with self._more:
            self.lost += 1
            first, self._warned = not self._warned, True
        if first:
            logging.warning(
                "config.writers: %s misses a line (%s). The run goes on without it; metrics.jsonl has all lines, what "
                "is lost from here on is counted, and %s says more",
                *(self.name, wrong, self._log),
            )

    def end(self) -> None:
        """Ask for the end, once all lines that wait are written."""
        with self._more:
            self._ending = True
            self._more.notify()

    def close(self, deadline: float) -> None:
        """Wait for the end until a time by time.monotonic(), or bring it about."""
        self._thread.join(max(deadline - time.monotonic(), 0))
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            if not self._thread.is_alive():
                self._process.stdin.close()  # type: ignore[union-attr]
                self._process.wait(max(deadline - time.monotonic(), 0))
        stopped = self._process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        if stopped:
            logging.warning("config.writers: %s did not end within %g s and was stopped", self.name, CLOSE_SECONDS)
        if self.lost:
            logging.warning("config.writers: %s misses %d of %d lines", self.name, self.lost, self._offered)


class Feeds:
    """The feeds of all writers of a run, which begin as it is made."""

    def __init__(self, specs: Sequence[Mapping[str, Any]] = (), workdir: Path = Path(), config: Any = None):
        seen: Counter[str] = Counter()
        self._feeds: list[Feed] = []
        for described in specs:
            name = described["call"].rpartition(":")[2].lower()
            seen[name] += 1
            again = f"_{seen[name]}" if seen[name] > 1 else ""
            self._feeds.append(Feed(name + again, described, workdir, config or {}))

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Hand a line to all writers; never waits."""
        for feed in self._feeds:
            feed.put(step, scalars)

    @property
    def counts(self) -> dict[str, int]:
        """How many lines were lost so far, as a scalar of the run; nothing without writers."""
        return {"writers_lost": sum(feed.lost for feed in self._feeds)} if self._feeds else {}

    def close(self) -> None:
        """Wait for all writers for `CLOSE_SECONDS` in all, and end those that are not done."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for feed in self._feeds:
            feed.end()
        for feed in self._feeds:
            feed.close(deadline)
