"""Each task goes the whole way on drawn faces, which are drawn once: an evaluation, and a report of it."""

import json

import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.config import build
from facerep_jax.evaluation.statistics import drawn_by
from facerep_jax.reporting.workdirs import read_statistics

FACES = "generated_faces:size=48,train=40,validation=16,test=48,sessions=2,frames=2"
AGED = "tests.evaluation.tasks.aged_faces" + FACES.removeprefix("generated_faces")
PAIRS = "tests.contracts.pairs_of_faces" + FACES.removeprefix("generated_faces")
ALONE = "generated_faces:size=48,train=6,validation=8,test=8,sessions=1,frames=1"
THINGS = "generated_objects:size=48,train=8,validation=4,test=4"
ENCODER = "variant=Nano/8,size=48"
# name -> task, arguments, headline, a column of the main table
RUNS = {
    "attributes": ("attributes", "protocol=ridge", "accuracy_mean", "mAP (%)"),
    "facer": ("attributes", "head=facer,small,steps=12", "accuracy_mean", "AUC, mean (%)"),
    "intensity": ("action_units", "protocol=ridge", "icc_mean", "MSE, mean"),
    "detection": ("action_units", "protocol=ridge,target=detection", "f1_mean", "F1, mean (%)"),
    "affect": ("emotion", "protocol=ridge", "ccc_mean", "SAGR, mean (%)"),
    "expression": ("emotion", "protocol=ridge,target=expression", "accuracy", "F1 macro (%)"),
    "voted": ("emotion", "protocol=knn,target=expression", "accuracy", "F1 macro (%)"),
    "head_pose": ("head_pose", "protocol=ridge", "mae_mean", "Geodesic (°)"),
    "age": ("age", f"protocol=ridge,dataset='{AGED}'", "mae", "CS(5) (%)"),
    "table": ("recognition", f"dataset='{PAIRS}'", "accuracy_ten_fold", "EER (%)"),
    "recognition": ("recognition", "pairs=drawn", "accuracy_ten_fold", "TAR at FAR 1e-2 (%)"),
    "templates": ("recognition", "pairs=drawn_templates", "tar_at_far_1e-1", "EER (%)"),
    "search": ("recognition", "pairs=drawn_search", "rank_1", "Rank-5 (%)"),
    "learnt": ("recognition_learnt", "pairs=drawn,small,steps=12", "accuracy_ten_fold", "TAR at FAR 1e-2 (%)"),
    "learnt_table": (
        "recognition_learnt",
        f"head=facer,small,steps=12,dataset='{PAIRS}'",
        "accuracy_ten_fold",
        "EER (%)",
    ),
    "mesh": ("reconstruction_3d", "protocol=ridge", "nme_dense_box", "NME reconstruction, inter-ocular (%)"),
    "basis": ("reconstruction_3d", "head=basis,small,steps=12", "nme_dense_box", "NME sparse, box, balanced (%)"),
    "knn": ("knn", "", "rank_1", "mAP (%)"),
}
UNITS = {"intensity": "", "affect": "", "head_pose": "°", "age": "years"}  # of headlines that are no shares


def evaluate(task, workdir, arguments, *flags):
    given = arguments if "dataset" in arguments else f"dataset='{FACES}'" + f",{arguments}" * bool(arguments)
    config = f"configs/evaluate/{task}.py:{given},{ENCODER}"
    where = (f"--config={config}", "--checkpoint=random", f"--workdir={workdir}")
    return cli.main(["facerep", "evaluate", *where, "--config.devices=1", *flags])


@pytest.mark.parametrize("name", RUNS)
def test_a_task_is_learnt_scored_and_reported(name, tmp_path, capsys):
    task, arguments, headline, column = RUNS[name]
    learnt = task not in ("recognition", "knn")
    fraction = {"expression": 0.9, "voted": 0.9}.get(name, 0.5) if learnt else 1.0  # rare classes are in each subset
    assert evaluate(task, tmp_path, arguments, "--config.seeds=(0,1)", f"--config.fraction={fraction}") == 0
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["task"], results["headline"]) == (task.removesuffix("_learnt"), headline)
    assert len(results["seeds"]) == 1 + learnt
    unit = UNITS.get(name, "%")
    assert f"{headline}{f' in {unit}' if unit else ''}: " in said
    metric, statistics = build(results["metric"]), read_statistics(tmp_path)
    assert [line.partition("note: ")[2] for line in said.splitlines() if "note: " in line] == results["notes"]
    for subset, rows in enumerate(statistics.rows):
        values = metric.compute(rows, np.ones((1, len(rows))))
        for value, summary in results["metrics"].items():
            expected = summary["values"][subset]
            assert float(values[value][0]) == pytest.approx(np.nan if expected is None else expected, nan_ok=True)
    if name != "search":  # a probe is one row for each gallery, of which there is one
        assert drawn_by(statistics.units).units < len(statistics.units)  # persons or folds are drawn together
    for baseline in results["baselines"].values():
        assert np.isfinite(baseline["metrics"][headline]["mean"])
    assert (tmp_path / "overlays.png").exists()
    assert (tmp_path / "worst.png").exists() == (name not in ("templates", "search"))
    assert cli.main(["facerep", "report", str(tmp_path), f"--out={tmp_path / 'page'}"]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    for words in (column, *metric.explains, *(f"Note: {note}." for note in results["notes"])):
        assert words in page
    by = "with the cosine" if results["words"]["unit"] == "pair" else metric.names.get(results["words"]["ranked"], "")
    shown = (tmp_path / "page" / "report.html").read_text()
    assert ("Worst first" in shown or "with the cosine" in shown) == (tmp_path / "worst.png").exists()
    assert by in shown or not (tmp_path / "worst.png").exists()
    assert "NaN" not in page


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("age", "protocol=ridge", "the task needs age, which data set 'generated_faces:"),
        ("action_units", f"dataset='{THINGS}'", "the task needs action_units, which data set 'generated_objects:"),
        ("emotion", f"target=expression,dataset='{THINGS}'", "the task needs expression, which data set"),
        ("emotion", f"dataset='{THINGS}'", "emotion needs the feature 'valence'; the records have"),
        ("parsing", f"dataset='{THINGS}'", "the task needs mask, which data set"),
        ("landmarks", f"dataset='{THINGS}'", "the task needs landmarks, which data set"),
        ("reconstruction_3d", f"dataset='{THINGS}'", "the task needs vertices, which data set"),
        ("recognition", "", "has no table 'pairs'; known: none"),
        ("emotion", "target=anger", "target is affect or expression, not 'anger'"),
        ("recognition", "pairs=templates", "has no table 'template_pairs'; known: none"),
        ("zero_shot", "", "an encoder before any training has no text tower"),
        ("zero_shot", "target=captions,tower=nowhere", "nowhere"),
        ("attributes", "protocol=zero_shot", "of tasks that compare images with texts, and Attributes does not"),
        ("attributes", "head=facer,protocol=ridge", "protocol=ridge solves for a linear head"),
        ("age", f"protocol=knn,dataset='{AGED}'", "protocol=knn is of tasks with classes or yes-or-no labels"),
        ("recognition_learnt", "pairs=drawn,protocol=ridge", "protocol=ridge solves for a linear head"),
        ("recognition_learnt", f"pairs=drawn,dataset='{ALONE}'", "each of 6 training persons has one image"),
    ],
)
def test_what_is_missing_is_one_clear_line(task, arguments, message, tmp_path, capsys):
    assert evaluate(task, tmp_path / "out", arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not (tmp_path / "out").exists()
