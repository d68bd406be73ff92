"""Many encoders on many tasks at many fractions of the labels, cell by cell, into one report.

facerep evaluate --config configs/evaluate/suite_five_tasks.py:dataset=manifest/faces --workdir suites/five \
    --checkpoint runs/farl --checkpoint clip=ViT-B-16.pt --checkpoint random

A config of a suite names configs of evaluations in `evaluate`, each with `fractions` of the labels, and what they
share: `seeds` of the subsets, `weights`. One that learns nothing says `learns=False` and has the fraction 1.0. Each
cell is one evaluation, which its command would give too. All run in this process, so that a split is read once, an
image is encoded once by an encoder, and a baseline without a network is fitted once. With --jobs several run at once,
in as many processes, each of which shares what it can, with an equal share of a GPU's memory.
Started again, a suite goes on where it was; cells of another command, another checkpoint or other data are refused.
With --minutes it stops by itself, with exit status 75, before it begins a cell after that time.

Encoders see the same region of each image, at the size in pixels that they were trained on; with `tokens`, at sizes
that give all of them the same number of tokens. `untrained` describes the encoder of --checkpoint random. All are
compared with `against`: random if it is there, else the first.

Writes suite.json, suite.md, report.html and report.md.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax import lock
from facerep_jax.cells import Cell, Evaluators, folder_of, is_done, judging, record, run_all
from facerep_jax.config import pick
from facerep_jax.evaluation.encoders import random_spec
from facerep_jax.evaluation.results import RANDOM, Results
from facerep_jax.evaluation.sets import open_sets
from facerep_jax.evaluation.shared import Shared
from facerep_jax.files import json_of, local_path, write
from facerep_jax.reporting import page, suites
from facerep_jax.reporting.lines import Line
from facerep_jax.reporting.suites import Cost
from facerep_jax.reporting.workdirs import read_evaluation
from facerep_jax.suggestions import nearest
from facerep_jax.train import handover
from facerep_jax.train.flops import flops
from facerep_jax.typing import View

Read = Callable[[Sequence[str]], ConfigDict]  # the arguments of an evaluation -> its config
Evaluate = Callable[[Sequence[str], Shared], Results]  # its arguments, and what it shares with others

SAME = "same"  # as many tokens for all as the encoder that has fewest


class Entry(NamedTuple):
    """An encoder that is judged."""

    name: str
    checkpoint: str  # as an evaluation takes it, with the step of a pre-training
    spec: Mapping[str, Any]
    size: int  # pixels of a side of its images
    resized: bool  # whether they are not what the encoder was trained on
    digest: str | None  # None: the encoder before any training


def suite_of(
    evaluate: Mapping[str, Any], *, tasks: str, seeds: int, data_dir: str, tokens: str, untrained: Sequence[str]
) -> ConfigDict:
    """The config of a suite.

    Args:
        evaluate: name -> `config` of the evaluation, `fractions` of the labels, and whether it `learns`.
        tasks: names of those that are run, joined by +; "" for all. Raises ValueError for an unknown one.
        seeds: subsets of each fraction.
        tokens: see the configs; "" lets each encoder see images as large as those that it was trained on.
        untrained: arguments that say of `--checkpoint random` what a checkpoint says itself.
    """
    if tasks:
        evaluate = {name: pick("tasks", name, evaluate) for name in tasks.split("+")}
    shared = dict(data_dir=data_dir, untrained=tuple(untrained), tokens=tokens, against="", weights="params")
    return ConfigDict(dict(evaluate=evaluate, seeds=tuple(range(seeds)), **shared))


def is_suite(config: ConfigDict) -> bool:
    """Whether a config is of a suite, and not of one evaluation or a study."""
    return "evaluate" in config and not {"task", "pretrain"} & {*config}


def run(
    config: ConfigDict,
    checkpoints: Sequence[str],
    folder: Path,
    *,
    read: Read,
    evaluate: Evaluate,
    jobs: int = 1,
    until: float = math.inf,
) -> int:
    """Run what is left of a suite, write its report and return the exit status.

    Args:
        jobs: cells at a time, in as many processes, each of which shares what it can; one alone runs here.
        until: time of the monotonic clock after which no cell is begun.
    """
    entries = entered(config, checkpoints, read)
    against = reference(config.against, [entry.name for entry in entries])
    configs = {
        (name, entry.name): read(arguments_of(config, name, evaluation.fractions[0], entry))
        for name, evaluation in config.evaluate.items()
        for entry in entries
    }
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder):
        todo = {cell: entry for entry in entries for cell in cells_of(config, folder, entry, configs)}
        require_current(config, folder, todo, configs)
        here = in_this_process(todo, evaluate)
        with Evaluators(folder) as elsewhere:
            if status := run_all([*todo], jobs, here if jobs == 1 else elsewhere, until):
                return status
        publish(config, folder, entries, against)
    return 0


def in_this_process(todo: Mapping[Cell, Entry], evaluate: Evaluate) -> Callable[[Cell, int], int]:
    """What runs a cell here; of an encoder nothing stays once another one is judged."""
    shared = Shared()

    def call(cell: Cell, jobs: int) -> int:
        shared.turn_to(todo[cell])
        start = time.monotonic()
        results = evaluate(cell.arguments[1:], shared)
        record(cell, time.monotonic() - start)
        found, scale = results.judged.metrics[results.headline], results.words.scale(results.headline)
        print(
            f"  {results.words.name(results.headline)}: {scale.text(found.mean)} ± {scale.text(found.std)}", flush=True
        )
        return 0

    return call


def cells_of(
    config: ConfigDict, folder: Path, entry: Entry, configs: Mapping[tuple[str, str], ConfigDict]
) -> Iterator[Cell]:
    """The evaluations of an encoder, small fractions first, so that one that is too small shows early.

    Of one fraction those come first that read most stages of the encoder: the others need no features but theirs.
    """

    def learns(name: str) -> bool:
        return config.evaluate[name].get("learns", True)

    def place(task: tuple[str, float]) -> tuple[float, int]:
        name, fraction = task
        stages = len(configs[name, entry.name].task.get("taps", ()))
        return fraction if learns(name) else smallest, -stages

    tasks = [(name, fraction) for name, of in config.evaluate.items() for fraction in of.fractions]
    smallest = min((fraction for name, fraction in tasks if learns(name)), default=1.0)
    for name, fraction in sorted(tasks, key=place):
        workdir = folder_of(folder, name, fraction, entry.name)
        where = (f"--checkpoint={entry.checkpoint}", f"--workdir={workdir}")
        yield Cell(workdir, ("evaluate", *arguments_of(config, name, fraction, entry), *where))


def arguments_of(config: ConfigDict, name: str, fraction: float, entry: Entry | None) -> list[str]:
    """The flags that describe an evaluation; without an entry, that of the encoder before any training."""
    evaluation = config.evaluate[name]
    more = [f"--config.seeds={tuple(config.seeds)}"] if evaluation.get("learns", True) else []
    words = [judging(evaluation, fraction, config.data_dir)]
    if entry is None or entry.checkpoint == RANDOM:
        words += config.untrained
    elif config.weights != handover.PARAMS:
        more.append(f"--config.weights={config.weights}")
    if entry is not None and entry.resized:
        words.append(f"size={entry.size}")
    return [",".join(words), *more, *evaluation.get("flags", ())]


def require_current(
    config: ConfigDict, folder: Path, todo: Mapping[Cell, Entry], configs: Mapping[tuple[str, str], ConfigDict]
) -> None:
    """Check that cells that are done are of the weights and records that are there now.

    Raises:
        ValueError: one is of a checkpoint or a data set that has changed since, or of another command.
    """
    for cell, entry in todo.items():
        if not is_done(cell):
            continue
        results = read_evaluation(cell.folder).results
        digest = None if results.checkpoint is None else results.checkpoint.digest
        name = cell.folder.relative_to(folder / "evaluate").parts[0]
        data = configs[name, entry.name].data
        if digest != entry.digest:
            raise ValueError(f"{cell.folder} is of other weights than {entry.checkpoint} has now; remove it")
        if results.dataset_digest != open_sets(data).digest:
            raise ValueError(f"{cell.folder} is of other data of the name {data.dataset} than there are now; remove it")


def publish(config: ConfigDict, folder: Path, entries: Sequence[Entry], against: str) -> None:
    """Write what came of a suite."""
    lines = {
        (name, fraction): {
            entry.name: suites.line_of(entry.name, folder_of(folder, name, fraction, entry.name)) for entry in entries
        }
        for name, evaluation in config.evaluate.items()
        for fraction in evaluation.fractions
    }
    costs = {entry.name: cost_of(entry, [found[entry.name] for found in lines.values()]) for entry in entries}
    found = suites.Suite(lines, costs, against, config.tokens)
    write(folder / "suite.json", json_of(suites.to_json(found)))
    write(folder / "suite.md", text := page.markdown(suites.summary(found)))
    whole = suites.page(found)
    write(folder / "report.html", page.html(whole))
    write(folder / "report.md", page.markdown(whole))
    print(f"\n{text}\n{folder / 'report.html'} holds all of it")


def entered(config: ConfigDict, checkpoints: Sequence[str], read: Read) -> list[Entry]:
    """The encoders of a suite, in the order of the command line.

    Raises:
        ValueError: two have one name, or are the same; one does not say the size of its images.
    """
    found: list[Entry] = []
    for given in checkpoints:
        name, path = split(given)
        entry = entry_of(name, path, config, read)
        for other in found:
            if other.name == name:
                raise ValueError(f"two checkpoints have the name {name!r}; give one of them another: NAME={path}")
            if (other.checkpoint, other.digest) == (entry.checkpoint, entry.digest):
                raise ValueError(f"{other.name} and {name} are the same checkpoint, {entry.checkpoint}")
        found.append(entry)
    return resized(config.tokens, found)


def entry_of(name: str, path: str, config: ConfigDict, read: Read) -> Entry:
    """The encoder of a checkpoint."""
    if path == RANDOM:
        some, evaluation = next(iter(config.evaluate.items()))
        untrained = read(arguments_of(config, some, evaluation.fractions[0], None))
        spec = random_spec(untrained)
        return Entry(name, RANDOM, spec, untrained.data.get("size") or spec["image_size"], False, None)
    handed = handover.encoder(path, weights=config.weights)
    origin = handed.origin
    at = path if origin["step"] is None else f"{origin['path']}@{origin['step']}"
    return Entry(name, at, handed.spec, handed.image_size or 0, False, origin["digest"])


def resized(tokens: str, entries: Sequence[Entry]) -> list[Entry]:
    """The encoders with the sizes of their images, where `tokens` says how many all have on a side, or `same`."""
    if not tokens:
        return list(entries)
    if tokens != SAME and not (tokens.isdigit() and int(tokens)):
        raise ValueError(f"tokens is {SAME!r}, or how many patches an image has on a side, not {tokens!r}")
    if tokens == SAME and (silent := [entry.name for entry in entries if not entry.size]):
        raise ValueError(f"{silent[0]} does not say the size of its images; say tokens=N, patches on a side of one")
    strides = {entry.name: stride_of(entry.spec) for entry in entries}
    side = min(entry.size // strides[entry.name] for entry in entries) if tokens == SAME else int(tokens)
    sizes = {name: side * stride for name, stride in strides.items()}
    return [entry._replace(size=sizes[entry.name], resized=sizes[entry.name] != entry.size) for entry in entries]


def split(given: str) -> tuple[str, str]:
    """Name and path of `[NAME=]PATH`; a path names itself by its last folder and step, or as its file without suffix.

    Raises:
        ValueError: it is none of these.
    """
    name, equals, path = given.partition("=")
    if equals and "/" not in name and not local_path("--checkpoint", given).exists():
        if not path or not re.fullmatch(r"\w[\w.+ -]*", name):
            raise ValueError(f"--checkpoint is [NAME=]CHECKPOINT with a name of letters and digits, not {given!r}")
        return name, str(local_path("--checkpoint", path))
    file = handover.file_of(given)
    return (Path(given).name or Path(given).resolve().name) if file is None else file[0].stem, given


def reference(against: str, names: Sequence[str]) -> str:
    """The name of the encoder that others are compared with."""
    if against and against not in names:
        raise ValueError(f"against is the name of an encoder, {nearest(against, names)}")
    return against or (RANDOM if RANDOM in names else names[0])


def stride_of(spec: Mapping[str, Any]) -> int:
    """Pixels of a side of what one token of an encoder is of."""
    encoder = handover.empty_encoder(spec, "float32", "none")
    return encoder.tap_strides((encoder.stages - 1,))[0]


def cost_of(entry: Entry, lines: Sequence[Line]) -> Cost:
    """What one image costs an encoder, one of the largest that it saw."""
    size = max(line.results.config["data"]["size"] for line in lines)
    encoder = handover.empty_encoder(entry.spec, "float32", "none")
    graph, weights = nnx.split(encoder)

    def encode(weights: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, weights)(View(images)).pooled

    image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    side = size // stride_of(entry.spec)
    return Cost(entry.checkpoint, entry.digest, size, side**2, flops(encode, weights, image))
