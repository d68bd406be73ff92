"""Commands that are run once each: those of a study, and those of a suite of evaluations.

A cell that is done holds cell.json, so that whatever was stopped goes on where it was. A cell that another command made
is refused, so that no table mixes results of two.
"""

import itertools
import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TextIO

from absl import flags
from ml_collections import ConfigDict

from facerep_jax.config import quoted
from facerep_jax.files import read_object, write
from facerep_jax.train import hardware

STOPPED = 75  # exit status of what stopped by itself: start it again to go on
DONE = "cell.json"  # in the folder of a cell that is done
CACHE, LEAST = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
TAIL = 15  # lines of a failed cell's log that are shown


class Cell(NamedTuple):
    """One command."""

    folder: Path  # holds `DONE` once the command has ended well
    arguments: tuple[str, ...]  # of `facerep`
    reads: tuple[Path, ...] = ()  # folders of cells whose outcome it takes


def define_flags_of_cells(flag_values: flags.FlagValues) -> None:
    """Declare the flags of what runs cells."""
    flags.DEFINE_float("minutes", 0.0, "begin no cell after so many; 0: no limit", 0.0, flag_values=flag_values)
    flags.DEFINE_integer("jobs", 1, "cells at a time, on one machine", 1, flag_values=flag_values)


def end_of(minutes: float) -> float:
    """The time of the monotonic clock after which no cell is begun; 0 minutes are no limit."""
    return time.monotonic() + 60 * minutes if minutes else math.inf


def judging(evaluation: ConfigDict, fraction: float, data_dir: object) -> str:
    """The flag that names an evaluation of a study or a suite at a fraction of the labels, if it learns from them."""
    labels = f",fraction={fraction}" if evaluation.get("learns", True) else ""
    return f"--config={evaluation.config}{labels},data_dir={quoted(data_dir)}"


def folder_of(folder: Path, evaluation: str, fraction: float, encoder: str) -> Path:
    """Where a study or a suite evaluates an encoder."""
    return folder / "evaluate" / evaluation / f"{fraction:g}" / encoder


def run_all(todo: Sequence[Cell], jobs: int, call: Callable[[Cell, int], int], until: float = math.inf) -> int:
    """Run the cells that are not done, `jobs` at a time, and return the first exit status that is not 0.

    No cell is begun after one has failed, or after a time of the monotonic clock.

    Args:
        call: runs a cell as one of `jobs`, records that it is done and returns its exit status.
    """
    ends: list[int] = []

    def run_one(number: int, cell: Cell) -> None:
        if ends or is_done(cell):
            return
        if time.monotonic() > until:
            ends.append(STOPPED)
            return
        print(f"[{number}/{len(todo)}] facerep {shlex.join(cell.arguments)}", flush=True)
        if status := call(cell, jobs):
            ends.append(status)
            log = cell.folder / "log.txt"
            lines = log.read_text(errors="replace").splitlines() if log.exists() else ()
            print("\n".join(lines[-TAIL:]), file=sys.stderr)

    for _, stage in itertools.groupby(enumerate(todo, 1), lambda numbered: numbered[1].arguments[0]):
        in_turns(list(stage), jobs, run_one)  # each stage reads what the one before wrote
    if STOPPED in ends:
        print(f"{sum(map(is_done, todo))} of {len(todo)} cells are done; start me again to go on")
    return ends[0] if ends else 0


def in_turns(left: list[tuple[int, Cell]], jobs: int, run: Callable[[int, Cell], None]) -> None:
    """Run numbered cells, `jobs` at a time. Of evaluations, each job takes those of one encoder in succession."""
    taking, now = threading.Lock(), [""] * jobs  # the encoders that jobs have at hand

    def take(job: int) -> tuple[int, Cell] | None:
        with taking:
            # Of the encoder that is at hand here, else of one that nobody has at hand, else the next.
            turn = min(left, key=lambda of: (judged(of[1]) != now[job], judged(of[1]) in now), default=None)
            if turn:
                left.remove(turn)
                now[job] = judged(turn[1])
            return turn

    def stop() -> None:
        with taking:
            left.clear()

    def work(job: int) -> None:
        try:  # after an error nobody begins another
            while turn := take(job):
                run(*turn)
        finally:
            stop()

    pool = ThreadPoolExecutor(jobs)
    try:
        list((pool.map if jobs > 1 else map)(work, range(jobs)))
    finally:
        stop()
        pool.shutdown()


