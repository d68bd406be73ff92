import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.config import build

DRAWN = "generated_faces:size=48,train=40,validation=12,test=16"
SHORT = ("--config.protocol.steps=12", "--config.seeds=(0,1)")
SHALLOW = ("--config.encoder.depth=2", "--config.task.taps=(0,1)")
TASKS = {"landmarks": "nme_box", "parsing": "f1_mean_foreground"}


def evaluate(task, workdir, *flags, checkpoint="random", data=DRAWN):
    config = f"configs/evaluate/{task}_generated_faces.py"
    where = (f"--config={config}", f"--checkpoint={checkpoint}", f"--workdir={workdir}")
    return cli.main(["facerep", "evaluate", *where, f"--config.data.dataset={data}", *SHORT, *flags])


@pytest.fixture(scope="module", params=TASKS)
def finished(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param)
    assert evaluate(request.param, workdir) == 0
    return request.param, workdir, json.loads((workdir / "results.json").read_text())


def test_results_say_what_they_are(finished):
    task, _, results = finished
    assert (results["task"], results["dataset"], results["protocol"]) == (task, DRAWN, "linear_probe")
    assert (results["selection"], results["fraction"], results["seeds"]) == ("validation", 0.1, [0, 1])
    assert (results["labels"], results["test_images"], results["checkpoint"]) == (4, 16, "random")
    assert results["headline"] == TASKS[task]
    assert results["config"]["protocol"]["weight_decay"] == 1e-2  # a default
    assert results["versions"]["jax"]
    headline = results["metrics"][results["headline"]]
    assert headline["mean"] == pytest.approx(np.mean(headline["values"]))
    assert len(headline["values"]) == 2


def test_the_baselines_stand_beside_it(finished):
    task, _, results = finished
    expected = {"landmarks": {"mean_shape", "pixel_ridge"}, "parsing": {"most_frequent_class"}}[task]
    assert set(results["baselines"]) == expected
    for baseline in results["baselines"].values():
        assert np.isfinite(baseline["metrics"][results["headline"]]["mean"])


def test_the_statistics_of_every_example_add_up_to_the_metric(finished):
    _, workdir, results = finished
    metric = build(results["metric"])
    rows = pq.read_table(workdir / "examples.parquet").to_pylist()
    for subset, value in enumerate(results["metrics"][results["headline"]]["values"]):
        of = [r["statistics"] for r in rows if r["subset"] == subset and r["encoder"] == "encoder"]
        assert len(of) == 16
        assert metric.compute(np.sum(of, 0))[results["headline"]] == pytest.approx(value)


def test_the_labelled_examples_are_stored(finished):
    _, workdir, _ = finished
    subsets = json.loads((workdir / "subsets.json").read_text())
    assert [s["seed"] for s in subsets] == [0, 1]
    assert all(len(s["train"]) == 4 and len(s["validation"]) == 1 for s in subsets)
    assert subsets[0]["train"] != subsets[1]["train"]
    assert "learning_rate" in subsets[0]["selected"]


def test_pictures_show_test_faces(finished):
    _, workdir, _ = finished
    for name in ("overlays", "worst", "tokens"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert picture.width <= 1200 + 8
            assert np.asarray(picture).std() > 20


def test_the_command_is_kept(finished):
    task, workdir, _ = finished
    command = (workdir / "command.txt").read_text()
    assert command.startswith("facerep evaluate --config=")
    assert f"{task}_generated_faces.py" in command
    assert "--checkpoint=random" in command
    assert "'--config.seeds=[0, 1]'" in command


def test_the_same_again_is_the_same(finished, tmp_path):
    task, _, results = finished
    assert evaluate(task, tmp_path) == 0
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == results["metrics"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained")
    assert cli.main(["facerep", "pretrain", "--config=configs/pretrain/farl.py:smoke", f"--workdir={workdir}"]) == 0
    return workdir


def test_a_checkpoint_is_scored_and_named(pretrained, tmp_path):
    assert evaluate("landmarks", tmp_path, checkpoint=pretrained) == 0
    origin = json.loads((tmp_path / "results.json").read_text())["checkpoint"]
    assert (origin["path"], origin["step"], origin["weights"]) == (str(pretrained), 2, "params")
    assert len(origin["digest"]) == 64


@pytest.mark.parametrize(
    ("flags", "checkpoint", "data", "message"),
    [
        ((), "nowhere", DRAWN, "no checkpoint in nowhere; give WORKDIR[@STEP] of a pre-training, or random"),
        (SHALLOW, "PRETRAINED", DRAWN, "is of another architecture: encoder/blocks/"),
        (("--config.weights=ema",), "PRETRAINED", DRAWN, "holds no ema/params/encoder"),
        (("--config.weights=best",), "PRETRAINED", DRAWN, "weights are params or ema, not 'best'"),
        (("--config.task.points=5",), "random", DRAWN, "has 68 landmarks and the head 5: set --config.task.points=68"),
        ((), "random", "generated_faces:size=48,train=8,validation=0,test=8", "'validation' of"),
        ((), "random", "generated_faces/none", "facerep prepare generated_faces --name none"),
        (("--config.task.taps=(9,)",), "random", DRAWN, "taps (9,) are not blocks"),
        (("--config.fraction=1.5",), "random", DRAWN, "fraction must be above 0 and at most 1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(pretrained, tmp_path, capsys, flags, checkpoint, data, message):
    workdir = tmp_path / "result"
    where = pretrained if checkpoint == "PRETRAINED" else checkpoint
    assert evaluate("landmarks", workdir, *flags, checkpoint=where, data=data) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not workdir.exists()
