r"""Score an encoder on a task.

facerep evaluate --config configs/evaluate/landmarks.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/farl_landmarks

--checkpoint is the workdir of a pre-training (its newest step, or WORKDIR@STEP), which brings the encoder's
architecture, normalisation and image size along; or `random`, an encoder before any training, which every result should
be held against and which the config's arguments must describe (variant=B/16,size=224). `config.weights` says which
weights of a pre-training are taken: params; ema if it kept an average; or an encoder that its objective offers, such as
a teacher. --checkpoint may also be FILE[@LAYOUT], published weights; `config.weights` is then ignored.

`config.baselines` are learnt on the same labels: those of the task that need no network; `random`, the encoder before
any training, by the same protocol; and `scratch`, encoder and head trained as a whole from random initialisation, by
the protocol `config.scratch`.

A workdir holds one result. The same checkpoint may be evaluated there again on the same task and data set, with other
settings or at another step, which replaces the result; anything else is refused there.

A config of a suite, such as configs/evaluate/suite_five_tasks.py, is many evaluations: of each --checkpoint, of which
it takes several, [NAME=]CHECKPOINT, on each task at each fraction of the labels; --jobs run at a time, and with
--minutes it stops between two of them. See docs/suites.md.

Writes results.json, subsets.json (the labelled examples), examples.parquet (statistics of each test example),
predictions.parquet (at most `config.predictions` test examples, on the image that the encoder saw), command.txt,
learnt.safetensors (what `facerep predict` needs of the first subset; `config.keep`), and sheets of test faces:
overlays.png (predictions), worst.png and best.png (ten each) and tokens.png (what the encoder sees).
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags
from PIL import Image
from tqdm import tqdm

from facerep_jax import lock, pictures, suite
from facerep_jax.cells import define_flags_of_cells, end_of
from facerep_jax.command_line import cause_of, command_line, require_kind, resolve
from facerep_jax.config import build, locate, plain
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import licence_of, may_show_images
from facerep_jax.evaluation import corruptions, few_shot, learnt, robustness, selection, sheets
from facerep_jax.evaluation.baselines import EXPLAINS, problem_of, without_network
from facerep_jax.evaluation.breakdown import FEW, broken_down
from facerep_jax.evaluation.conditions import Conditions, axes_of
from facerep_jax.evaluation.encoders import Loaded, load_encoder, settled
from facerep_jax.evaluation.labels import Labels, check_seeds, draw, labelled
from facerep_jax.evaluation.metrics import rows_of
from facerep_jax.evaluation.problem import Problem, make_problem, size, truth_of
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.results import (
    JUDGED,
    NETWORKS,
    PATCHES,
    RANDOM,
    SCRATCH,
    Checkpoint,
    Results,
    Scores,
    name_of,
)
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.evaluation.shared import ENCODERS, Shared
from facerep_jax.evaluation.summaries import described, in_words, settings_of, summarised, words_of
from facerep_jax.evaluation.tables import evenly, write_predictions, write_statistics
from facerep_jax.evaluation.trial import defaults
from facerep_jax.files import local_path, writable_folder, write
from facerep_jax.reporting import wording
from facerep_jax.train import hardware
from facerep_jax.train.resume import has_begun

SPECS = dict.fromkeys(NETWORKS, "protocol") | {SCRATCH: "scratch"}  # of the config, by which they learn
SCRATCH_LABELS = 16  # that scratch needs at least
Content = str | Callable[[Path], Any]  # of a file: text, or what writes to the path that it is given
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
    flags.DEFINE_multi_string(
        "checkpoint",
        None,
        "WORKDIR[@STEP] of a pre-training, FILE[@LAYOUT] of published weights, or random; a suite takes several, each "
        "with a name before it if wanted, NAME=...",
        flag_values=flag_values,
    )
    flags.DEFINE_string("workdir", None, "folder of the result", flag_values=flag_values)
    define_flags_of_cells(flag_values)
    flags.mark_flags_as_required(["config", "checkpoint", "workdir"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """The entry point; returns the exit status."""
    if words:
        raise ValueError(f"evaluate takes flags only, but got {words[0]!r}")
    config, checkpoints, workdir = (
        flag_values.config,
        flag_values.checkpoint,
        local_path("workdir", flag_values.workdir),
    )
    hardware.check()
    if suite.is_suite(config):
        folder_for(workdir)
        limits = {"jobs": flag_values.jobs, "until": end_of(flag_values.minutes)}
        return suite.run(config, checkpoints, workdir, read=config_of, evaluate=again, **limits)
    require_kind(config, "evaluate", "task", "protocol")
    if flag_values.jobs > 1 or flag_values.minutes:
        raise ValueError("--jobs and --minutes are of suites, which have cells; this config is of one evaluation")
    if len(checkpoints) > 1:
        raise ValueError("--checkpoint is given more than once; a config of a suite takes several, this one takes one")
    hardware.check_dtype(config.get("dtype", "auto"))
    results = evaluate(config, checkpoints[0], workdir, command_line("evaluate", flag_values))
    print(headline_of(results))
    return 0


def parsed(arguments: Sequence[str]) -> flags.FlagValues:
    """The flags of an evaluation that a suite runs."""
    own = flags.FlagValues()
    try:
        argv = ["facerep evaluate", *map(resolve, arguments)]
        define_flags(own, argv)
        own(argv)
    except Exception as error:  # the config's code may raise anything
        raise ValueError(f"{arguments[0]}: {cause_of(error)}") from None
    return own


def config_of(arguments: Sequence[str]) -> ConfigDict:
    """The config of an evaluation that a suite runs."""
    return parsed([*arguments, "--checkpoint=random", "--workdir=."]).config


def again(arguments: Sequence[str], shared: Shared) -> Results:
    """Run an evaluation of a suite as its command would, but for what it shares with the others."""
    own = parsed(arguments)
    hardware.check_dtype(own.config.get("dtype", "auto"))
    return evaluate(own.config, own.checkpoint[0], Path(own.workdir), command_line("evaluate", own), shared)


def evaluate(
    config: ConfigDict, checkpoint_name: str, workdir: Path, command: str, shared: Shared | None = None
) -> Results:
    """Learn the task on every subset of the labels, score it on the test split, and write all of it to the workdir.

    Args:
        command: is kept on file.
        shared: with other evaluations in this process, so that nothing is read, encoded or fitted twice.
    """
    config, seconds = completed(config), dict[str, float]()
    selection.check(config.selection)
    learnt.check(config.keep)
    kinds = corruptions.kinds_of(config.corruptions)
    check_seeds(config.seeds)
    specs = {JUDGED: config.protocol}
    specs |= {name: config[SPECS[name]] for name in NETWORKS if name in (config.baselines or ())}
    protocols: dict[str, Protocol] = {who: build(spec) for who, spec in specs.items()}
    folder, task = folder_for(workdir), locate(config.task).__module__.rpartition(".")[2]
    with timed(seconds, "load"):
        dataset = open_dataset(config.data.dataset, config.data.data_dir)
        loaded = load_once(config, checkpoint_name, shared)
        encoder, checkpoint = loaded.encoder, None if loaded.origin == RANDOM else Checkpoint(**loaded.origin)
        require_same_subject(workdir, task, dataset.name, checkpoint)
        config = settled(config, dataset, loaded)
        compares = any(protocol.compares for protocol in protocols.values())
        axes = axes_of(dataset, config.groups)
        conditions = Conditions(axes) if axes else None
        problem = make_problem(
            config, dataset, encoder, folder, compares=compares, shared=shared, conditions=conditions
        )
        problem = problem._replace(checkpoint=checkpoint_name)
    labels = subsets_of(problem, config)
    drawn_share = round(len(labels[0].train) / size(problem.splits["train"]), 4) if config.shots else config.fraction
    if SCRATCH in protocols and len(labels[0].train) < SCRATCH_LABELS:
        raise ValueError(
            f"the baseline scratch learns a whole network and needs {SCRATCH_LABELS} labels, there are "
            f"{len(labels[0].train)}: raise the fraction or leave it out of the baselines"
        )
    if config.selection == "test_best":
        print("warning: test_best selects on the test set itself: no fair number comes of it", file=sys.stderr)
    if problem.held_out:
        print(f"{dataset.name} has no validation split: {problem.held_out} training examples are held out for it")
    subsets = [ids_of(problem, subset) for subset in labels]
    unlabelled = problem.splits["train"]["image"] if PATCHES in protocols else None
    problem, labels = labelled(problem, labels)
    test, metric = problem.splits["test"], problem.metric

    with timed(seconds, "baselines"):
        fixed = fixed_once(config, problem, labels, dataset.meta)
    judged = robustness.with_copies(problem, kinds) if kinds else problem
    outcomes = {JUDGED: learn(protocols[JUDGED], judged, labels, name_of(checkpoint), seconds)}
    copies = [robustness.parted(of.prediction, size(test)) for of in outcomes[JUDGED]]  # the first is clean
    outcomes[JUDGED] = [of._replace(prediction=clean) for of, (clean, *_) in zip(outcomes[JUDGED], copies, strict=True)]
    kept = learnt.learnt_by(
        problem, protocols[JUDGED], outcomes[JUDGED][0].weights, labels[0].seed, dataset.meta, config.keep
    )
    for who in [name for name in protocols if name != JUDGED]:
        with timed(seconds, "baselines"):
            rival = problem_of(who, problem, config, unlabelled)
        outcomes[who] = learn(protocols[who], rival, labels, who, seconds, f"_{who}")
    predictions = {who: [outcome.prediction for outcome in of] for who, of in outcomes.items()} | fixed
    with timed(seconds, "score"):
        rows = {who: [rows_of(metric, each, truth_of(test)) for each in of] for who, of in predictions.items()}
        scores = {who: Scores(summarised(metric, of)) for who, of in rows.items()}
        parts = broken_down(metric, rows[JUDGED], test, axes)
        harmed = robustness.harms(metric, rows[JUDGED], copies, test, kinds) if kinds else {}
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

    explained = {who: said for who, said in EXPLAINS.items() if who in specs}
    results = Results(
        task=task,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        encoder=described(config.encoder, encoder, trained=checkpoint is not None),
        head=in_words(plain(config.task.head)) if "head" in config.task else "",
        selection=config.selection,
        fraction=drawn_share,
        shots=config.shots,
        labels=len(labels[0].train),
        test_images=len(rows[JUDGED][0].ids),
        test_units=len({*rows[JUDGED][0].units}),
        predictions=min(config.predictions, size(test)),
        seeds=tuple(subset.seed for subset in labels),
        headline=metric.headline,
        lower_is_better=metric.lower_is_better,
        judged=scores.pop(JUDGED),
        baselines=scores,
        metric=plain(problem.task.metric(dataset.meta)),
        checkpoint=checkpoint,
        seconds={phase: round(spent, 3) for phase, spent in seconds.items()},
        config=plain(config),
        versions=versions(),
        words=words_of(problem.task, metric, protocols.values(), explained),
        licence=licence_of(dataset.meta),
        held_out=problem.held_out,
        left_out=problem.left_out,
        learnt={} if kept is None else kept.told,
        breakdown=parts,
        corruptions=harmed,
    )
    drawn = {}
    if may_show_images(dataset.meta):
        drawn = sheets.sheets(problem.task, problem, predictions[JUDGED][0], rows[JUDGED][0])
    else:
        print(f"no sheets of test faces are written: images of {dataset.name} may not be shown")
    examples = evenly(size(test), config.predictions).tolist()
    files: dict[str, Content] = {
        "command.txt": command,
        "subsets.json": json.dumps(subsets, indent=1, allow_nan=False),
        "examples.parquet": partial(write_statistics, statistics=rows),
        "predictions.parquet": partial(write_predictions, predictions=predictions, ids=test["id"], kept=examples),
    }
    if kept is not None:
        files[learnt.FILE] = partial(learnt.save, kept)
        print(
            f"{workdir / learnt.FILE}: {kept.megabytes:.3g} MB, for facerep predict; --config.keep=nothing keeps none"
        )
    save(workdir, files, drawn, json.dumps(results.to_json(), indent=2, allow_nan=False))
    return results


def load_once(config: ConfigDict, name: str, shared: Shared | None) -> Loaded:
    """The encoder that a checkpoint's name means, loaded once for evaluations that share it."""
    if shared is None:
        return load_encoder(config, name)
    settings = {key: plain(config[key]) for key in ("encoder", "encoder_seed", "weights", "remat", "dtype")}
    key = (ENCODERS, name, json.dumps([settings, config.data.get("size")]))
    return shared.once(key, lambda: load_encoder(config, name))


