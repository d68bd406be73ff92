"""Runs that are watched: what is read of their files, in the terminal and on the page."""

import http.client
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.reporting import terminal
from facerep_jax.reporting.serving import HOST, Server
from facerep_jax.reporting.watched import Watched, workdirs_in

STEPS, EACH = 100, 10


def line(step, now, loss):
    took = {"seconds/step": 5.0, "seconds/input": 1.0}
    return json.dumps({"step": step, "time": now, "loss": loss, "steps": EACH, **took})


def lines(until=50, now=None):
    now = time.time() if now is None else now
    return "".join(
        line(step, now + 0.6 * (step - until), 4.0 - step / 50) + "\n" for step in range(EACH, until + 1, EACH)
    )


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "runs" / "farl"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(lines())
    (folder / "config.json").write_text(json.dumps({"steps": STEPS}))
    return folder


def facts_of(folder, now=None):
    watched = Watched(folder)
    watched.look()
    return watched, dict(watched.facts(now))


def test_how_far_and_how_fast_a_run_is(workdir):
    watched, facts = facts_of(workdir)
    assert facts["step"] == "50 of 100 (50.0%)"
    assert facts["speed"].startswith("1.667 steps/s")  # 10 steps in 6 seconds
    assert watched.seconds_left == pytest.approx(30)
    assert facts["goodput"] == "83.3%"
    assert facts["state"].startswith("running")
    assert facts_of(workdir, time.time() + 3600)[1]["state"].startswith("silent")
    with (workdir / "metrics.jsonl").open("a") as log:
        log.write(line(STEPS, time.time(), 1.0) + "\n")
    watched.look()
    assert watched.done
    assert watched.state().startswith("done")


def test_a_line_is_read_once_it_is_complete_and_a_damaged_one_is_told_of(workdir):
    watched, _ = facts_of(workdir)
    whole = line(60, time.time(), 2.5)
    with (workdir / "metrics.jsonl").open("a") as log:
        log.write(whole[:20])
        log.flush()
        watched.look()
        assert watched.step == 50
        log.write(whole[20:] + "\nnonsense\n")
    watched.look()
    assert watched.step == 60
    assert "line 7" in watched.note
    assert "passed over" in watched.note


def test_another_run_in_its_place_begins_anew(workdir):
    watched, _ = facts_of(workdir)
    (workdir / "metrics.jsonl").unlink()
    watched.look()  # nothing is there for a moment
    (workdir / "metrics.jsonl").write_text(lines(until=20))
    watched.look()
    assert watched.step == 20
    assert len(watched.scalars["loss"][1]) == 2


def test_runs_are_found_below_a_folder_but_evaluations_are_none(workdir):
    evaluation = workdir.parent / "landmarks"
    evaluation.mkdir()
    for name in ("metrics.jsonl", "results.json"):
        (evaluation / name).write_text("")
    assert workdirs_in([workdir.parent]) == [workdir]
    assert workdirs_in([workdir, workdir.parent]) == [workdir]


def test_once_prints_curves_in_what_a_pipe_can_take(workdir, capsys):
    Image.new("RGB", (8, 8), "white").save(workdir / "masked.png")
    assert cli.main(["facerep", "watch", str(workdir.parent), "--once"]) == 0
    out = capsys.readouterr().out
    assert "50 of 100 (50.0%)" in out
    assert "loss" in out
    assert "\x1b" not in out  # no colours or moves where there is no terminal
    assert all(len(text) <= 100 for text in out.splitlines())


def test_nothing_is_written_to_a_run_and_several_have_a_line_for_each_curve(workdir, capsys):
    other = workdir.parent / "other"
    shutil.copytree(workdir, other)
    Image.new("RGB", (8, 8), "white").save(other / "masked.png")
    before = {path: path.stat().st_mtime_ns for path in workdir.parent.rglob("*")}
    assert cli.main(["facerep", "watch", str(workdir), str(other), "--once"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n  loss ") == 2
    assert "masked.png" not in out
    assert {path: path.stat().st_mtime_ns for path in workdir.parent.rglob("*")} == before


def test_in_a_terminal_it_looks_again_until_all_runs_are_done(workdir):
    """In a real pseudo-terminal of 80 columns and 10 rows, while the run goes on."""
    own, other = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": "80",
        "LINES": "10",
        "NO_COLOR": "1",
        "COLORTERM": "truecolor",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "facerep_jax.cli", "watch", str(workdir), "--every=1"], stdout=other, env=environment
    )
    os.close(other)
    seen = b""

    def read():
        nonlocal seen
        try:
            while part := os.read(own, 65536):
                seen += part
        except OSError:
            pass  # the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    try:
        deadline = time.monotonic() + 120
        while b"step 50 of 100" not in seen:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with (workdir / "metrics.jsonl").open("a") as log:
            log.write(line(STEPS, time.time(), 1.0) + "\n")
        assert process.wait(60) == 0
    finally:
        process.kill()
        reader.join(10)
        os.close(own)
    frames = seen.decode().split("\x1b[H")[1:]
    assert len(frames) >= 2
    assert all(len(each.splitlines()) <= 10 for each in frames[:-1])
    assert "lines more" in frames[0]
    assert "done" in frames[-1]
    assert "38;2" not in seen.decode()  # no colours where NO_COLOR is set


def test_a_falling_curve_falls():
    drawn = terminal.columns(np.array([0.0, 1.0, 2.0]), np.array([3.0, 2.0, 1.0]), 3)
    rows = terminal.block_chart(drawn, 3, terminal.ASCII)
    assert [sum(cell != " " for cell in column) for column in zip(*rows, strict=True)] == [3, 2, 1]


def test_what_is_no_run_is_refused_in_a_line(tmp_path, workdir, capsys):
    for words, told in (
        (["--once", str(tmp_path / "nothing")], "no folder"),
        (["--once"], "which runs"),
        ([str(workdir), "--once", "--serve=0"], "give one of them"),
        ([str(workdir), "--serve=99999"], "serve"),
    ):
        assert cli.main(["facerep", "watch", *words]) == 2
        assert told in capsys.readouterr().err
    (workdir / "metrics.jsonl").unlink()
    (workdir / "config.json").unlink()
    assert cli.main(["facerep", "watch", str(workdir), "--once"]) == 2
    assert "no metrics.jsonl" in capsys.readouterr().err


def test_the_page_is_for_this_machine_alone_and_renews_itself(workdir):
    watched, _ = facts_of(workdir)
    with Server(0, lambda: [watched], 5.0) as server:
        assert server.server_address[0] == HOST == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def asked(path="/", host=None):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
            connection.request("GET", path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        status, text = asked()
        assert status == 200
        assert "50 of 100 (50.0%)" in text
        assert "setInterval" in text
        assert "made again every 5 s" in text
        assert asked("/etc/passwd")[0] == 404
        assert asked(host="evil.example:80")[0] == 403  # a foreign page's name for this machine
        server.shutdown()
        thread.join(10)