def judged(cell: Cell) -> str:
    """The checkpoint that a cell evaluates; empty if it does not evaluate any."""
    given = (argument.partition("=") for argument in cell.arguments)
    return next((path for flag, _, path in given if flag == "--checkpoint"), "")


def is_done(cell: Cell) -> bool:
    """Whether a cell was run to its end.

    Raises:
        ValueError: the cell's folder was made by another command, or of what has been made anew since.
    """
    if not (cell.folder / DONE).exists():
        return False
    found = read_object(cell.folder / DONE)
    if (before := found["arguments"]) != list(cell.arguments):
        raise ValueError(f"{cell.folder} was made by another command ({shlex.join(before)}); remove it or the change")
    for folder in cell.reads:
        if found.get("read", {}).get(str(folder)) != ended(folder):
            raise ValueError(f"{cell.folder} comes of an earlier {folder} than the one that is there; remove it")
    return True


def ended(folder: Path) -> float | None:
    """When the cell of a folder was done, in seconds of Unix time; None if it is not done or does not say so."""
    path = folder / DONE
    return read_object(path).get("ended") if path.exists() else None


def called(cell: Cell, jobs: int, variables: Mapping[str, str] | None = None) -> int:
    """Run a cell as one of `jobs` at a time and return its exit status; if it is 0, record that the cell is done.

    Args:
        variables: of the environment, beside those that share a GPU.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with (cell.folder / "log.txt").open("a") as log:
        status = execute(cell.arguments, log, hardware.share(jobs) | dict(variables or {}))
    if status == 0:
        record(cell, time.monotonic() - start)
    return status


class Evaluators:
    """Runs cells, and evaluations in one process for each thread that calls, where what they share is done once.

    What a cell compiled, others load from the folder's `cache`, or from where the environment says. The processes end
    with the context.
    """

    def __init__(self, folder: Path) -> None:
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._variables = {} if CACHE in os.environ else {CACHE: str(folder.absolute() / "cache"), LEAST: "0"}

    def __enter__(self) -> "Evaluators":
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes.values():
            process.communicate()

    def __call__(self, cell: Cell, jobs: int) -> int:
        """Run a cell as `called` does."""
        if cell.arguments[0] != "evaluate":
            return called(cell, jobs, self._variables)
        cell.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        process = self._process(jobs)
        wanted = {"arguments": cell.arguments[1:], "checkpoint": judged(cell), "log": str(cell.folder / "log.txt")}
        try:
            print(json.dumps(wanted), file=process.stdin, flush=True)
            reply = process.stdout.readline()  # type: ignore[union-attr]  # a pipe
        except BrokenPipeError:
            reply = ""
        status = int(reply) if reply else process.wait() or 1  # without a reply it has ended
        if status == 0:
            record(cell, time.monotonic() - start)
        return status

    def _process(self, jobs: int) -> subprocess.Popen[str]:
        if (me := threading.get_ident()) not in self._processes:
            variables = {**os.environ, **hardware.share(jobs), **self._variables}
            command = [sys.executable, "-m", "facerep_jax.evaluating"]
            pipe = subprocess.PIPE
            self._processes[me] = subprocess.Popen(command, text=True, env=variables, stdin=pipe, stdout=pipe)
        return self._processes[me]


def record(cell: Cell, seconds: float) -> None:
    """Write down that a cell is done, and how long it took."""
    read = {str(folder): ended(folder) for folder in cell.reads}
    found = {"arguments": list(cell.arguments), "seconds": round(seconds, 1), "ended": time.time(), "read": read}
    write(cell.folder / DONE, json.dumps(found, indent=1))


def execute(arguments: Sequence[str], log: TextIO, variables: Mapping[str, str]) -> int:
    """Run `facerep` in a process that ends with this one, with these environment variables; return its exit status."""
    command = [sys.executable, "-m", "facerep_jax.attended", *arguments]
    variables = {**os.environ, **variables}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=variables) as process:
        return process.wait()
