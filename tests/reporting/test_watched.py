"""Runs as they are watched: logs that grow, break off, begin anew, and what is said of them.

Planted and seen red: a line that is not complete counted as read; the seconds of a start in the speed.
"""

import json
import os

import numpy as np
import pytest

from facerep_jax.reporting.watched import Watched, workdirs_in


def line(step, at, steps=10, loss=1.0, **more):
    seconds = {"seconds/step": 4.0, "seconds/input": 1.0, "seconds/start": 100.0}
    return {"step": step, "time": at, "steps": float(steps), "loss": loss, "input_wait": 0.2, **seconds, **more}


def text(*lines):
    return "".join(json.dumps(each) + "\n" for each in lines)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"steps": 100}))
    return Watched(tmp_path)


def test_a_run_that_has_not_logged_yet(run):
    run.look()
    assert run.facts() == [("step", "0 of 100 (0.0%)"), ("state", "no line is logged yet")]
    assert run.steps_per_second is run.seconds_left is run.goodput is None


def test_each_look_reads_what_was_added_and_a_half_line_once_it_is_whole(run):
    log, second = run.folder / "metrics.jsonl", text(line(20, 1015.0, loss=0.5))
    log.write_text(text(line(10, 1010.0)) + second[:30])
    run.look()
    assert (run.step, run.note) == (10, "")
    with log.open("a") as file:
        file.write(second[30:])
    run.look()
    run.look()
    assert run.step == 20
    steps, losses = run.scalars["loss"]
    assert steps.tolist() == [10, 20]
    assert losses.tolist() == [1.0, 0.5]


def test_speed_time_left_and_goodput_are_those_of_the_lines(run):
    """Of 10 steps in 5 s: a start is no part of the speed, but of the time that counts for nothing."""
    (run.folder / "metrics.jsonl").write_text(
        text(line(10, 1000.0), line(20, 1105.0, images_per_second=64.0, nonfinite_steps=3.0, writers_lost=0.0))
    )
    run.look()
    assert run.steps_per_second == 2.0
    assert run.seconds_left == 40.0
    assert run.goodput == pytest.approx(8 / 210)
    facts = dict(run.facts(now=1115.0))
    assert facts["step"] == "20 of 100 (20.0%)"
    assert facts["to go"] == "40.0 s"
    assert facts["speed"] == "2 steps/s, 64 images/s"
    assert facts["waiting for input"] == "20.0%"
    assert facts["steps not finite"] == "3"
    assert "lines lost by writers" not in facts


def test_a_run_is_running_silent_or_done_by_its_last_line(run):
    log = run.folder / "metrics.jsonl"
    log.write_text(text(line(10, 1000.0)))
    run.look()
    assert run.state(now=1030.0) == "running: the last line came 30.0 s ago"
    assert run.state(now=1061.0) == "silent: the last line came 61.0 s ago, lines come every 5.0 s"
    log.write_text(log.read_text() + text(line(100, 1400.0)))
    run.look()
    assert run.done
    assert run.state(now=1410.0) == "done 10.0 s ago"


def test_after_a_resume_the_last_value_of_a_step_counts_and_the_run_is_where_it_is_now(run):
    lines = line(10, 1000.0), line(20, 1005.0), line(30, 1010.0), line(20, 1200.0, loss=7.0)
    (run.folder / "metrics.jsonl").write_text(text(*lines))
    run.look()
    assert run.step == 20
    assert run.scalars["loss"][1].tolist() == [1.0, 7.0, 1.0]


def test_another_log_in_the_place_of_the_first_is_read_from_its_beginning(run):
    log = run.folder / "metrics.jsonl"
    log.write_text(text(line(10, 1000.0), line(20, 1005.0)))
    run.look()
    other = run.folder / "other"
    other.write_text(text(line(5, 2000.0)))
    os.replace(other, log)
    run.look()
    assert (run.step, run.scalars["loss"][0].tolist()) == (5, [5])
    log.write_text("")
    run.look()
    assert run.step == 0


def test_a_damaged_line_is_passed_over_and_told_of(run):
    (run.folder / "metrics.jsonl").write_text(text(line(10, 1000.0)) + "\0\0\n" + text(line(20, 1005.0)))
    run.look()
    assert run.step == 20
    assert "metrics.jsonl, line 2 is not a JSON object with a step" in run.note


def test_runs_are_found_below_a_folder_the_one_written_last_first(tmp_path):
    for at, name in enumerate(["a", "b/c", "b/c/evaluation", "evaluated", "evaluated/curves"], 1):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text("")
        os.utime(tmp_path / name / "metrics.jsonl", (at, at))
    (tmp_path / "evaluated" / "results.json").write_text("{}")
    (tmp_path / "begins").mkdir()
    assert workdirs_in([tmp_path, tmp_path / "a"]) == [tmp_path / "b/c", tmp_path / "a"]
    assert workdirs_in([tmp_path / "begins"]) == [tmp_path / "begins"]
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        workdirs_in([tmp_path / "nowhere"])


def test_values_that_are_no_number_are_kept_as_such(run):
    (run.folder / "metrics.jsonl").write_text(text(line(10, 1000.0, loss=None)))
    run.look()
    assert np.isnan(run.scalars["loss"][1]).all()
