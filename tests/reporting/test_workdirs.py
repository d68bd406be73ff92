"""The folders are written here from the description of their formats (DESIGN section 7), not by our own writers."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facerep_jax.reporting import workdirs

RESULTS = {
    "task": "landmarks",
    "dataset": "civil_us",
    "protocol": "linear_probe",
    "selection": "validation",
    "fraction": 0.1,
    "seeds": [0, 1],
    "labels": 42,
    "metrics": {"nme_box": {"mean": 0.05, "std": 0.01, "values": [0.04, 0.06]}},
    "headline": "nme_box",
    "lower_is_better": True,
    "metric": {"call": "facerep_jax.evaluation.metrics:NME", "normaliser": {"kind": "box"}},
    "checkpoint": {"path": "runs/farl", "step": 20000, "weights": "ema", "digest": "9f31c2d47ab0"},
}


def write_results(folder, results=RESULTS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    return folder


def write_log(folder, *lines, end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metrics.jsonl").write_text(text + end, errors="surrogateescape")
    return folder


def test_evaluations_and_pretrainings_are_found_in_order(tmp_path):
    for name in ("b", "a"):
        write_results(tmp_path / "deep" / name)
        (write_log(tmp_path / f"run_{name}", {"step": 1, "loss": 2.0}) / "config.json").write_text('{"steps": 7}')
    evaluations, pretrainings = workdirs.read([tmp_path])
    assert [e.folder.name for e in evaluations] == ["a", "b"]
    for e in evaluations:
        assert RESULTS.items() <= json.loads(json.dumps(e.results.to_json())).items()
    assert [(p.folder.name, p.config, p.note) for p in pretrainings] == [
        ("run_a", {"steps": 7}, ""),
        ("run_b", {"steps": 7}, ""),
    ]


def test_a_folder_is_read_once_and_fine_tuning_is_not_pretraining(tmp_path):
    write_log(write_results(tmp_path / "farl") / "subset_0", {"step": 1, "loss": 2.0})
    evaluations, pretrainings = workdirs.read([tmp_path, tmp_path / "farl", tmp_path / "farl" / ".." / "farl"])
    assert len(evaluations) == 1
    assert not pretrainings


def test_after_a_resume_the_last_value_of_a_step_counts(tmp_path):
    logged = [{"step": step, "loss": step + 0.5} for step in (10, 20, 30, 40)]
    logged += [{"step": step, "loss": step + 0.25, "late": 1} for step in (30, 40, 50)]
    (run,) = workdirs.read([write_log(tmp_path, *logged)])[1]
    steps, values = run.scalars["loss"]
    assert steps.tolist() == [10, 20, 30, 40, 50]
    assert values.tolist() == [10.5, 20.5, 30.25, 40.25, 50.25]
    assert run.scalars["late"][0].tolist() == [30, 40, 50]


def test_null_is_nan_and_text_is_no_scalar(tmp_path):
    lines = [{"step": 1, "loss": 2, "host": "a"}, {"step": 2, "loss": None, "host": "a"}]
    scalars = workdirs.read([write_log(tmp_path, *lines)])[1][0].scalars
    assert [*scalars] == ["loss"]
    np.testing.assert_array_equal(scalars["loss"][1], [2, math.nan])


def test_a_run_that_is_being_written(tmp_path):
    (run,) = workdirs.read([write_log(tmp_path, {"step": 1, "loss": 2.0}, '{"step": 2, "lo', end="")])[1]
    assert run.scalars["loss"][0].tolist() == [1]
    assert "incomplete" in run.note
    (run,) = workdirs.read([write_log(tmp_path, end="")])[1]
    assert (run.scalars, run.config, run.note) == ({}, {}, "")


def test_what_was_selected_and_the_command_are_read_where_they_are(tmp_path):
    assert (workdirs.read_command(tmp_path), workdirs.read_selected(tmp_path)) == ("", [])
    (tmp_path / "command.txt").write_text("facerep evaluate --x\n")
    (tmp_path / "subsets.json").write_text('[{"seed": 3, "selected": {"step": 2.0}}, {"seed": 4}]')
    assert workdirs.read_command(tmp_path) == "facerep evaluate --x"
    assert workdirs.read_selected(tmp_path) == [(3, {"step": 2.0}), (4, {})]
    for broken in ("{", "[1]", '[{"train": []}]'):
        (tmp_path / "subsets.json").write_text(broken)
        with pytest.raises(ValueError, match=r"subsets\.json must hold a list of label subsets"):
            workdirs.read_selected(tmp_path)


def test_a_folder_without_workdirs_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        workdirs.read([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: neither results\.json nor metrics\.jsonl in it or below"):
        workdirs.read([tmp_path / "empty"])


def test_a_broken_results_json_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"results\.json has no metric 'nme', its headline"):
        workdirs.read([write_results(tmp_path, RESULTS | {"headline": "nme"})])
    with pytest.raises(FileNotFoundError):
        workdirs.read_evaluation(tmp_path / "nowhere")


@pytest.mark.parametrize("line", ["nonsense", '{"loss": 1}', "[1]", "\0\0", "\udcff"])
def test_a_broken_line_is_named(tmp_path, line):
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is not a JSON object with a step"):
        workdirs.read([write_log(tmp_path, {"step": 1, "loss": 2.0}, line)])


def test_statistics_are_those_of_the_file_and_complete(tmp_path):
    assert workdirs.read_statistics(tmp_path) is None
    want = np.random.default_rng(0).normal(size=(3, 60, 7))
    ids = [f"face_{i:03d}.jpg" for i in range(60)]
    rows = [
        {"id": name, "subset": subset, "encoder": "encoder", "statistics": want[subset, i].tolist()}
        for subset in range(3)
        for i, name in enumerate(ids)
    ]
    np.random.default_rng(0).shuffle(rows)  # no order is promised

    def write(rows):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "examples.parquet")

    write(rows)
    found = workdirs.read_statistics(tmp_path)
    assert (found.subsets, found.ids, found.units) == ([0, 1, 2], ids, ids)
    np.testing.assert_array_equal(found.rows, want)
    write([row | {"unit": f"person {int(row['id'][5:8]) // 2}"} for row in rows])
    assert workdirs.read_statistics(tmp_path).units == [f"person {i // 2}" for i in range(60)]
    write(rows)
    assert workdirs.read_statistics(tmp_path, "mean_shape") is None
    write(rows[1:])
    with pytest.raises(ValueError, match="encoder has 179 rows, not one for each of 3 subsets and 60 ids"):
        workdirs.read_statistics(tmp_path)
    write([rows[0] | {"statistics": [1.0]}, *rows[1:]])
    with pytest.raises(ValueError, match="the statistics of encoder differ in length"):
        workdirs.read_statistics(tmp_path)
    (tmp_path / "examples.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"examples\.parquet cannot be read"):
        workdirs.read_statistics(tmp_path)
