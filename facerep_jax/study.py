"""Run a whole comparison, cell by cell: prepare, pre-train, evaluate, then one table.

facerep study farl --config configs/study/farl.py [--out studies] [--minutes 60] [--jobs 2]

Each cell is one command of `facerep`, printed before it is run in a process of its own, or --jobs of them at once. What
is done is not done again, so a study that was stopped goes on where it was; with --minutes it stops by itself, with
exit status 75, before it begins a cell after that time. Writes study.json and study.md into OUT/NAME once all cells are
done.
"""

import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from facerep_jax.config import build
from facerep_jax.evaluation.statistics import Resampled, difference, resampled
from facerep_jax.files import local_path, write
from facerep_jax.pretrain import STOPPED
from facerep_jax.reporting.workdirs import read_statistics
from facerep_jax.typing import Metric

RANDOM = "random"  # the encoder before any training; its first evaluations hold the baselines of all
TAIL = 15  # lines of a failed cell's log that are shown


class Cell(NamedTuple):
    """One command, done once its folder says so."""

    folder: Path
    arguments: tuple[str, ...]  # of `facerep`


class Budget(NamedTuple):
    """What the pre-training of one kind of encoder takes, for each seed."""

    encoder: str
    steps: int
    images: int  # that the steps see, each as often as it comes
    flops: int  # of all steps: both copies of an image, text tower, heads, and their gradients


