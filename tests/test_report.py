"""The entry point: both files or none, errors for bad input, help with an example."""

import json
import os

import pytest
from absl import flags

from facerep_jax import report


def call(*words):
    """As `facerep report WORDS`."""
    argv = ["facerep report", *map(str, words)]
    own = flags.FlagValues()
    report.define_flags(own, argv)
    rest = own(argv)[1:]
    own.validate_all_flags()
    return report.run(own, rest)


@pytest.fixture
def workdirs(tmp_path):
    """A pre-training run and an evaluation."""
    (tmp_path / "runs" / "swav").mkdir(parents=True)
    (tmp_path / "runs" / "swav" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n')
    (tmp_path / "runs" / "landmarks").mkdir()
    results = dict(
        task="landmarks",
        dataset="civil_us",
        protocol="linear_probe",
        selection="last",
        fraction=1.0,
        seeds=[0],
        headline="nme_box",
        lower_is_better=True,
        checkpoint="random",
        labels=318,
        metrics={"nme_box": {"mean": 0.0512, "std": 0.0, "values": [0.0512]}},
        metric={"call": "facerep_jax.evaluation.metrics:NME", "normaliser": {"kind": "box"}},
    )
    (tmp_path / "runs" / "landmarks" / "results.json").write_text(json.dumps(results))
    return tmp_path / "runs"


def test_both_files_and_nothing_else_are_written(workdirs, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert call(workdirs, "--out", out) == 0
    assert sorted(os.listdir(out)) == ["report.html", "report.md"]
    assert "5.12" in (out / "report.html").read_text()
    assert "5.12" in (out / "report.md").read_text()
    assert "1 evaluation and 1 pre-training run" in capsys.readouterr().out
    before = (out / "report.html").read_bytes()
    assert call(workdirs / "landmarks", workdirs / "swav", f"--out={out}") == 0  # again, over the old ones
    assert (out / "report.html").read_bytes() == before


def test_bad_input_writes_nothing(workdirs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither results"):
        call(workdirs, tmp_path / "empty", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_usage_errors(workdirs, tmp_path):
    with pytest.raises(ValueError, match=r"which workdirs\? facerep report DIR"):
        call("--out", tmp_path / "out")
    with pytest.raises(flags.Error, match="out"):
        call(workdirs)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; it must be a folder"):
        call(workdirs, "--out", tmp_path / "file")


def test_the_help_has_an_example():
    assert "facerep report runs/farl evaluations --out report" in report.__doc__
