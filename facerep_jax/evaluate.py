r"""Score an encoder on a task.

facerep evaluate --config configs/evaluate/landmarks.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/farl_landmarks

--checkpoint is the workdir of a pre-training (its newest step, or WORKDIR@STEP), which brings the encoder's
architecture, normalisation and image size along; or `random`, an encoder before any training, which every result should
be held against and which the config's arguments must describe (variant=B/16,size=224). `config.weights` says which
weights are taken: params; ema if the pre-training kept an average; or what its objective offers, such as a teacher. It
may also be a FILE[@LAYOUT] of published weights.

`config.baselines` are learnt on the same labels: those of the task that need no network; `random`, the encoder before
any training, by the same protocol; and `scratch`, encoder and head trained as a whole from random initialisation, by
the protocol `config.scratch`.

Writes results.json, subsets.json (the labelled examples), examples.parquet (statistics of each test example),
predictions.parquet (at most `config.predictions` test examples, on the image that the encoder saw), command.txt, and
sheets of test faces: overlays.png (predictions), worst.png (the ten worst) and tokens.png (what the encoder sees).
"""

import contextlib
import importlib.metadata
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from PIL import Image
from tqdm import tqdm

from facerep_jax import pictures
from facerep_jax.command_line import command_line
from facerep_jax.config import build, locate, plain
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import may_show_images
from facerep_jax.evaluation import selection, sheets
from facerep_jax.evaluation.baselines import without_network
from facerep_jax.evaluation.encoders import load_encoder, random_encoder, settled
from facerep_jax.evaluation.labels import Labels, draw, labelled
from facerep_jax.evaluation.problem import Problem, make_problem, size, truth_of
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.results import JUDGED, NETWORKS, RANDOM, SCRATCH, Checkpoint, Results, Scores
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.evaluation.summaries import described, in_words, settings_of, summarised, words_of
from facerep_jax.evaluation.tables import Predictions, Statistics, evenly, write_predictions, write_statistics
from facerep_jax.files import local_path, write

