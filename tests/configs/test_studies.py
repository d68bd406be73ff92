"""Studies run through with their smoke arguments, controls included; in this process, which saves imports."""

import contextlib
import json

import pytest

from facerep_jax import cells, cli

OF_RECIPES = {"frl": ("swav", "mae", "objects"), "mcf": ("mae", "mcf")}
OF_DATA = {
    "data_size": ("attributes_64", "attributes_128", "labels_at_random"),
    "data_quality": ("identity_curated_64", "attributes_uncurated", "labels_at_random"),
    "video_redundancy": ("attributes", "labels_at_random"),
}


def in_this_process(arguments, log, variables):
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        return cli.main(["facerep", *arguments, *(["--config.devices=1"] if arguments[0] == "evaluate" else [])])


def found(name, folder, monkeypatch):
    """What a study's smoke wrote."""
    monkeypatch.setattr(cells, "execute", in_this_process)
    assert cli.main(["facerep", "study", name, f"--config=configs/study/{name}.py:smoke", f"--out={folder}"]) == 0
    return json.loads((folder / name / "study.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_RECIPES)
def test_smoke_of_recipes(name, tmp_path, monkeypatch):
    study = found(name, tmp_path, monkeypatch)
    assert {score["encoder"] for score in study["scores"]} >= {"random", "patch_kmeans", *OF_RECIPES[name]}
    assert {tried["encoder"] for tried in study["rates"]} == set(OF_RECIPES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_DATA)
def test_smoke_of_data(name, tmp_path, monkeypatch):
    study = found(name, tmp_path, monkeypatch)
    assert {score["encoder"] for score in study["scores"]} >= {"random", *OF_DATA[name]}
    assert {score["evaluation"] for score in study["scores"]} >= {"permuted", "full"}  # the controls
    assert all(curve["values"] for curve in study["curves"])
    assert "Score against data" in (tmp_path / name / "study.html").read_text()
    assert "#### Scores against data" in (tmp_path / name / "study.md").read_text()
