import json

import pytest

from facerep_jax import cli, demo

TEXT = "--config.objective.terms.contrastive.text_encoder"
# One block in each network: what compiles in seconds.
SHALLOW = ("--config.encoder.depth=1", "--config.encoder.unroll=1", f"{TEXT}.depth=1", f"{TEXT}.unroll=1")


@pytest.fixture
def small(monkeypatch):
    """The demo with few faces and few steps; all else is as users get it."""
    monkeypatch.setattr(demo, "UNLABELLED", "generated_faces:size=80,train=64,validation=0,test=0")
    monkeypatch.setattr(demo, "LABELLED", "generated_faces:size=80,train=30,validation=12,test=12,seed=1")
    monkeypatch.setattr(demo, "STEPS", 0.4)
    monkeypatch.setattr(demo, "PRETRAINING", SHALLOW)
    monkeypatch.setitem(demo.TASKS, "parsing", "protocol=linear_probe,steps=6")
    monkeypatch.setattr(demo, "EVALUATION", ("--config.seeds=(0,1)", "--config.devices=1"))


def test_the_demo_goes_the_whole_way_and_goes_on_where_it_was(small, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["facerep", "demo", f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    for task in ("landmarks", "parsing"):
        assert f"\n{task}: " in printed
        for name in ("random", "pretrained"):
            assert (out / "results" / f"{task}_{name}" / "results.json").exists()
    for rival in ("random encoder", "mean_shape", "linear_pixels", "most_frequent_class", "patch_kmeans"):
        assert rival in printed
    assert "$ facerep pretrain --config=" in printed
    assert json.loads((out / "pretrain" / "config.json").read_text())["steps"] == 4
    page = (out / "report.html").read_text()
    assert "landmarks" in page
    assert "parsing" in page
    assert "NME of landmarks, ↓ lower is better" in page

    lines = (out / "pretrain" / "metrics.jsonl").read_text()
    written = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    assert cli.main(["facerep", "demo", f"--out={out}"]) == 0
    assert "Prepared already" in capsys.readouterr().out
    assert (out / "pretrain" / "metrics.jsonl").read_text() == lines  # nothing was trained again
    assert {path: path.stat().st_mtime_ns for path in out.rglob("results.json")} == written  # nor scored


def test_words_and_buckets_are_refused(capsys):
    assert cli.main(["facerep", "demo", "now"]) == 2
    assert "demo takes no 'now'" in capsys.readouterr().err
    assert cli.main(["facerep", "demo", "--out=gs://bucket/demo"]) == 2
    assert "gs://bucket/demo" in capsys.readouterr().err
