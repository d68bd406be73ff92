"""Watch runs of pre-training while they train, from their files alone.

    facerep watch runs/farl [runs/other ...] [--once] [--serve PORT]

Each DIR is a workdir of `facerep pretrain`, or a folder with such workdirs below it. The terminal shows how far each
run is, how fast, how it uses its time, when it will be done, its losses and scores as charts, and its newest picture;
it looks again every few seconds (--every) until all runs are done, or until Ctrl-C. --once shows them once, also into a
file or pipe. --serve PORT shows a page at http://127.0.0.1:PORT that renews itself, to this machine alone (0: any free
port; from elsewhere: ssh -L PORT:127.0.0.1:PORT). Nothing is asked of a run or written to its folder: it may run on
another machine that shares the folder, and may begin later.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from facerep_jax.files import local_path
from facerep_jax.reporting import terminal
from facerep_jax.reporting.serving import serve
from facerep_jax.reporting.watched import Watched, workdirs_in

TALL = 8  # rows of a chart, if there is one run
HOME, REST, BELOW = "\x1b[H", "\x1b[K", "\x1b[J"  # codes: to the upper left; clear the rest of a line, and all below


def define_flags(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Declare the flags of the command line."""
    flags.DEFINE_bool("once", False, "show the runs once and end", flag_values=flag_values)
    flags.DEFINE_integer("serve", None, "port of a page for this machine's browser", 0, 65535, flag_values=flag_values)
    flags.DEFINE_float("every", 5.0, "seconds between looks", 1.0, 3600.0, flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: Sequence[str]) -> int:
    """Watch until all runs are done or Ctrl-C ends it."""
    if not words:
        raise ValueError("which runs? facerep watch WORKDIR...")
    if flag_values.once and flag_values.serve is not None:
        raise ValueError("--once shows runs once, --serve goes on; give one of them")
    runs = Runs([local_path("WORKDIR", word) for word in words])
    runs.look()
    if flag_values.once and not any(watched.step or watched.config for watched in runs.all):
        raise FileNotFoundError(f"{words[0]}: no metrics.jsonl in it or below; give the --workdir of a pre-training")
    try:
        if flag_values.serve is not None:
            serve(flag_values.serve, runs.looked_at, every=flag_values.every)
        while not show(runs.all) and not flag_values.once:
            time.sleep(flag_values.every)
            runs.look()
    except KeyboardInterrupt:
        print()
    return 0


class Runs:
    """All runs below some folders."""

    def __init__(self, folders: Sequence[Path]):
        self._folders = folders
        self._known: dict[Path, Watched] = {}
        self.all: list[Watched] = []

    def look(self) -> None:
        """Read on in all of them, and find new ones."""
        found = workdirs_in(self._folders)
        self._known = {folder: self._known.get(folder) or Watched(folder) for folder in found}
        self.all = [*self._known.values()]
        for watched in self.all:
            watched.look()

    def looked_at(self) -> list[Watched]:
        """All of them, as they are now."""
        self.look()
        return self.all


def show(runs: Sequence[Watched]) -> bool:
    """Print all runs, in place of what was printed before if this is a terminal; returns whether all are done."""
    size = shutil.get_terminal_size((100, 40))
    moves = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    coloured = os.environ.get("COLORTERM") in ("truecolor", "24bit") and not os.environ.get("NO_COLOR")
    levels = terminal.levels_of(sys.stdout.encoding)
    height = TALL if len(runs) == 1 else 0
    lines = [
        line
        for watched in runs
        for line in terminal.frame(watched, size.columns - 1, height, levels, colours=moves and coloured)
    ]
    done = all(watched.done for watched in runs)
    if moves and not done and len(lines) >= size.lines:  # the last frame stays as it is, whatever scrolls away
        hidden = len(lines) - (size.lines - 2)
        lines = [*lines[: size.lines - 2], f"... {hidden} lines more: make the terminal taller, or see --once"]
    if moves:
        print(HOME + "".join(f"{line}{REST}\n" for line in lines) + BELOW, end="", flush=True)
    else:
        print("\n".join(lines), flush=True)
    return done
