"""Suites: what they run, that nothing is encoded twice, that they go on where they were, and what they write.

Planted and seen red: features known by the row alone and not by the split; a suite that takes a cell for done whose
weights have changed.
"""

import collections
import itertools
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ml_collections import ConfigDict

from facerep_jax import cells, cli, suite
from facerep_jax.evaluation.shared import Shared
from facerep_jax.suite import Entry, entered, reference, resized, split
from tests import processes
from tests.processes import ROOT
from tests.weights import tiny_timm

DATA = "generated_faces:size=48,train=24,validation=10,test=16"
IMAGES = 24 + 10 + 16
CONFIG = f"""
from ml_collections import ConfigDict

LEARNT = "dataset='{DATA}',protocol=ridge"
FLAGS = ("--config.devices=1", "--config.protocol.penalties=(1e-4,1e-2)")  # eight devices are slow on two cores

def get_config(arg=None):
    return ConfigDict(dict(
        evaluate=dict(
            action_units=dict(
                config="configs/evaluate/action_units.py:" + LEARNT, fractions=(0.5, 1.0),
                flags=(*FLAGS, "--config.baselines=('mean',)"),
            ),
            landmarks=dict(
                config="configs/evaluate/landmarks.py:" + LEARNT, fractions=(0.5, 1.0),
                flags=(*FLAGS, "--config.baselines=('mean_shape',)"),
            ),
        ),
        seeds=(0, 1), data_dir="nowhere", untrained=("variant=Nano/8", "size=48"),
        tokens="", against="", weights="params",
    ))
"""
TASKS, FRACTIONS, NAMES = ("action_units", "landmarks"), (0.5, 1.0), ("fine", "coarse")