def subsets_of(problem: Problem, config: ConfigDict) -> list[Labels]:
    """The subsets of the labels: so many of each person or class, or a fraction of all."""
    if config.shots:
        return few_shot.draw(problem, config.shots, config.shots_per, config.seeds, config.validation_minimum)
    return draw(problem, config.fraction, config.seeds, config.validation_minimum)


def fixed_once(
    config: ConfigDict, problem: Problem, labels: Sequence[Labels], meta: Mapping[str, Any]
) -> dict[str, list[np.ndarray]]:
    """Predictions without a network, made once for evaluations that share images and subsets of the labels."""

    def make() -> dict[str, list[np.ndarray]]:
        return without_network(config.baselines, problem, labels, meta)

    if problem.shared is None:
        return make()
    subsets = [ids_of(problem, subset) for subset in labels]
    key = [plain(config.task), plain(config.baselines), subsets, list(problem.images.values())]
    return problem.shared.once(("baselines", json.dumps(key)), make)


def save(workdir: Path, files: Mapping[str, Content], drawn: Mapping[str, Image.Image], results: str) -> None:
    """Write all files and sheets; an older results.json goes first and the new one comes last.

    The workdir is held meanwhile, and not before: while an evaluation learns, nothing is written.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with lock.held(workdir):
        for name in ("results.json", learnt.FILE, *(f"{sheet}.png" for sheet in sheets.NAMES)):
            (workdir / name).unlink(missing_ok=True)
        for name, content in files.items():
            write(workdir / name, content)
        pictures.save(workdir, drawn)
        write(workdir / "results.json", results)


def completed(config: ConfigDict) -> ConfigDict:
    """The config with what it leaves open.

    Raises:
        ValueError: the config names a baseline that it does not describe, or a fraction and shots.
    """
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        for name, default in defaults().items():
            whole[name] = whole.get(name, default)
    if whole.shots and whole.fraction != 1:
        raise ValueError(
            f"say a fraction of the labels or shots, not both: fraction={whole.fraction:g}, shots={whole.shots}"
        )
    if SCRATCH in (whole.baselines or ()) and SCRATCH not in whole:
        raise ValueError("the baseline scratch needs config.scratch, the spec of the protocol that trains it")
    if PATCHES in (whole.baselines or ()) and build(whole.protocol).trains_encoder:
        raise ValueError(f"the baseline {PATCHES} has nothing to train: name it beside a protocol of frozen encoders")
    return whole


def folder_for(workdir: Path) -> Path:
    """The nearest folder that exists, of the workdir and all above it.

    Raises:
        NotADirectoryError, PermissionError: the workdir could not be made there.
        ValueError: it is that of a pre-training.
    """
    if has_begun(workdir):
        raise ValueError(
            f"--workdir {workdir} is that of a pre-training, since it holds config.json; give another folder, which "
            "may lie in it"
        )
    return writable_folder("--workdir", workdir)


def require_same_subject(workdir: Path, task: str, dataset: str, checkpoint: Checkpoint | None) -> None:
    """Check that a workdir has no result, or one of the same task, data set and checkpoint, whatever its step.

    Raises:
        ValueError: it has another result, or a results.json that is none.
    """
    path = workdir / "results.json"
    if not path.exists():
        return
    there = Results.read(path)
    of, wanted = (each and Path(each.path).resolve() for each in (there.checkpoint, checkpoint))
    if (there.task, there.dataset, of) != (task, dataset, wanted):
        raise ValueError(
            f"--workdir {workdir} holds the result of {there.task} on {there.dataset} for {name_of(there.checkpoint)}; "
            "choose another --workdir"
        )


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on; a checkout that is only on Python's path has none."""
    return {name: hardware.version_of(name) or "not installed" for name in PACKAGES}


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
    """Learn on each subset of the labels; gives what came of each, weights of the first alone."""
    with timed(seconds, f"prepare{suffix}"):
        learn_on = protocol.prepare(problem)
    with timed(seconds, f"learn{suffix}"):
        progress = tqdm(labels, f"{name}: label subsets", disable=None)
        found = list[Outcome]()
        for subset in progress:
            outcome = learn_on(subset.train, subset.validation, subset.seed)
            found.append(outcome._replace(weights=None) if found else outcome)  # a network may be large
        return found


