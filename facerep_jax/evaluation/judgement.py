"""One evaluation from config to results: what is judged, what is learnt, how it scores, and what is said of it."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from facerep_jax.config import build, locate, plain
from facerep_jax.data.arrays import Stack
from facerep_jax.data.library import Dataset
from facerep_jax.data.meta import licence_of
from facerep_jax.evaluation import corruptions, few_shot, label_lists, learnt, robustness, selection
from facerep_jax.evaluation.baselines import EXPLAINS, problem_of, without_network
from facerep_jax.evaluation.breakdown import broken_down
from facerep_jax.evaluation.conditions import Axis, Conditions, axes_of
from facerep_jax.evaluation.encoders import Loaded, load_encoder, settled
from facerep_jax.evaluation.labels import Labels, check_seeds, draw, labelled, one_sided
from facerep_jax.evaluation.metrics import rows_of
from facerep_jax.evaluation.problem import Problem, make_problem, size, truth_of
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.results import (
    JUDGED,
    NETWORKS,
    PATCHES,
    RANDOM,
    SCRATCH,
    Breakdown,
    Checkpoint,
    Harm,
    Results,
    Scores,
    name_of,
)
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.evaluation.sets import Sets
from facerep_jax.evaluation.shared import ENCODERS, Shared
from facerep_jax.evaluation.statistics import drawn_by
from facerep_jax.evaluation.summaries import described, in_words, settings_of, summarised, words_of
from facerep_jax.evaluation.trial import defaults
from facerep_jax.train import hardware
from facerep_jax.typing import Noting, Rows

SPECS = dict.fromkeys(NETWORKS, "protocol") | {SCRATCH: "scratch"}  # of the config, by which they learn
SCRATCH_LABELS = 16  # that scratch needs at least
PACKAGES = ("facerep_jax", "jax", "flax", "numpy", "scikit-learn")


class Case(NamedTuple):
    """An encoder and a task, what learns the task, and the labels that it learns from."""

    config: ConfigDict  # with all that it left open
    task: str
    sets: Sets
    checkpoint: Checkpoint | None  # None for a random encoder
    protocols: Mapping[str, Protocol]  # of the encoder that is judged, and of baselines that are networks, by name
    problem: Problem  # its training split has just the examples that some subset labels
    labels: Sequence[Labels]  # the subsets, as rows of that split
    subsets: Sequence[Mapping[str, Any]]  # the same, by ids of examples
    share: float  # of the training split that each subset labels
    notes: Sequence[str]  # what of the subsets a reader has to know
    axes: Sequence[Axis]  # by whose groups the result is broken down
    unlabelled: Stack | None  # all training images, where a baseline is fitted on them

    @property
    def dataset(self) -> Dataset:
        """The data set that is tested on."""
        return self.sets.test


class Findings(NamedTuple):
    """What came of an evaluation for each subset of the labels, by the names of encoder and baselines."""

    outcomes: Mapping[str, Sequence[Outcome]]  # of those that learn by a protocol
    predictions: Mapping[str, Sequence[Stack]]  # of the test split
    rows: Mapping[str, Sequence[Rows]]  # the metric's
    scores: Mapping[str, Scores]
    breakdown: Breakdown
    corruptions: Mapping[str, Sequence[Harm]]
    kept: learnt.Learnt | None  # of the first subset, for `facerep predict`


def completed(config: ConfigDict) -> ConfigDict:
    """The config with what it leaves open.

    Raises:
        ValueError: the config names a baseline that it does not describe, or says in more than one way which labels
            are used: a fraction, shots, listed subsets.
    """
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        for name, default in defaults().items():
            whole[name] = whole.get(name, default)
    if whole.shots and whole.fraction != 1:
        raise ValueError(
            f"say a fraction of the labels or shots, not both: fraction={whole.fraction:g}, shots={whole.shots}"
        )
    if whole.subsets and (whole.shots or whole.fraction != 1):
        raise ValueError(f"config.subsets={whole.subsets} lists the labels: leave fraction and shots as they are")
    if SCRATCH in (whole.baselines or ()) and SCRATCH not in whole:
        raise ValueError("the baseline scratch needs config.scratch, the spec of the protocol that trains it")
    if PATCHES in (whole.baselines or ()) and build(whole.protocol).trains_encoder:
        raise ValueError(f"the baseline {PATCHES} has nothing to train: name it beside a protocol of frozen encoders")
    return whole


def protocols_of(config: ConfigDict) -> dict[str, Protocol]:
    """The protocols of the encoder that is judged and of baselines that are networks, by name.

    Raises:
        ValueError: one of them cannot be made, or a setting of the config is none of those that there are.
    """
    selection.check(config.selection)
    learnt.check(config.keep)
    corruptions.kinds_of(config.corruptions)
    check_seeds(config.seeds)
    return {who: build(spec) for who, spec in specs_of(config).items()}


def specs_of(config: ConfigDict) -> dict[str, Any]:
    """The specs of these protocols."""
    rivals = [name for name in NETWORKS if name in (config.baselines or ())]
    return {JUDGED: config.protocol} | {name: config[SPECS[name]] for name in rivals}


def task_of(config: ConfigDict) -> str:
    """The name of a config's task."""
    return locate(config.task).__module__.rpartition(".")[2]