class Finished:
    """A suite of two encoders."""

    def __init__(self, folder):
        self.folder, self.workdir = folder, folder / "suite"
        (folder / "tiny.py").write_text(CONFIG)
        self.fine = tiny_timm.write(folder / "fine.safetensors", patch=8, side=4)
        coarse = tiny_timm.write(folder / "patches16.safetensors", patch=16, side=3, seed=1)
        self.checkpoints = (f"--checkpoint={self.fine}", f"--checkpoint=coarse={coarse}")
        self.shared: list[Shared] = []

    def run(self, *flags, checkpoints=None):
        where = (f"--config={self.folder / 'tiny.py'}", f"--workdir={self.workdir}")
        return cli.main(["facerep", "evaluate", *where, *(checkpoints or self.checkpoints), *flags])

    def cell(self, task, fraction, name):
        return cells.folder_of(self.workdir, task, fraction, name)

    def results(self, *which):
        return json.loads((self.cell(*which) / "results.json").read_text())

    def written(self):
        return {path: path.stat().st_mtime_ns for path in self.workdir.rglob("results.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    found = Finished(tmp_path_factory.mktemp("suite"))

    def counted():
        found.shared.append(Shared())
        return found.shared[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "Shared", counted)
        assert found.run() == 0
    return found


def test_every_cell_is_run_and_no_image_is_encoded_twice(finished):
    assert {path.parent for path in finished.workdir.rglob("cell.json")} == {
        finished.cell(task, fraction, name) for task in TASKS for fraction in FRACTIONS for name in NAMES
    }
    (shared,) = finished.shared
    assert shared.encoded == len(NAMES) * IMAGES


def test_a_cell_is_what_its_command_gives_alone(finished, tmp_path):
    """Features may differ in the last of their eight bits, since images are encoded in parts of another size."""
    which = ("landmarks", 1.0, "coarse")
    *arguments, _ = json.loads((finished.cell(*which) / "cell.json").read_text())["arguments"]
    assert cli.main(["facerep", *arguments, f"--workdir={tmp_path}"]) == 0
    alone, ours = json.loads((tmp_path / "results.json").read_text()), finished.results(*which)
    assert alone["labels"] == ours["labels"] == 24
    for name, metric in alone["metrics"].items():
        np.testing.assert_allclose(
            *(np.array(of["values"], float) for of in (ours["metrics"][name], metric)), rtol=2e-3, atol=2e-4
        )
    for name, baseline in alone["baselines"].items():
        assert ours["baselines"][name] == baseline


def test_what_is_written_holds_what_the_cells_found(finished):
    found = json.loads((finished.workdir / "suite.json").read_text())
    assert (found["against"], found["tokens"]) == ("fine", "")
    shown = [(each["name"], each["image_size"], each["tokens"]) for each in found["encoders"]]
    assert shown == [("fine", 32, 16), ("coarse", 48, 9)]
    for encoder in found["encoders"]:
        # Of one block: products of 6 + 2 * 2 widths squared for each token, and of tokens with tokens.
        width, n = tiny_timm.WIDTH, encoder["tokens"] + 1
        blocks = 2 * (2 * n * 8 * width**2 + 4 * n**2 * width)
        embedding = 2 * encoder["tokens"] * 3 * (encoder["image_size"] ** 2 // encoder["tokens"]) * width
        assert encoder["flops_per_image"] == blocks + embedding
        assert encoder["seconds"] > 0
    for score in found["scores"]:
        results = finished.results(score["evaluation"], score["fraction"], score["encoder"])
        headline = results["metrics"][results["headline"]]
        assert (score["values"], score["std_subsets"]) == ([headline["mean"]], headline["std"])
    (_, difference, low, high) = next(s for s in found["scores"] if s["encoder"] == "coarse")["against"]["fine"]
    assert low < difference < high
    assert [ranks["fraction"] for ranks in found["ranks"]] == [1.0, 0.5]
    better = {}
    for task, sign in zip(TASKS, (1, -1), strict=True):
        values = {
            s["encoder"]: sign * s["values"][0]
            for s in found["scores"]
            if (s["evaluation"], s["fraction"]) == (task, 1.0)
        }
        better[task] = max(values, key=values.get)
    wins = {name: sum(2 - (better[task] == name) for task in TASKS) / 2 for name in NAMES}
    assert found["ranks"][0]["mean"] == wins


def test_the_report_shows_encoders_by_tasks(finished):
    text = (finished.workdir / "suite.md").read_text()
    mean = finished.results("landmarks", 1.0, "coarse")["metrics"]["nme_box"]["mean"]
    (row,) = [line for line in text.splitlines() if line.startswith("| coarse |")][:1]
    assert f" {100 * mean:.2f} |" in row
    assert "| Landmarks (%) ↓ |" in text
    assert "Landmarks: NME box." in text
    assert "| best without an encoder |" in text
    assert "Against fine, 100% of the labels" in text
    whole = (finished.workdir / "report.html").read_text()
    assert whole.count("<svg") > 4
    for said in (
        "critical difference",
        "Each task, 100% of the labels",
        "The ten worst test images",
        "The ten best test images",
    ):
        assert said in whole
    assert "patches16" not in text.split("· ")[0]  # its name is coarse


def test_a_suite_that_was_killed_goes_on(finished, capsys):
    """One cell had not begun; of another the result was written, but not that it is done."""
    gone, half = finished.cell("landmarks", 1.0, "coarse"), finished.cell("action_units", 0.5, "coarse")
    before, kept = finished.written(), finished.results("landmarks", 1.0, "coarse")["metrics"]
    shutil.rmtree(gone)
    (half / "cell.json").unlink()
    assert finished.run() == 0
    announced = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert [line.split("] ")[0] for line in announced] == ["[6/8", "[7/8"]
    after = finished.written()
    assert {path.parent for path, when in after.items() if before[path] != when} == {gone, half}
    again = finished.results("landmarks", 1.0, "coarse")["metrics"]
    assert again["nme_box"]["values"] == pytest.approx(kept["nme_box"]["values"], rel=2e-3)


def told(folder):
    """The result of a cell, but for the time that it took."""
    return {
        name: value for name, value in json.loads((folder / "results.json").read_text()).items() if name != "seconds"
    }


def test_cells_run_side_by_side_and_stop_after_the_time(finished, monkeypatch, capsys):
    """In processes they come to what they came to here, and the last gives the report."""
    gone = [finished.cell("landmarks", 1.0, name) for name in NAMES]
    kept = {folder: told(folder) for folder in gone}
    for folder in gone:
        (folder / "cell.json").unlink()
    (finished.workdir / "suite.md").unlink()
    clock = itertools.count(0.0, 61.0)
    with monkeypatch.context() as patch:
        patch.setattr(cells.time, "monotonic", lambda: next(clock))
        assert finished.run("--minutes=1") == 75
    assert "6 of 8 cells are done; start me again to go on" in capsys.readouterr().out
    assert not (finished.workdir / "suite.md").exists()
    running, most, call = [], [], cells.Evaluators.__call__

    def watched(self, cell, jobs):
        assert jobs == 2
        running.append(cell)
        most.append(len(running))
        status = call(self, cell, jobs)
        running.remove(cell)
        return status

    monkeypatch.setattr(cells.Evaluators, "__call__", watched)
    assert finished.run("--jobs=2") == 0
    assert max(most) == 2
    for folder, results in kept.items():
        assert (folder / "cell.json").exists()
        assert told(folder) == results
        assert "mean_shape  " in (folder / "log.txt").read_text()
    assert (finished.workdir / "suite.md").exists()


def test_a_process_of_evaluations_tells_what_was_wrong_and_that_it_ended(tmp_path):
    wrong = cells.Cell(
        tmp_path / "wrong", ("evaluate", "--config=configs/none.py", "--checkpoint=random", "--workdir=x")
    )
    with cells.Evaluators(tmp_path) as evaluators:
        assert evaluators(wrong, 1) == evaluators(wrong, 1) == 2
        log = (wrong.folder / "log.txt").read_text()
        assert log.count("facerep evaluate: ") == log.count("no config 'configs/none.py'") == 2
        (process,) = evaluators._processes.values()
        process.kill()
        assert evaluators(wrong, 1) == -signal.SIGKILL
    assert not cells.is_done(wrong)


def test_a_process_of_evaluations_ends_with_whoever_began_it(finished, tmp_path):
    """A study that goes on finds nobody at work on its cells. Tried: an end once the evaluation has ended."""
    cell = json.loads((finished.cell("landmarks", 1.0, "fine") / "cell.json").read_text())["arguments"]
    arguments = [*cell[1:-1], f"--workdir={tmp_path / 'cell'}"]
    wanted = json.dumps({"arguments": arguments, "checkpoint": "fine", "log": str(tmp_path / "log.txt")})
    command = [sys.executable, "-m", "facerep_jax.evaluating"]
    done = subprocess.run(command, input=f"{wanted}\n", text=True, capture_output=True, cwd=ROOT, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert not (tmp_path / "cell").exists()


def test_cells_share_what_they_compile(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cells, "execute", lambda arguments, log, variables: seen.append(variables) or 0)
    for folder in ("", "elsewhere"):
        monkeypatch.setenv(cells.CACHE, folder) if folder else monkeypatch.delenv(cells.CACHE, raising=False)
        with cells.Evaluators(tmp_path) as run:
            assert run(cells.Cell(tmp_path / "cell", ("pretrain", folder)), 1) == 0
    assert seen == [{cells.CACHE: str(tmp_path / "cache"), cells.LEAST: "0"}, {}]


def test_each_job_keeps_to_an_encoder_as_long_as_it_can(tmp_path):
    """Two jobs have one of three encoders each, and then the third. Tried: the order of the cells alone."""
    todo = [
        cells.Cell(tmp_path / f"{task}{name}", ("evaluate", str(task), f"--checkpoint={name}"))
        for task in range(6)
        for name in "abc"
    ]
    taken = collections.defaultdict(list)

    def call(cell, jobs):
        time.sleep(0.01)
        taken[threading.get_ident()].append(cells.judged(cell))
        return 0

    assert cells.run_all(todo, 2, call=call) == 0
    runs = sum(len(list(itertools.groupby(names))) for names in taken.values())
    assert runs <= 4  # one each, and the third by both; in the order of the cells there are 18
    assert sum(map(len, taken.values())) == len(todo)


def test_what_has_changed_is_refused(finished, capsys):
    before = finished.written()
    assert finished.run("--config.seeds=(0,2)") == 2
    assert "was made by another command" in capsys.readouterr().err
    old = finished.fine.read_bytes()
    tiny_timm.write(finished.fine, patch=8, side=4, seed=9)
    try:
        assert finished.run() == 2
        assert f"is of other weights than {finished.fine} has now" in capsys.readouterr().err
    finally:
        finished.fine.write_bytes(old)
    assert finished.written() == before


def test_names_tell_checkpoints_apart(finished, tmp_path, capsys):
    other = shutil.copy(finished.fine, tmp_path / "fine.safetensors")
    assert finished.run(checkpoints=(f"--checkpoint={finished.fine}", f"--checkpoint={other}")) == 2
    assert f"two checkpoints have the name 'fine'; give one of them another: NAME={other}" in capsys.readouterr().err
    assert finished.run(checkpoints=(f"--checkpoint={finished.fine}", f"--checkpoint=again={finished.fine}")) == 2
    assert f"fine and again are the same checkpoint, {finished.fine}" in capsys.readouterr().err
    assert split(str(other)) == ("fine", str(other))
    assert split("runs/farl@200") == ("farl@200", "runs/farl@200")
    assert split("farl=runs/farl") == ("farl", "runs/farl")
    assert split("runs/a=b") == ("a=b", "runs/a=b")
    for wrong in ("=runs/farl", "farl=", "..=x"):
        with pytest.raises(ValueError, match="with a name of letters and digits, not"):
            split(wrong)


def test_others_are_held_against_the_untrained_encoder_or_the_first():
    assert reference("", ["a", "random"]) == "random"
    assert reference("", ["b", "a"]) == "b"
    assert reference("a", ["b", "a"]) == "a"
    with pytest.raises(ValueError, match="against is the name of an encoder, did you mean 'farl'"):
        reference("frl", ["farl", "clip"])


def test_sizes_give_all_encoders_as_many_tokens(finished):
    vit = dict(call="facerep_jax.models.vit:ViT")
    specs = {patch: vit | dict(variant=f"S/{patch}", image_size=4 * patch) for patch in (8, 14, 16)}
    entries = [
        Entry("a", "a", specs[8], 48, False, ""),
        Entry("b", "b", specs[14], 56, False, ""),
        Entry("c", "c", specs[16], 64, False, ""),
    ]
    assert resized("", entries) == entries
    assert [(e.size, e.resized) for e in resized("same", entries)] == [(32, True), (56, False), (64, False)]
    assert [e.size for e in resized("10", entries)] == [80, 140, 160]
    with pytest.raises(ValueError, match="tokens is 'same', or how many patches an image has on a side, not 'few'"):
        resized("few", entries)
    with pytest.raises(ValueError, match="a does not say the size of its images; say tokens=N"):
        resized("same", [entries[0]._replace(size=0), *entries[1:]])
    config = ConfigDict(
        dict(evaluate=dict(x=dict(config="c.py:d", fractions=(0.1,))), seeds=(0,), data_dir="data", weights="ema")
    )
    (first, *_) = resized("same", entries)
    assert suite.arguments_of(config, "x", 0.1, first) == [
        "--config=c.py:d,fraction=0.1,data_dir=data,size=32",
        "--config.seeds=(0,)",
        "--config.weights=ema",
    ]


def test_bad_input_is_one_line(finished, tmp_path, capsys):
    finished_workdir, finished.workdir = finished.workdir, tmp_path / "other"
    try:
        assert finished.run("--config.evaluate.landmarks.config=configs/evaluate/landmarks.py:head=no_such") == 2
        assert "head is linear or farl or fan, not 'no_such'" in capsys.readouterr().err
        assert finished.run("--config.evaluate.action_units.fractions=(0.05,)") == 2
        error = capsys.readouterr().err
        assert "a fraction of 0.05 of 24 training examples is less than 2 labels" in error
        assert "the smallest fraction is 0.0834" in error
    finally:
        finished.workdir = finished_workdir
    one = "configs/evaluate/landmarks.py:variant=Nano/8,size=48"
    command = ["facerep", "evaluate", f"--config={one}", "--checkpoint=a", "--checkpoint=b", f"--workdir={tmp_path}"]
    assert cli.main(command) == 2
    assert "--checkpoint is given more than once; a config of a suite takes several" in capsys.readouterr().err
    assert cli.main([*command[:-2], command[-1], "--jobs=2"]) == 2
    assert "--jobs and --minutes are of suites, which have cells; this config is of one eval" in capsys.readouterr().err


def test_tasks_without_labels_are_left_out_by_name():
    every = dict(landmarks=dict(config="a.py"), recognition=dict(config="b.py"), parsing=dict(config="c.py"))
    others = dict(seeds=1, data_dir="data", tokens="", untrained=())
    assert [*suite.suite_of(every, tasks="parsing+landmarks", **others).evaluate] == ["landmarks", "parsing"]
    assert [*suite.suite_of(every, tasks="", **others).evaluate] == ["landmarks", "parsing", "recognition"]
    with pytest.raises(ValueError, match="tasks is landmarks or recognition or parsing, not 'pose'"):
        suite.suite_of(every, tasks="landmarks+pose", **others)


@pytest.mark.slow
@pytest.mark.parametrize(("of", "fractions"), [("five_tasks", "0.5+1.0"), ("every_task", "1.0")])
def test_suites_of_the_repository_end(of, fractions, tmp_path):
    dataset = "'generated_faces:world=evaluate,size=48,train=60,validation=40,test=40'"
    small = f"fractions={fractions},seeds=2,variant=Nano/8,size=48,small"
    config = f"configs/evaluate/suite_{of}.py:dataset={dataset},{small}"
    assert cli.main(["facerep", "evaluate", f"--config={config}", "--checkpoint=random", f"--workdir={tmp_path}"]) == 0
    tasks = runpy.run_path(config.partition(":")[0])["get_config"](config.partition(":")[2]).evaluate
    scores = json.loads((tmp_path / "suite.json").read_text())["scores"]
    assert {(score["evaluation"], score["fraction"]) for score in scores} == {
        (name, fraction) for name, told in tasks.items() for fraction in told.fractions
    }
    assert all(np.isfinite(score["values"]).all() for score in scores)
    assert "recognition" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_killed_process_leaves_what_goes_on(finished, tmp_path):
    config = f"--config={finished.folder / 'tiny.py'}"
    process = processes.facerep(tmp_path, config, *finished.checkpoints, devices=1, command="evaluate")
    deadline = time.monotonic() + 300
    while not list(tmp_path.rglob("cell.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    processes.finish(process)
    done = {path.parent: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.json")}
    assert 0 < len(done) < 8
    command = ["facerep", "evaluate", config, *finished.checkpoints, f"--workdir={tmp_path}"]
    assert cli.main(command) == 0
    after = {path.parent: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.json")}
    assert len(after) == 8
    assert {folder: after[folder] for folder in done} == done
    assert not list(tmp_path.rglob(".*.tmp"))


def test_random_is_described_by_the_config(finished):
    config = ConfigDict(
        dict(
            evaluate=dict(x=dict(config="c.py:d", fractions=(0.1,))),
            seeds=(0,), data_dir="data", weights="ema", tokens="", untrained=("variant=Nano/8", "size=48"),
        )
    )  # fmt: skip
    read = lambda arguments: ConfigDict(  # noqa: E731
        dict(encoder=dict(call="facerep_jax.models.vit:ViT", variant="Nano/8"), data=dict(size=48), told=arguments[0])
    )
    (entry,) = entered(config, ["random"], read)
    assert (entry.name, entry.checkpoint, entry.size, entry.digest) == ("random", "random", 48, None)
    assert suite.arguments_of(config, "x", 0.1, entry) == [
        "--config=c.py:d,fraction=0.1,data_dir=data,variant=Nano/8,size=48",
        "--config.seeds=(0,)",
    ]
