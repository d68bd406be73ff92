"""Runs while they train, from their files alone: nothing is asked of them, and nothing is written."""

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facerep_jax.reporting import wording
from facerep_jax.reporting.workdirs import Log, Pretraining, read_config
from facerep_jax.train.account import KINDS, duration
from facerep_jax.train.writer import LOG

RECENT = 20  # logged lines that the speed is taken from
ONCE = ("start", "compile")  # kinds of time that say nothing about steps to come
SILENT = 10  # times the usual time between two lines, after which a run is called silent
COUNTS = {"nonfinite_steps": "steps not finite", "writers_lost": "lines lost by writers"}  # shown unless 0
PATIENCE = 60.0  # seconds before that, at least


class Line(NamedTuple):
    """The times of a logged line."""

    time: float  # of the clock
    steps: float
    seconds: float  # that they took, without what comes once at a start


class Watched:
    """A run that is looked at again and again; each look reads what its log has gained.

    A last line that is not complete is read once it is. A line that is damaged is passed over and told of in `note`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        self._log, self._at, self._lines, self._file = Log(), 0, 0, (0, 0)
        self._recent: deque[Line] = deque(maxlen=RECENT)
        self._step = 0
        self.config: Mapping[str, Any] = {}
        self.note = ""

    def look(self) -> None:
        """Read on."""
        lines: list[bytes] = []
        try:
            with (self.folder / LOG).open("rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_dev, found.st_ino) != self._file or found.st_size < self._at:
                    self._begin()  # another run took the place
                    self._file = found.st_dev, found.st_ino
                file.seek(self._at)
                *lines, _ = file.read().split(b"\n")  # the last is not complete, or empty
        except FileNotFoundError:
            pass  # it begins with the first line that is logged
        for line in lines:
            self._lines, self._at = self._lines + 1, self._at + len(line) + 1
            try:
                self._note_times(line, self._log.add(line, f"{self.folder / LOG}, line {self._lines}"))
            except ValueError as error:
                self.note = f"{error}; it was passed over"
        try:
            self.config = read_config(self.folder)
        except ValueError as error:
            self.note = str(error)

    def _note_times(self, line: bytes, values: Mapping[str, Any]) -> None:
        self._step = int(json.loads(line)["step"])
        if "steps" in values and "time" in values:  # as an account expects, which has read them
            seconds = sum(values.get(f"seconds/{kind}") or 0.0 for kind in KINDS if kind not in ONCE)
            self._recent.append(Line(values["time"], values["steps"], seconds))

    @property
    def pretraining(self) -> Pretraining:
        """The run as a report sees it."""
        return Pretraining(self.folder, self.config, self.scalars, self.note, self._log.account)

    @property
    def scalars(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Each scalar as (steps, values)."""
        return self._log.scalars

    @property
    def goodput(self) -> float | None:
        """Share of the wall time since the first start that went into steps that count; None before the first line."""
        return self._log.account.goodput if self._log.account.total else None

    @property
    def step(self) -> int:
        """The step of the last line."""
        return self._step

    @property
    def steps(self) -> int | None:
        """The step at which the run ends; None if its config does not say."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def done(self) -> bool:
        """Whether the last step is logged."""
        return self.steps is not None and self.step >= self.steps

    @property
    def steps_per_second(self) -> float | None:
        """Over the last lines, with saves, scores and waits for input; None before the first line."""
        seconds = sum(line.seconds for line in self._recent)
        return sum(line.steps for line in self._recent) / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, if it goes on as it did in the last lines; None if that is not known."""
        if self.steps is None or not self.steps_per_second:
            return None
        return max(self.steps - self.step, 0) / self.steps_per_second

    def state(self, now: float | None = None) -> str:
        """What can be told from the files of how the run is, in words.

        Args:
            now: Unix time, the present if None.
        """
        if not self._recent:
            return "no line is logged yet"
        age = max((time.time() if now is None else now) - self._recent[-1].time, 0.0)
        if self.done:
            return f"done {duration(age)} ago"
        usual = float(np.median([line.seconds for line in self._recent]))
        if age > max(SILENT * usual, PATIENCE):
            return f"silent: the last line came {duration(age)} ago, lines come every {duration(usual)}"
        return f"running: the last line came {duration(age)} ago"

    def facts(self, now: float | None = None) -> list[tuple[str, str]]:
        """How far it is, how it is, how fast, and how well it uses its time: what, and how much."""
        last = {name: values[-1] for name, (_, values) in self.scalars.items()}
        whole = "" if self.steps is None else f" of {self.steps:,} ({self.step / self.steps:.1%})"
        found = [("step", f"{self.step:,}{whole}"), ("state", self.state(now))]
        if self.seconds_left:
            found.append(("to go", duration(self.seconds_left)))
        if self.steps_per_second:
            images = f", {plain_number(last['images_per_second'])} images/s" if "images_per_second" in last else ""
            found.append(("speed", f"{plain_number(self.steps_per_second)} steps/s{images}"))
        if self.goodput is not None:
            found.append(("goodput", f"{self.goodput:.1%}"))
        if "input_wait" in last:
            found.append(("waiting for input", f"{last['input_wait']:.1%}"))
        for name, what in COUNTS.items():
            if last.get(name, 0) > 0:
                found.append((what, f"{last[name]:.0f}"))
        return found

    @property
    def pictures(self) -> list[Path]:
        """Its pictures, the newest first."""
        return sorted(self.folder.glob("*.png"), key=_changed, reverse=True)


def plain_number(value: float) -> str:
    """A number in four figures, in ASCII."""
    return wording.number(float(value)).replace(wording.MINUS, "-").replace(wording.NOTHING, "-")


def _changed(path: Path) -> float:
    """When a file was changed; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def workdirs_in(folders: Sequence[Path]) -> list[Path]:
    """The workdirs of pre-trainings in or below folders, each once, the one that was written last first.

    A folder that holds no run yet counts as one that is about to begin.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        runs = [*_below(folder)] or [folder]
        found |= {run.resolve(): run for run in runs}
    return sorted(found.values(), key=lambda run: (-_changed(run / LOG), run))


def _below(folder: Path) -> Iterator[Path]:
    """Folders with a log; what lies below one, or in the workdir of an evaluation, is no run of its own."""
    for path, inner, files in os.walk(folder):
        if LOG in files and "results.json" not in files:
            yield Path(path)
        if {LOG, "results.json"} & {*files}:
            inner.clear()