class Score(NamedTuple):
    """One kind of encoder on one evaluation at one label fraction."""

    evaluation: str
    fraction: float
    encoder: str
    labels: int
    metric: str
    values: tuple[float, ...]  # one per seed: the mean over label subsets
    std_subsets: float  # over label subsets, mean over seeds
    against: Mapping[str, tuple[float, ...]]  # other kind -> gain over it, difference, low, high


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    config_flags.DEFINE_config_file(
        "config", None, "study, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("out", "studies", "folder of studies", flag_values=flag_values)
    flags.DEFINE_float("minutes", 0.0, "begin no cell after so many; 0: no limit", 0.0, flag_values=flag_values)
    flags.DEFINE_integer("jobs", 1, "cells at a time, on one machine", 1, flag_values=flag_values)
    flags.mark_flags_as_required(["config"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """The entry point; gives the exit status."""
    if len(words) != 1 or "/" in words[0]:
        raise ValueError("which study? facerep study NAME --config FILE")
    folder = local_path("--out", flag_values.out) / words[0]
    config = flag_values.config
    if status := run_all(list(cells(config, folder)), flag_values.jobs, flag_values.minutes):
        return status
    budgets = list(budgets_of(config, folder))
    scores = [score for name in config.evaluate for score in scores_of(config, folder, name)]
    found = {"budgets": [each._asdict() for each in budgets], "scores": [each._asdict() for each in scores]}
    write(folder / "study.json", json.dumps(found, indent=1))
    write(folder / "study.md", text := markdown(budgets, scores))
    print(text)
    return 0


def run_all(todo: list[Cell], jobs: int, minutes: float) -> int:
    """Run the cells that are not done, so many at a time; gives the first exit status that is not 0."""
    start = time.monotonic()
    ends: list[int] = []

    def run_one(number: int, cell: Cell) -> None:
        if ends or done(cell):
            return
        if minutes and time.monotonic() - start > 60 * minutes:
            ends.append(STOPPED)
            return
        print(f"[{number}/{len(todo)}] facerep {shlex.join(cell.arguments)}", flush=True)
        if status := call(cell):
            ends.append(status)
            log = (cell.folder / "log.txt").read_text(errors="replace").splitlines()
            print("\n".join(log[-TAIL:]), file=sys.stderr)

    for _, stage in itertools.groupby(enumerate(todo, 1), lambda numbered: numbered[1].arguments[0]):
        pool = ThreadPoolExecutor(jobs)
        try:  # a stage reads what the one before wrote
            list((pool.map if jobs > 1 else map)(lambda numbered: run_one(*numbered), stage))
        finally:
            pool.shutdown(cancel_futures=True)
    if STOPPED in ends:
        print(f"{sum(map(done, todo))} of {len(todo)} cells are done; start me again to go on")
    return ends[0] if ends else 0


def cells(config: ConfigDict, folder: Path) -> Iterator[Cell]:
    """All commands of a study, in order."""
    data = folder / "data"
    for name, dataset in config.prepare.items():
        source = (f"--manual_dir={config.manual_dirs[name]}",) if name in config.manual_dirs else ()
        yield Cell(folder / "prepare" / name, ("prepare", dataset, f"--name={name}", f"--data_dir={data}", *source))
    for name, recipe in config.pretrain.items():
        for seed in range(recipe.seeds):
            workdir = folder / "pretrain" / f"{name}_{seed}"
            which = (f"--config={recipe.config},data_dir={data}", f"--config.seed={seed}")
            yield Cell(workdir, ("pretrain", *which, f"--workdir={workdir}"))
    for name, evaluation in config.evaluate.items():
        for fraction, (encoder, seed, checkpoint) in itertools.product(evaluation.fractions, encoders(config, folder)):
            workdir = folder / "evaluate" / name / f"{fraction:g}" / f"{encoder}_{seed}"
            recipe = f"--config={evaluation.config},fraction={fraction},data_dir={data}"
            more: tuple[str, ...] = config.whole if fraction == 1 else ()
            if checkpoint == RANDOM:
                more = (*more, f"--config.encoder_seed={seed}")
                if seed == 0 and fraction in evaluation.scratch:
                    recipe, more = f"{recipe},scratch", (*more, *config.scratch)
            yield Cell(workdir, ("evaluate", recipe, *more, f"--checkpoint={checkpoint}", f"--workdir={workdir}"))


def encoders(config: ConfigDict, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Kind, seed and checkpoint of all encoders that are judged."""
    yield from ((RANDOM, seed, RANDOM) for seed in range(config.random))
    for name, recipe in config.pretrain.items():
        for seed in range(recipe.seeds):
            yield name, seed, str(folder / "pretrain" / f"{name}_{seed}")


def done(cell: Cell) -> bool:
    """Whether a cell was run to its end; ValueError where that was by another command."""
    record = cell.folder / "cell.json"
    if not record.exists():
        return False
    if (before := json.loads(record.read_text())["arguments"]) != list(cell.arguments):
        raise ValueError(f"{cell.folder} was made by another command ({shlex.join(before)}); remove it or the change")
    return True


def call(cell: Cell) -> int:
    """Run a cell; gives its exit status and, where that is 0, leaves its record."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with (cell.folder / "log.txt").open("a") as log:
        status = execute(cell.arguments, log)
    if status == 0:
        record = {"arguments": list(cell.arguments), "seconds": round(time.monotonic() - start, 1)}
        write(cell.folder / "cell.json", json.dumps(record, indent=1))
    return status


def execute(arguments: Sequence[str], log: TextIO) -> int:
    """Run `facerep` in a process of its own; gives its exit status."""
    command = [sys.executable, "-m", "facerep_jax.cli", *arguments]
    return subprocess.run(command, stdout=log, stderr=log, check=False).returncode


def budgets_of(config: ConfigDict, folder: Path) -> Iterator[Budget]:
    """What each kind of pre-training took."""
    for name in config.pretrain:
        workdir = folder / "pretrain" / f"{name}_0"
        recipe, model = (json.loads((workdir / file).read_text()) for file in ("config.json", "model.json"))
        images = recipe["steps"] * recipe["data"]["batch_size"]
        yield Budget(name, recipe["steps"], images, images * model["flops_per_image"])


def scores_of(config: ConfigDict, folder: Path, evaluation: str) -> Iterator[Score]:
    """What came of one evaluation: a score of each kind of encoder and each baseline at each fraction of the labels."""
    for fraction in config.evaluate[evaluation].fractions:
        where = folder / "evaluate" / evaluation / f"{fraction:g}"
        kinds: dict[str, list[Path]] = {}
        for encoder, seed, _ in encoders(config, folder):
            kinds.setdefault(encoder, []).append(where / f"{encoder}_{seed}")
        results = {kind: [json.loads((f / "results.json").read_text()) for f in of] for kind, of in kinds.items()}
        first = results[RANDOM][0]
        headline, metric, lower = first["headline"], build(first["metric"]), first["lower_is_better"]

        def drawn(
            folders: list[Path], name: str = "encoder", metric: Metric = metric, headline: str = headline
        ) -> Resampled:
            return resampled(stacked(folders, name), lambda *given: metric.compute(*given)[headline])

        draws = {kind: drawn(folders) for kind, folders in kinds.items()}
        for name, baseline in first["baselines"].items():
            results[name], draws[name] = [{**first, **baseline}], drawn(kinds[RANDOM][:1], name)
        for kind, found in results.items():
            rivals = [rival for rival in config.against if rival != kind]
            against = {
                rival: tuple(difference(draws[rival], draws[kind], lower_is_better=lower)[2:]) for rival in rivals
            }
            means = tuple(r["metrics"][headline]["mean"] for r in found)
            spread = float(np.mean([r["metrics"][headline]["std"] for r in found]))
            yield Score(evaluation, fraction, kind, first["labels"], headline, means, spread, against)


def stacked(folders: list[Path], name: str) -> np.ndarray:
    """Statistics (seeds, subsets, examples, s) of the encoders, or a baseline, in some evaluations."""
    found = {folder: read_statistics(folder, name) for folder in folders}
    if missing := [str(folder) for folder, each in found.items() if each is None]:
        raise FileNotFoundError(f"{missing[0]} has no examples.parquet; remove the folder and start again")
    return np.stack([each[2] for each in found.values() if each is not None])


def markdown(budgets: list[Budget], scores: list[Score]) -> str:
    """A table of what pre-training took, then one for each evaluation: one line per kind of encoder and fraction."""
    lines = ["pre-training\n", "| encoder | steps | images seen | TFLOP |", "|---|---|---|---|"]
    lines += [f"| {b.encoder} | {b.steps:,} | {b.images:,} | {b.flops / 1e12:.2f} |" for b in budgets]
    for name, group in itertools.groupby(scores, lambda score: score.evaluation):
        rows = list(group)
        rivals = sorted({rival for score in rows for rival in score.against})
        heads = [f"gain over {rival} [95 % of the difference]" for rival in rivals]
        lines += [f"\n{name}: {rows[0].metric} in %\n", "| labels | encoder | mean | seeds | ± subsets | "]
        lines[-1] += " | ".join(heads) + " |"
        lines += ["|" + "---|" * (5 + len(heads))]
        for row in rows:
            seeds = ", ".join(f"{100 * value:.2f}" for value in row.values)
            cells = [f"{row.labels} ({row.fraction:.0%})", row.encoder, f"{100 * np.mean(row.values):.2f}", seeds]
            cells.append(f"{100 * row.std_subsets:.2f}")
            for rival in rivals:
                gain, _, low, high = row.against.get(rival, (0.0,) * 4)
                cells.append(
                    f"{100 * gain:+.1f} % [{100 * low:+.2f}, {100 * high:+.2f}]" if rival in row.against else ""
                )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
