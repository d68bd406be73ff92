"""Go the whole way on generated faces, on two cores in five to fifteen minutes: prepare, pre-train, evaluate, report.

facerep demo [--out demo] [--minutes 10]

The demo prints each command before it runs it, so that any can be repeated alone. The minutes are those of a quiet
machine: they set the number of steps of the pre-training, so that the demo finds the same on every machine. A demo that
was stopped goes on where it was.

Each face comes with its complete and true caption. With captions as people write them on the web, which the drawn faces
have in imitation too, the contrastive loss stays near chance in so few steps (RESULTS.md).
"""

import itertools
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import jax
from absl import flags

from facerep_jax import clock, evaluate, prepare, pretrain, report
from facerep_jax.command_line import resolve
from facerep_jax.config import quoted
from facerep_jax.files import local_path
from facerep_jax.reporting import wording
from facerep_jax.reporting.comparison import full_comparison
from facerep_jax.reporting.lines import BASELINE, PRETRAINED, RANDOM, Line
from facerep_jax.reporting.workdirs import read_evaluation

UNLABELLED = "generated_faces:size=80,train=16000,validation=0,test=0"
LABELLED = "generated_faces:size=80,train=2000,validation=500,test=1000,seed=1"
STEPS = 90  # of the pre-training for each minute of the demo; they take two thirds of it
SCORES = 10  # of the encoder while it is trained
TASKS = {"landmarks": "protocol=ridge", "parsing": "protocol=linear_probe"}  # with the arguments of each
LABELS = "dataset=generated_faces/labelled,fraction=0.1,small"
PRETRAINING: tuple[str, ...] = ()  # further flags, as tests give them
EVALUATION: tuple[str, ...] = ("--config.seeds=(0,1,2)",)


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare the flags of the demo."""
    flags.DEFINE_string("out", "demo", "folder of everything that the demo writes", flag_values=flag_values)
    flags.DEFINE_float("minutes", 10.0, "how long it takes on two quiet cores", 0.1, flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> None:
    """The entry point."""
    if words:
        raise ValueError(f"demo takes no {words[0]!r}; see facerep demo --help")
    start, out = time.monotonic(), local_path("--out", flag_values.out)
    if not jax.config.values.get("jax_compilation_cache_dir"):  # two of the evaluations are the same program
        jax.config.update("jax_compilation_cache_dir", str(out.absolute() / "cache"))
    data, workdir = out / "data", out / "pretrain"
    say("1 of 4: draw faces with captions, landmarks and masks")
    call(prepare, UNLABELLED, "--name=demo", f"--data_dir={data}")
    call(prepare, LABELLED, "--name=labelled", f"--data_dir={data}")

    say("2 of 4: pre-train by contrast with a true caption for each face, and by masked tokens")
    recipe = f"--config=configs/pretrain/farl_nano.py:data_dir={quoted(data)},captions=oracle_caption"
    steps = max(1, round(STEPS * flag_values.minutes))
    scored = ("images=300", f"every={max(1, steps // SCORES)}", "dataset=generated_faces/labelled", f"data_dir={data}")
    scoring = (f"--config.evaluate.{setting}" for setting in scored)
    call(pretrain, f"{recipe},steps={steps}", f"--workdir={workdir}", *scoring, *PRETRAINING)

    say("3 of 4: score it, and the same encoder before any training, at 10 % of the labels")

    def score(name: str, task: str) -> None:
        results = out / "results" / f"{task}_{name}"
        if not (results / "results.json").exists():
            # A checkpoint brings its encoder along, and stands beside the simplest rival.
            more = ",variant=Nano/8,stem=384,size=48" if name == "random" else ",patch_kmeans"
            call(
                evaluate,
                f"--config=configs/evaluate/{task}.py:{LABELS},{TASKS[task]},data_dir={quoted(data)}{more}",
                f"--checkpoint={'random' if name == 'random' else workdir}",
                f"--workdir={results}",
                *EVALUATION,
            )

    with ThreadPoolExecutor(2) as pool:  # a small head keeps one core busy
        list(pool.map(score, *zip(*itertools.product(("random", "pretrained"), TASKS), strict=True)))

    say("4 of 4: the report")
    call(report, str(out), f"--out={out}")
    for task in TASKS:
        print(verdict(task, out / "results"))
    print(f"\nOpen {out / 'report.html'}. Took {(time.monotonic() - start) / 60:.1f} minutes.")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


def call(command: ModuleType, *arguments: str) -> None:
    """Run an entry point as its command line would."""
    name = command.__name__.rpartition(".")[2]
    print(f"$ facerep {name} {shlex.join(arguments)}", flush=True)
    clock.start()
    own = flags.FlagValues()
    argv = [f"facerep {name}", *map(resolve, arguments)]
    command.define_flags(own, argv)
    if status := command.run(own, own(argv)[1:]):
        raise SystemExit(status)


def verdict(task: str, results: Path) -> str:
    """What pre-training did for a task: the pre-trained encoder against the random one and each baseline."""
    pretrained, untrained = (read_evaluation(results / f"{task}_{name}") for name in ("pretrained", "random"))
    ours, r = Line("pre-trained", PRETRAINED, [pretrained]), pretrained.results
    rivals = [Line("random encoder", RANDOM, [untrained])]
    rivals += [Line(name, BASELINE, [pretrained], name) for name in r.baselines]
    scale = ours.scale
    what = f"{r.headline}{scale.said}, {r.labels} labels"
    lines = [f"\n{task}: {what}, pre-trained against; gain, 95% interval of the difference"]
    for rival in rivals:
        found = full_comparison(ours, rival)
        scores = f"{wording.written(ours.mean, scale):>6s} : {wording.written(rival.mean, scale):>6s}"
        lines.append(f"  {rival.name:20s} {scores}   {wording.advantage(found.gain, *found.difference[1:], scale)}")
    return "\n".join(lines)
