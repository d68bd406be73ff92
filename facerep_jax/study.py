"""Run a whole comparison, cell by cell: prepare, pre-train, evaluate, then one table.

facerep study farl --config configs/study/farl.py [--out studies] [--minutes 60] [--jobs 2]

Each cell is one command of `facerep`, printed before it is run; --jobs of them run at once, in processes that take
equal shares of a GPU's memory. Evaluations give what their commands would, up to the last bit of features in bfloat16,
but many share a process, where each is done sooner. Cells that are done are not run again, so a study that was stopped
goes on where it was. With --minutes a study stops by itself, with exit status 75, before it begins a cell after that
time.
Once all cells are done, study.json and study.md are written into OUT/NAME.

A recipe with `rates` is first trained from seed 0 with each of these learning rates. That counts which is best on the
validation examples of `search.evaluation` at `search.fraction` of the labels; the test set chooses nothing.

A recipe that is given what another one trained names it in `after`, and where its workdir belongs in its `config`, as
`m1={mae}`: that of seed 0, at the rate that was chosen. Such a recipe is tried once the other one is trained.

An evaluation judges all encoders, or those that it names in `encoders`; its own `rivals` and `subsets` stand in for
those of the study; one that `learns` nothing takes no fraction of the labels. `subsets` are flags of evaluations of a
part of the labels, `whole` of those of all of them. A recipe or an evaluation may have further `flags`. `curves` say
which scores belong to which amount of data: study.html then has charts with power laws, see `reporting.scaling`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from facerep_jax import lock
from facerep_jax.cells import Cell, Evaluators, define_flags_of_cells, end_of, folder_of, judging, run_all
from facerep_jax.command_line import require_kind
from facerep_jax.config import quoted
from facerep_jax.evaluation.results import Scale
from facerep_jax.files import json_of, local_path, read_object, write
from facerep_jax.reporting import scaling, scores, wording
from facerep_jax.reporting.lines import BASELINE, PRETRAINED, Line
from facerep_jax.reporting.lines import RANDOM as UNTRAINED
from facerep_jax.reporting.page import Row, Table, html, markdown_block
from facerep_jax.reporting.scores import Agreement, Score
from facerep_jax.reporting.workdirs import read_evaluation, read_selected

RATES = (2e-4, 6e-4, 2e-3)  # that studies try of each kind of encoder
RANDOM = "random"  # the encoder before any training; its first evaluations hold the baselines of all


def kind_of(recipe: str, *arguments: str, seeds: int, one_rate: bool) -> dict[str, Any]:
    """What a config says of encoders of one kind: their recipe, from how many seeds, and which rates are tried.

    Args:
        recipe: a config of pre-training, of which `arguments` are those.
        one_rate: whether the recipe's own learning rate is taken, and none chosen among `RATES`.
    """
    return dict(config=f"{recipe}:{','.join(arguments)}", seeds=seeds, rates=() if one_rate else RATES)


class Tried(NamedTuple):
    """The learning rates of one kind of encoder, and what each came to on validation examples."""

    encoder: str
    scores: Mapping[float, float]  # rate -> mean over label subsets
    chosen: float
    scale: Scale  # how the scores are written


class Budget(NamedTuple):
    """The cost of pre-training one kind of encoder from one seed."""

    encoder: str
    steps: int
    images: int  # that the steps see, each as often as it comes
    flops: int  # of all steps: both copies of an image, text tower, heads, and their gradients
    with_given: int  # the same with the training of the encoders that it was given


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare the flags of a study."""
    config_flags.DEFINE_config_file(
        "config", None, "study, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("out", "studies", "folder of studies", flag_values=flag_values)
    define_flags_of_cells(flag_values)
    flags.mark_flags_as_required(["config"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Run a study and return the exit status."""
    if len(words) != 1 or "/" in words[0]:
        raise ValueError("which study? facerep study NAME --config FILE")
    folder = local_path("--out", flag_values.out) / words[0]
    config = flag_values.config
    require_kind(config, "study", "prepare", "pretrain", "evaluate")
    if config.random < 1:
        raise ValueError("random is 1 or more, since the first untrained encoder's evaluations hold the baselines")
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder):
        return run_here(words[0], folder, config, flag_values.jobs, end_of(flag_values.minutes))


def run_here(name: str, folder: Path, config: ConfigDict, jobs: int, until: float) -> int:
    """Run what is left of a study, write its report and return the exit status.

    Args:
        jobs: cells at a time.
        until: time of the monotonic clock after which no cell is begun.
    """

    def run_cells(todo: list[Cell]) -> int:
        with Evaluators(folder) as call:
            return run_all(todo, jobs, call, until)

    tried, rates = list[Tried](), dict[str, float]()
    for recipes in rounds(config):
        if status := run_cells(list(trials(config, folder, recipes, rates))):
            return status
        tried += rates_tried(config, folder, recipes)
        rates |= {each.encoder: each.chosen for each in tried}
        if status := run_cells(list(givers(config, folder, recipes, rates))):
            return status
    if status := run_cells(list(cells(config, folder, rates))):
        return status
    budgets = list(budgets_of(config, folder, rates))
    scored = [score for evaluation in config.evaluate for score in scores_of(config, folder, evaluation)]
    ranked = scores.agreements(scored, {*config.pretrain, RANDOM})
    found: dict[str, list[Any]] = {"rates": tried, "budgets": budgets, "scores": scored, "agreements": ranked}
    written = {what: [each._asdict() for each in of] for what, of in found.items()}
    text, curves = markdown(tried, budgets, scored, ranked), scaling.curves_of(config, scored)
    if curves:
        written["curves"] = scaling.to_json(curves)
        text += "\n" + markdown_block(scaling.law_table(curves)) + "\n"
        write(folder / "study.html", html(scaling.page(name, config, scored, curves)))
    write(folder / "study.json", json_of(written))
    write(folder / "study.md", text)
    print(text)
    return 0


def rounds(config: ConfigDict) -> Iterator[tuple[str, ...]]:
    """The names of all recipes, each in a round behind those that it is given an encoder of.

    Raises:
        ValueError: one is given what no recipe trains, or what is trained with what it trains itself.
    """
    done: set[str] = set()
    while left := [name for name in config.pretrain if name not in done]:
        now = tuple(name for name in left if set(config.pretrain[name].get("after", ())) <= done)
        if not now:
            after = ", ".join(sorted({each for name in left for each in config.pretrain[name].get("after", ())}))
            raise ValueError(f"{', '.join(left)} come after {after}, which no recipe trains before")
        yield now
        done |= {*now}


def trials(config: ConfigDict, folder: Path, names: Sequence[str], rates: Mapping[str, float]) -> Iterator[Cell]:
    """The commands that try learning rates of some recipes, in order; none if there is nothing to choose.

    `rates` are those that were chosen of the recipes that these come after.
    """
    searched = {name: config.pretrain[name] for name in names if config.pretrain[name].get("rates")}
    if searched:
        yield from preparations(config, folder)
    for name, recipe in searched.items():
        for rate in recipe.rates:
            yield pretraining(recipe, folder, workdir_of(folder, name, 0, rate), 0, rate, rates)
    evaluation = config.evaluate[config.search.evaluation] if searched else ConfigDict()
    for name, recipe in searched.items():
        for rate in recipe.rates:
            command = judging(evaluation, config.search.fraction, folder / "data")
            checkpoint, workdir = workdir_of(folder, name, 0, rate), search_folder(folder, name, rate)
            where = (f"--checkpoint={checkpoint}", f"--workdir={workdir}")
            yield Cell(workdir, ("evaluate", command, *evaluation.get("flags", ()), *where), (checkpoint,))


def rates_tried(config: ConfigDict, folder: Path, names: Sequence[str]) -> Iterator[Tried]:
    """What each learning rate came to, and which is the best, for each of some recipes that has several."""
    for name in names:
        if rates := config.pretrain[name].get("rates"):
            found = {rate: search_folder(folder, name, rate) for rate in rates}
            results = read_evaluation(found[rates[0]]).results
            better = min if results.lower_is_better else max
            try:
                selected = {rate: [of["validation"] for _, of in read_selected(each)] for rate, each in found.items()}
            except KeyError:
                evaluation = config.search.evaluation
                raise ValueError(f"no rate can be chosen by {evaluation}, which validates nothing") from None
            scores = {rate: float(np.mean(values)) for rate, values in selected.items()}
            chosen, scale = better(scores, key=lambda rate: scores[rate]), results.words.scale(results.headline)
            yield Tried(name, scores, chosen, scale)


def search_folder(folder: Path, name: str, rate: float) -> Path:
    """Where the encoder of a learning rate is evaluated to choose among rates."""
    return folder / "search" / name / f"{rate:g}"


def workdir_of(folder: Path, name: str, seed: int, rate: float | None) -> Path:
    """Where a kind of encoder is pre-trained from a seed, at a learning rate if several were tried."""
    return folder / "pretrain" / (f"{name}_{seed}" if rate is None else f"{name}_{rate:g}_{seed}")


def preparations(config: ConfigDict, folder: Path) -> Iterator[Cell]:
    """The commands that prepare data sets."""
    data = folder / "data"
    for name, dataset in config.prepare.items():
        source = (f"--manual_dir={config.manual_dirs[name]}",) if name in config.manual_dirs else ()
        yield Cell(folder / "prepare" / name, ("prepare", dataset, f"--name={name}", f"--data_dir={data}", *source))


def givers(config: ConfigDict, folder: Path, names: Sequence[str], rates: Mapping[str, float]) -> Iterator[Cell]:
    """The commands of the pre-trainings of some recipes whose encoders others are given; seed 0 is theirs."""
    wanted = {each for recipe in config.pretrain.values() for each in recipe.get("after", ())}
    if wanted := wanted & {*names}:
        yield from preparations(config, folder)
    for name in sorted(wanted):
        rate = rates.get(name)
        yield pretraining(config.pretrain[name], folder, workdir_of(folder, name, 0, rate), 0, rate, rates)


def pretraining(
    recipe: ConfigDict, folder: Path, workdir: Path, seed: int, rate: float | None, rates: Mapping[str, float]
) -> Cell:
    """The command of a pre-training; without a rate at that of the recipe. `rates` are those of the others."""
    given = {name: workdir_of(folder, name, 0, rates.get(name)) for name in recipe.get("after", ())}
    described = recipe.config
    for name, its_workdir in given.items():
        described = described.replace(f"{{{name}}}", quoted(its_workdir))
    which = (f"--config={described},data_dir={quoted(folder / 'data')}", f"--config.seed={seed}")
    at = () if rate is None else (f"--config.optimizer.learning_rate={rate:g}",)
    arguments = ("pretrain", *which, *recipe.get("flags", ()), *at, f"--workdir={workdir}")
    return Cell(workdir, arguments, tuple(given.values()))


def cells(config: ConfigDict, folder: Path, rates: Mapping[str, float]) -> Iterator[Cell]:
    """The commands of a study, in order; `rates` are the learning rates that were chosen, by the recipe's name."""
    yield from preparations(config, folder)
    for name, recipe in config.pretrain.items():
        for seed in range(recipe.seeds):
            workdir = workdir_of(folder, name, seed, rates.get(name))
            yield pretraining(recipe, folder, workdir, seed, rates.get(name), rates)
    for name, evaluation in config.evaluate.items():
        for fraction, (encoder, seed) in itertools.product(evaluation.fractions, encoders(config, evaluation)):
            workdir = folder_of(folder, name, fraction, f"{encoder}_{seed}")
            recipe = judging(evaluation, fraction, folder / "data")
            subsets = config.whole if fraction == 1 else evaluation.get("subsets", config.get("subsets", ()))
            more = (*subsets, *evaluation.get("flags", ()))
            trained = None if encoder == RANDOM else workdir_of(folder, encoder, seed, rates.get(encoder))
            if trained is None:
                untrained = config.get("untrained", {})  # says of the encoder what a checkpoint says itself
                recipe = ",".join((recipe, *untrained.get("arguments", ())))
                more = (*more, *untrained.get("flags", ()), f"--config.encoder_seed={seed}")
                if seed == 0:
                    recipe = ",".join((recipe, *evaluation.get("rivals", config.rivals)))
                if seed == 0 and fraction in evaluation.get("scratch", ()):
                    recipe, more = f"{recipe},scratch", (*more, *config.scratch)
            where = (f"--checkpoint={trained or RANDOM}", f"--workdir={workdir}")
            yield Cell(workdir, ("evaluate", recipe, *more, *where), (trained,) if trained else ())


def encoders(config: ConfigDict, evaluation: ConfigDict) -> Iterator[tuple[str, int]]:
    """Kind and seed of each encoder that an evaluation judges: of those that it names, or of all."""
    yield from ((RANDOM, seed) for seed in range(config.random))
    judged = evaluation.get("encoders", tuple(config.pretrain))
    for name, recipe in config.pretrain.items():
        yield from ((name, seed) for seed in range(recipe.seeds) if name in judged)


def budgets_of(config: ConfigDict, folder: Path, rates: Mapping[str, float]) -> Iterator[Budget]:
    """The cost of each kind of pre-training, each behind those that it is given an encoder of."""
    whole: dict[str, int] = {}
    for name in itertools.chain(*rounds(config)):
        workdir = workdir_of(folder, name, 0, rates.get(name))
        recipe, model = (read_object(workdir / file) for file in ("config.json", "model.json"))
        images = recipe["steps"] * recipe["data"]["batch_size"]
        flops = images * model["flops_per_image"]
        whole[name] = flops + sum(whole[other] for other in config.pretrain[name].get("after", ()))
        yield Budget(name, recipe["steps"], images, flops, whole[name])


def scores_of(config: ConfigDict, folder: Path, evaluation: str) -> Iterator[Score]:
    """The scores of one evaluation: of each kind of encoder and each baseline at each fraction of the labels."""
    for fraction in config.evaluate[evaluation].fractions:
        lines = lines_of(config, config.evaluate[evaluation], folder / "evaluate" / evaluation / f"{fraction:g}")
        yield from scores.scored(evaluation, fraction, lines, config.against)


def lines_of(config: ConfigDict, evaluation: ConfigDict, folder: Path) -> dict[str, Line]:
    """Each kind of encoder, with one evaluation for each seed of its pre-training, then each baseline."""
    workdirs: dict[str, list[Path]] = {}
    for kind, seed in encoders(config, evaluation):
        workdirs.setdefault(kind, []).append(folder / f"{kind}_{seed}")
    lines = {
        kind: Line(kind, UNTRAINED if kind == RANDOM else PRETRAINED, [read_evaluation(each) for each in found])
        for kind, found in workdirs.items()
    }
    first = lines[RANDOM].evaluations[:1]
    return lines | {name: Line(name, BASELINE, first, name) for name in first[0].results.baselines}


def markdown(
    tried: Sequence[Tried], budgets: Sequence[Budget], found: Sequence[Score], ranked: Sequence[Agreement]
) -> str:
    """Tables: learning rates tried, costs of pre-training, each evaluation, and how alike these rank the encoders."""
    took = tuple(
        Row((b.encoder, f"{b.steps:,}", f"{b.images:,}", f"{b.flops / 1e12:.2f}", f"{b.with_given / 1e12:.2f}"))
        for b in budgets
    )
    columns = ("Encoder", "Steps", "Images seen", "TFLOP", "With what it was given")
    tables = [Table("Pre-training", "", columns, took)]
    if tried:
        rows = tuple(
            Row(
                (each.encoder, f"{rate:g}", wording.written(score, each.scale), "chosen" if rate == each.chosen else "")
            )
            for each in tried
            for rate, score in each.scores.items()
        )
        tables.insert(
            0, Table("Learning rates", "", ("Encoder", "Rate", f"On validation{tried[0].scale.bracketed}", ""), rows)
        )
    tables += scores.tables(found)
    if ranked:
        tables.append(scores.agreement_table(ranked))
    return "\n\n".join(map(markdown_block, tables)) + "\n"
