"""The whole way on sixteen real portraits, where some are at hand: manifest, pre-training, landmarks, report."""

import json
import shutil

import pytest

from facerep_jax import cli

SPLITS = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4


@pytest.fixture
def sixteen(real_faces, tmp_path):
    """A manifest of the first sixteen portraits, with images of their own."""
    folder = tmp_path / "faces"
    rows = [json.loads(line) for line in (real_faces / "faces.jsonl").read_text().splitlines()[:16]]
    for row, split in zip(rows, SPLITS, strict=True):
        row["split"] = split
        for key in ("image", "vertices"):
            (folder / row[key]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_faces / row[key], folder / row[key])
    (folder / "faces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(real_faces / "faces.meta.json", folder)
    return folder


def facerep(*arguments: str) -> None:
    assert cli.main(["facerep", *arguments]) == 0


def test_from_a_manifest_to_a_report(sixteen, tmp_path):
    data, runs = f"--data_dir={tmp_path / 'data'}", tmp_path / "runs"
    facerep("prepare", "manifest", f"--manual_dir={sixteen}", "--name=faces", data)
    recipe = f"configs/pretrain/farl_nano.py:dataset=manifest/faces,data_dir={tmp_path / 'data'},steps=2"
    facerep("pretrain", f"--config={recipe}", f"--workdir={runs / 'pretrained'}", "--config.data.batch_size=8")
    arguments = f"dataset=manifest/faces,data_dir={tmp_path / 'data'}"
    for name, encoder in (("random", ",variant=Nano/8,stem=384,size=48"), ("pretrained", "")):
        facerep(
            "evaluate",
            f"--config=configs/evaluate/landmarks.py:{arguments}{encoder}",
            f"--checkpoint={name if name == 'random' else runs / name}",
            f"--workdir={runs / f'landmarks_{name}'}",
            "--config.protocol.steps=12",
            "--config.seeds=(0,1)",
        )
    facerep("report", str(runs), f"--out={tmp_path / 'report'}")

    results = json.loads((runs / "landmarks_pretrained" / "results.json").read_text())
    assert (results["labels"], results["test_images"], results["headline"]) == (8, 4, "nme_inter_ocular")
    assert 0.02 < results["metrics"]["nme_inter_ocular"]["mean"] < 0.5
    assert 0.02 < results["baselines"]["mean_shape"]["metrics"]["nme_inter_ocular"]["mean"] < 0.3
    page = (tmp_path / "report" / "report.html").read_text()
    assert "manifest/faces" in page
    assert "mean_shape" in page or "mean shape" in page