def ids_of(problem: Problem, labels: Labels) -> dict[str, Any]:
    """A subset of the labels by the ids of its examples."""
    rows = {"train": labels.train, "validation": labels.validation}
    ids = {role: [problem.splits[role]["id"][row] for row in of] for role, of in rows.items()}
    return {"seed": labels.seed, **ids}


def headline_of(results: Results) -> str:
    """The result in a few lines, for the terminal."""
    name, who, count = results.headline, name_of(results.checkpoint), len(results.seeds)
    scale = results.words.scale(name)
    several = f"{count} subsets of them" if count > 1 else "one subset of them"
    head = (
        f"{results.task} on {results.dataset} by {results.protocol}, {name}{scale.said}: "
        f"{results.labels} labels ({wording.share(results)}), {several}, "
        f"{wording.tested(results)}; selection: {results.selection} "
        f"({results.judged.validation_labels} validation labels"
        f"{', held out of the training split' if results.held_out else ''})"
    )
    lines = [
        f"  {who:32s} {scale.text(of.metrics[name].mean):>6s} ± {scale.text(of.metrics[name].std)}"
        for who, of in {who: results.judged, **results.baselines}.items()
    ]
    return "\n".join([head, *lines, *found_worst(results)])


def found_worst(results: Results) -> list[str]:
    """A line on the group that the encoder serves worst, and one on groups that are too small; none without groups."""
    parts, scale = results.breakdown, results.words.scale(results.headline)
    said = []
    for group in (each for each in parts.groups if each.title == parts.worst):
        verdict = "worse than the others of its kind" if parts.decided else "which may be chance"
        counted = wording.plural(group.units, results.independent)
        said.append(f"  worst group, {group.title}: {scale.shown(group.value)} ({counted}), {verdict}")
    if parts.small:
        units = wording.plural_noun(results.independent)
        says = "says" if len(parts.small) == 1 else "say"
        said.append(f"  {wording.plural(len(parts.small), 'group')} of fewer than {FEW} {units} {says} nothing")
    return said