SPECS = {RANDOM: "protocol", SCRATCH: "scratch"}  # of the config, by which they learn
SCRATCH_LABELS = 16  # that scratch needs at least
DEFAULTS = {  # of what a config need not say
    "selection": "validation",
    "validation_minimum": 10,  # validation labels, however small the fraction
    "baselines": None,  # all of the task's
    "predictions": 1000,  # test examples, evenly spaced, whose predictions are kept
}
PACKAGES = ("facerep_jax", "jax", "flax", "numpy", "scikit-learn")


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "evaluation, FILE[:args]; --config.a.b=x overrides",
        flag_values,
        lock_config=True,
        sys_argv=argv,
    )
    flags.DEFINE_string("checkpoint", None, "WORKDIR[@STEP] or random", flag_values=flag_values)
    flags.DEFINE_string("workdir", None, "folder of the result", flag_values=flag_values)
    flags.mark_flags_as_required(["config", "checkpoint", "workdir"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> None:
    """The entry point."""
    if words:
        raise ValueError(f"evaluate takes no {words[0]!r}; all is said by flags")
    workdir = local_path("workdir", flag_values.workdir)
    results = evaluate(flag_values.config, flag_values.checkpoint, workdir)
    write(workdir / "command.txt", command_line("evaluate", flag_values))
    print(headline_of(results))


def evaluate(config: ConfigDict, checkpoint_name: str, workdir: Path) -> Results:
    """Learn the task on every subset of the labels, score it on the test split, and write all of it to the workdir."""
    config, seconds = completed(config), dict[str, float]()
    selection.check(config.selection)
    specs = {JUDGED: config.protocol}
    specs |= {name: config[SPECS[name]] for name in NETWORKS if name in (config.baselines or ())}
    protocols: dict[str, Protocol] = {who: build(spec) for who, spec in specs.items()}
    folder = folder_for(workdir)
    with timed(seconds, "load"):
        dataset = open_dataset(config.data.dataset, config.data.data_dir)
        loaded = load_encoder(config, checkpoint_name)
        encoder, origin = loaded.encoder, loaded.origin
        config = settled(config, dataset, loaded)
        problem = make_problem(config, dataset, encoder, folder)
    labels = draw(problem, config.fraction, config.seeds, config.validation_minimum)
    if SCRATCH in protocols and len(labels[0].train) < SCRATCH_LABELS:
        raise ValueError(
            f"the baseline scratch learns a whole network and needs {SCRATCH_LABELS} labels, there are "
            f"{len(labels[0].train)}: raise the fraction or leave it out of the baselines"
        )
    if config.selection == "test_best":
        print("warning: test_best selects on the test set itself: no fair number comes of it", file=sys.stderr)
    subsets = [ids_of(problem, subset) for subset in labels]
    problem, labels = labelled(problem, labels)
    test, metric = problem.splits["test"], problem.metric

    with timed(seconds, "baselines"):
        fixed = without_network(config.baselines, problem, labels, dataset.meta)
    outcomes = {JUDGED: learn(protocols[JUDGED], problem, labels, origin_name(origin), seconds)}
    for who in [name for name in protocols if name != JUDGED]:
        start = problem._replace(encoder=random_encoder(config))
        outcomes[who] = learn(protocols[who], start, labels, who, seconds, f"_{who}")
    predictions = {who: [outcome.prediction for outcome in of] for who, of in outcomes.items()} | fixed
    with timed(seconds, "score"):
        rows = {who: [metric.rows(each, truth_of(test)) for each in of] for who, of in predictions.items()}
        scores = {who: Scores(summarised(metric, of)) for who, of in rows.items()}
    for who, of in outcomes.items():
        scores[who] = replace(
            scores[who],
            protocol=protocols[who].name,
            protocol_settings=settings_of(specs[who]),
            validation_labels=len(labels[0].validation) if "validation" in of[0].selected else 0,
            trains_encoder=protocols[who].trains_encoder,
        )
        for subset, outcome in zip(subsets, of, strict=True):
            subset["selected" if who == JUDGED else f"selected_{who}"] = outcome.selected

    results = Results(
        task=locate(config.task).__module__.rpartition(".")[2],
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        encoder=described(config.encoder, encoder, trained=origin != RANDOM),
        head=in_words(plain(config.task.head)) if "head" in config.task else "",
        selection=config.selection,
        fraction=config.fraction,
        labels=len(labels[0].train),
        test_images=len(rows[JUDGED][0].ids),
        predictions=min(config.predictions, size(test)),
        seeds=tuple(config.seeds),
        headline=metric.headline,
        lower_is_better=metric.lower_is_better,
        judged=scores.pop(JUDGED),
        baselines=scores,
        metric=plain(problem.task.metric(dataset.meta)),
        checkpoint=None if origin == RANDOM else Checkpoint(**origin),
        seconds={phase: round(spent, 3) for phase, spent in seconds.items()},
        config=plain(config),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        words=words_of(problem.task, metric, protocols.values()),
    )
    drawn = {}
    if may_show_images(dataset.meta):
        drawn = sheets.sheets(problem.task, problem, predictions[JUDGED][0], rows[JUDGED][0])
    else:
        print(f"no sheets of test faces are written: images of {dataset.name} may not be shown")
    save(workdir, results, subsets, drawn, rows, predictions, test["id"])
    return results


def save(
    workdir: Path,
    results: Results,
    subsets: Sequence[Mapping[str, Any]],
    sheets: Mapping[str, Image.Image],
    statistics: Statistics,
    predictions: Predictions,
    ids: Sequence[str],
) -> None:
    """Write all files, results.json last."""
    kept = evenly(len(ids), results.predictions or 0)
    some = {who: [prediction[kept] for prediction in of] for who, of in predictions.items()}
    workdir.mkdir(parents=True, exist_ok=True)
    write(workdir / "subsets.json", json.dumps(subsets, indent=1))
    write(workdir / "examples.parquet", lambda path: write_statistics(path, statistics))
    write(workdir / "predictions.parquet", lambda path: write_predictions(path, some, [ids[row] for row in kept]))
    pictures.save(workdir, sheets)
    write(workdir / "results.json", json.dumps(results.to_json(), indent=2, allow_nan=False))


def completed(config: ConfigDict) -> ConfigDict:
    """The config with what it leaves open.

    Raises:
        ValueError: the config names a baseline that it does not describe.
    """
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        for name, default in DEFAULTS.items():
            whole[name] = whole.get(name, default)
    if SCRATCH in (whole.baselines or ()) and SCRATCH not in whole:
        raise ValueError("the baseline scratch needs config.scratch, the spec of the protocol that trains it")
    return whole


def folder_for(workdir: Path) -> Path:
    """The nearest folder that exists, of the workdir and all above it.

    Raises:
        NotADirectoryError, PermissionError: the workdir could not be made there.
    """
    there = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"--workdir {workdir}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"--workdir {workdir}: nothing can be written in {there}")
    return there


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the seconds that the block takes to those of a phase."""
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def learn(
    protocol: Protocol,
    problem: Problem,
    labels: Sequence[Labels],
    name: str,
    seconds: dict[str, float],
    suffix: str = "",
) -> list[Outcome]:
    """Learn on each subset of the labels; gives what came of each."""
    with timed(seconds, f"prepare{suffix}"):
        learn_on = protocol.prepare(problem)
    with timed(seconds, f"learn{suffix}"):
        progress = tqdm(labels, f"{name}: label subsets", disable=None)
        return [learn_on(subset.train, subset.validation, subset.seed) for subset in progress]


def origin_name(origin: Any) -> str:
    """A checkpoint as people name it."""
    return origin if isinstance(origin, str) else f"{origin['path']}@{origin['step']}"


def ids_of(problem: Problem, labels: Labels) -> dict[str, Any]:
    """A subset of the labels by the ids of its examples."""
    rows = {"train": labels.train, "validation": labels.validation}
    ids = {role: [problem.splits[role]["id"][row] for row in of] for role, of in rows.items()}
    return {"seed": labels.seed, **ids}


def headline_of(results: Results) -> str:
    """The result in a few lines, for the terminal."""
    name, checkpoint = results.headline, results.checkpoint
    who = RANDOM if checkpoint is None else f"{checkpoint.path}@{checkpoint.step}"
    head = (
        f"{results.task} on {results.dataset} by {results.protocol}, {name} in %: "
        f"{results.labels} labels ({results.fraction:.0%}), {len(results.seeds)} subsets of them, "
        f"{results.test_images} test {results.words.unit}s; selection: {results.selection} "
        f"({results.judged.validation_labels} validation labels)"
    )
    lines = [
        f"  {who:32s} {percent(of.metrics[name].mean)} ± {percent(of.metrics[name].std).strip()}"
        for who, of in {who: results.judged, **results.baselines}.items()
    ]
    return "\n".join([head, *lines])


def percent(value: float | None) -> str:
    """A fraction in percent, six characters wide; a value that is not defined is `nan`."""
    return f"{math.nan if value is None else 100 * value:6.2f}"