def checkpoint_of(loaded: Loaded) -> Checkpoint | None:
    """Where an encoder came from; None for a random one."""
    return None if loaded.origin == RANDOM else Checkpoint(**loaded.origin)


def load_once(config: ConfigDict, name: str, shared: Shared | None) -> Loaded:
    """The encoder that a checkpoint's name means, loaded once for evaluations that share it."""
    if shared is None:
        return load_encoder(config, name)
    settings = {key: plain(config[key]) for key in ("encoder", "encoder_seed", "weights", "remat", "dtype")}
    key = (ENCODERS, name, json.dumps([settings, config.data.get("size")]))
    return shared.once(key, lambda: load_encoder(config, name))


def make_case(
    config: ConfigDict,
    protocols: Mapping[str, Protocol],
    sets: Sets,
    loaded: Loaded,
    name: str,
    folder: Path,
    shared: Shared | None,
) -> Case:
    """What is to be judged.

    Args:
        config: as `completed` gives it.
        name: of the checkpoint, as the user gave it.
        folder: where large intermediate results may lie.
        shared: with other evaluations in this process.

    Raises:
        ValueError: the data set lacks what the config needs, or has too few labels.
    """
    config, axes = settled(config, sets, loaded), axes_of(sets.test, config.groups)
    problem = make_problem(
        config,
        sets,
        loaded.encoder,
        folder,
        compares=any(protocol.compares for protocol in protocols.values()),
        shared=shared,
        conditions=Conditions(axes) if axes else None,
    )
    problem = problem._replace(checkpoint=name)
    labels = subsets_of(problem, config)
    count = len(labels[0].train)
    if SCRATCH in protocols and count < SCRATCH_LABELS:
        raise ValueError(
            f"the baseline scratch learns a whole network and needs {SCRATCH_LABELS} labels, there are {count}: raise "
            "the fraction or leave it out of the baselines"
        )
    fewer, rows = labelled(problem, labels)
    return Case(
        config=config,
        task=task_of(config),
        sets=sets,
        checkpoint=checkpoint_of(loaded),
        protocols=protocols,
        problem=fewer,
        labels=rows,
        subsets=[ids_of(problem, subset) for subset in labels],
        share=round(count / size(problem.splits["train"]), 4) if config.shots or config.subsets else config.fraction,
        notes=(*([label_lists.told(config.subsets)] if config.subsets else []), *one_sided(problem, labels)),
        axes=axes,
        unlabelled=problem.splits["train"]["image"] if PATCHES in protocols else None,
    )


def subsets_of(problem: Problem, config: ConfigDict) -> list[Labels]:
    """The subsets of the labels: those that a file lists, so many of each person or class, or a fraction of all."""
    if config.subsets:
        return label_lists.listed_labels(problem, config.subsets, config.validation_minimum)
    if config.shots:
        return few_shot.draw(problem, config.shots, config.shots_per, config.seeds, config.validation_minimum)
    return draw(problem, config.fraction, config.seeds, config.validation_minimum)


def ids_of(problem: Problem, labels: Labels) -> dict[str, Any]:
    """A subset of the labels by the ids of its examples."""
    rows = {"train": labels.train, "validation": labels.validation}
    ids = {role: [problem.splits[role]["id"][row] for row in of] for role, of in rows.items()}
    return {"seed": labels.seed, **ids}


