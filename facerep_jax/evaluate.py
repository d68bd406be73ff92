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

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from PIL import Image

from facerep_jax import lock, pictures, suite
from facerep_jax.cells import define_flags_of_cells, end_of
from facerep_jax.command_line import cause_of, command_line, require_kind, resolve
from facerep_jax.data.meta import may_show_images
from facerep_jax.evaluation import learnt, sheets
from facerep_jax.evaluation.breakdown import FEW
from facerep_jax.evaluation.judgement import (
    Case,
    Findings,
    checkpoint_of,
    completed,
    judge,
    load_once,
    make_case,
    protocols_of,
    results_of,
    subsets_told,
    task_of,
    timed,
)
from facerep_jax.evaluation.problem import size
from facerep_jax.evaluation.results import (
    JUDGED,
    Checkpoint,
    Results,
    name_of,
)
from facerep_jax.evaluation.sets import open_sets
from facerep_jax.evaluation.shared import Shared
from facerep_jax.evaluation.tables import evenly, write_predictions, write_statistics
from facerep_jax.files import local_path, writable_folder, write
from facerep_jax.reporting import wording
from facerep_jax.train import hardware
from facerep_jax.train.resume import has_begun

Content = str | Callable[[Path], Any]  # of a file: text, or what writes to the path that it is given


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


def evaluate(config: ConfigDict, checkpoint: str, workdir: Path, command: str, shared: Shared | None = None) -> Results:
    """Learn the task on every subset of the labels, score it on the test split, and write all of it to the workdir.

    Args:
        command: is kept on file.
        shared: with other evaluations in this process, so that nothing is read, encoded or fitted twice.
    """
    config, seconds = completed(config), dict[str, float]()
    protocols, folder = protocols_of(config), folder_for(workdir)
    with timed(seconds, "load"):
        sets = open_sets(config.data)
        loaded = load_once(config, checkpoint, shared)
        require_same_subject(workdir, task_of(config), sets.name, checkpoint_of(loaded))
        case = make_case(config, protocols, sets, loaded, checkpoint, folder, shared)
    if config.selection == "test_best":
        print("warning: test_best selects on the test set itself: no fair number comes of it", file=sys.stderr)
    if held_out := case.problem.held_out:
        print(f"{sets.train.name} has no validation split: {held_out} training examples are held out for it")
    found = judge(case, seconds)
    results = results_of(case, found, seconds)
    text = json.dumps(results.to_json(), indent=2, allow_nan=False)
    save(workdir, files_of(case, found, command), sheets_of(case, found), text)
    if found.kept is not None:
        megabytes = f"{found.kept.megabytes:.3g} MB"
        print(f"{workdir / learnt.FILE}: {megabytes}, for facerep predict; --config.keep=nothing keeps none")
    return results


def files_of(case: Case, found: Findings, command: str) -> dict[str, Content]:
    """The files of a workdir but for results.json."""
    test = case.problem.splits["test"]
    examples = evenly(size(test), case.config.predictions).tolist()
    files: dict[str, Content] = {
        "command.txt": command,
        "subsets.json": json.dumps(subsets_told(case, found), indent=1, allow_nan=False),
        "examples.parquet": partial(write_statistics, statistics=found.rows),
        "predictions.parquet": partial(write_predictions, predictions=found.predictions, ids=test["id"], kept=examples),
    }
    return files if found.kept is None else files | {learnt.FILE: partial(learnt.save, found.kept)}


def sheets_of(case: Case, found: Findings) -> dict[str, Image.Image]:
    """The sheets of test faces; none where the data set's images may not be shown."""
    if not may_show_images(case.dataset.meta):
        print(f"no sheets of test faces are written: images of {case.dataset.name} may not be shown")
        return {}
    predicted, rows = found.predictions[JUDGED][0], found.rows[JUDGED][0]
    return sheets.sheets(case.problem.task, case.problem, predicted, rows)


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
    notes = [f"  note: {note}" for note in results.notes]
    return "\n".join([head, *lines, *notes, *found_worst(results)])


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