def judge(case: Case, seconds: dict[str, float]) -> Findings:
    """Learn on each subset of the labels, and score what is predicted of the test split.

    Args:
        seconds: what each phase took; is added to.
    """
    config, problem, metric = case.config, case.problem, case.problem.metric
    test, meta, kinds = problem.splits["test"], case.dataset.meta, corruptions.kinds_of(config.corruptions)
    with timed(seconds, "baselines"):
        fixed = fixed_once(case)
    judged, protocol = robustness.with_copies(problem, kinds) if kinds else problem, case.protocols[JUDGED]
    own = learn(protocol, judged, case.labels, name_of(case.checkpoint), seconds)
    copies = [robustness.parted(of.prediction, size(test)) for of in own]  # the first of each is of clean images
    outcomes = {JUDGED: [of._replace(prediction=clean) for of, (clean, *_) in zip(own, copies, strict=True)]}
    kept = learnt.learnt_by(problem, protocol, own[0].weights, case.labels[0].seed, meta, config.keep)
    for who in [name for name in case.protocols if name != JUDGED]:
        with timed(seconds, "baselines"):
            rival = problem_of(who, problem, config, case.unlabelled)
        outcomes[who] = learn(case.protocols[who], rival, case.labels, who, seconds, f"_{who}")

    predictions = {who: [outcome.prediction for outcome in of] for who, of in outcomes.items()} | fixed
    with timed(seconds, "score"):
        rows = {who: [rows_of(metric, each, truth_of(test)) for each in of] for who, of in predictions.items()}
        scores = {who: Scores(summarised(metric, of)) for who, of in rows.items()}
        parts = broken_down(metric, rows[JUDGED], test, case.axes)
        harmed = robustness.harms(metric, rows[JUDGED], copies, test, kinds) if kinds else {}
    specs = specs_of(config)
    for who, of in outcomes.items():
        scores[who] = replace(
            scores[who],
            protocol=case.protocols[who].name,
            protocol_settings=settings_of(specs[who]),
            validation_labels=len(case.labels[0].validation) if "validation" in of[0].selected else 0,
            trains_encoder=case.protocols[who].trains_encoder,
        )
    return Findings(outcomes, predictions, rows, scores, parts, harmed, kept)


def fixed_once(case: Case) -> dict[str, list[np.ndarray]]:
    """Predictions without a network, made once for evaluations that share images and subsets of the labels."""
    config, problem = case.config, case.problem

    def make() -> dict[str, list[np.ndarray]]:
        return without_network(config.baselines, problem, case.labels, case.dataset.meta)

    if problem.shared is None:
        return make()
    key = [plain(config.task), plain(config.baselines), case.subsets, list(problem.images.values())]
    return problem.shared.once(("baselines", json.dumps(key)), make)


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


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the seconds that the block takes to those of a phase."""
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def subsets_told(case: Case, found: Findings) -> list[dict[str, Any]]:
    """Each subset of the labels by the ids of its examples, and what was chosen on it."""
    told = [dict(subset) for subset in case.subsets]
    for who, of in found.outcomes.items():
        for subset, outcome in zip(told, of, strict=True):
            subset["selected" if who == JUDGED else f"selected_{who}"] = outcome.selected
    return told


def results_of(case: Case, found: Findings, seconds: Mapping[str, float]) -> Results:
    """All that results.json says."""
    config, problem, metric, first = case.config, case.problem, case.problem.metric, found.rows[JUDGED][0]
    explained = {who: said for who, said in EXPLAINS.items() if who in case.protocols}
    return Results(
        task=case.task,
        dataset=case.sets.name,
        dataset_digest=case.sets.digest,
        encoder=described(config.encoder, problem.encoder, trained=case.checkpoint is not None),
        head=in_words(plain(config.task.head)) if "head" in config.task else "",
        selection=config.selection,
        fraction=case.share,
        shots=config.shots,
        labels=len(case.labels[0].train),
        test_images=len(first.ids),
        test_units=drawn_by(first.units).units,
        predictions=min(config.predictions, size(problem.splits["test"])),
        seeds=tuple(subset.seed for subset in case.labels),
        headline=metric.headline,
        lower_is_better=metric.lower_is_better,
        judged=found.scores[JUDGED],
        baselines={who: of for who, of in found.scores.items() if who != JUDGED},
        metric=plain(problem.task.metric(case.dataset.meta)),
        checkpoint=case.checkpoint,
        seconds={phase: round(spent, 3) for phase, spent in seconds.items()},
        config=plain(config),
        versions=versions(),
        words=words_of(problem.task, metric, case.protocols.values(), explained),
        licence=licence_of(case.dataset.meta),
        held_out=problem.held_out,
        left_out=problem.left_out,
        learnt={} if found.kept is None else found.kept.told,
        breakdown=found.breakdown,
        corruptions=found.corruptions,
        notes=(*case.notes, *(metric.notes(first) if isinstance(metric, Noting) else ())),
    )


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on; a checkout that is only on Python's path has none."""
    return {name: hardware.version_of(name) or "not installed" for name in PACKAGES}
