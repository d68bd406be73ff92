"""What a run hands to a writer arrives, and no writer holds it up: each is a process that does what real ones may do.

Planted and seen red: the newest line dropped in place of the oldest; no kill of what hangs (that test does not end);
a child that does not look whether its parent lives.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facerep_jax.train.writer import Writer, lines_of
from facerep_jax.train.writers import feed, specs_of
from facerep_jax.train.writers.feed import Feeds

PLUGINS = "tests.train.writers.plugins"


def feeds_of(workdir, *specs):
    return Feeds(specs_of(specs), workdir, {"seed": 7, "data": {"weights": []}})


def spec(plugin, **keywords):
    return {"call": f"{PLUGINS}:{plugin}", **keywords}


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def calls(workdir, name="recorded"):
    path = workdir / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps(workdir, name="recorded"):
    return [call[1] for call in calls(workdir, name) if call[0] == "write_scalars"]


def test_a_writer_gets_the_config_then_all_lines_of_the_run_and_its_end(tmp_path):
    feeds = feeds_of(tmp_path, f"{PLUGINS}:Recorder", spec("Recorder", name="second"))
    writer = Writer(tmp_path, others=feeds)
    for step in (1, 2):
        writer.write(step, {"loss": 0.5 / step, "norm": float("nan")})
    writer.close()
    feeds.close()
    for name in ("recorded", "second"):
        found = calls(tmp_path, name)
        assert found[0] == ["write_hparams", {"seed": 7, "data": {"weights": []}}]
        assert [call[0] for call in found[-2:]] == ["flush", "close"]
        assert steps(tmp_path, name) == [1, 2]
        assert found[2][2]["loss"] == 0.25
        assert found[2][2]["norm"] != found[2][2]["norm"]  # it is for the writer to say what is no number
    assert [line["writers_lost"] for line in lines_of(tmp_path)] == [0, 0]


def test_without_writers_nothing_is_started_and_no_scalar_is_added(tmp_path):
    writer = Writer(tmp_path)
    writer.write(1, {"loss": 0.5})
    writer.close()
    assert "writers_lost" not in lines_of(tmp_path)[0]
    assert not (tmp_path / "writers").exists()


def test_a_network_that_is_gone_for_a_while_costs_the_lines_of_that_while_and_one_warning(tmp_path, caplog):
    feeds = feeds_of(tmp_path, spec("Offline", first=2, last=4))
    for step in range(1, 7):
        feeds.put(step, {"loss": 1.0})
    feeds.close()
    assert steps(tmp_path) == [1, 5, 6]
    assert feeds.counts == {"writers_lost": 3}
    first, last = caplog.messages
    assert "offline misses a line (ConnectionError: no route to host). The run goes on" in first
    assert last == "config.writers: offline misses 3 of 6 lines"
    assert (tmp_path / "writers" / "offline.log").read_text().count("no route") == 3


def test_a_writer_that_cannot_be_reached_at_first_is_tried_again(tmp_path):
    feeds = feeds_of(tmp_path, spec("Offline", first=0, last=2))
    for step in range(1, 5):
        feeds.put(step, {"loss": 1.0})
    feeds.close()
    assert [call[0] for call in calls(tmp_path)][:2] == ["write_hparams", "write_scalars"]
    assert steps(tmp_path) == [3, 4]


@pytest.mark.parametrize("method", ["write_hparams", "write_scalars", "close"])
def test_a_writer_that_hangs_neither_slows_the_run_nor_outlives_it(tmp_path, monkeypatch, caplog, method):
    monkeypatch.setattr(feed, "WAITING", 50)
    monkeypatch.setattr(feed, "CLOSE_SECONDS", 2.0)
    feeds = feeds_of(tmp_path, spec("Hanging", method=method), f"{PLUGINS}:Recorder")
    begin = time.monotonic()
    for step in range(1, 41):
        feeds.put(step, {"loss": 1.0})
    assert time.monotonic() - begin < 1
    wait_for(lambda: (tmp_path / "pid").exists() and len(steps(tmp_path)) >= 40)  # of the other writer
    begin = time.monotonic()
    feeds.close()
    assert time.monotonic() - begin < 4
    assert "hanging did not end within 2 s and was stopped" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.slow
def test_a_writer_that_hangs_does_not_outlive_a_run_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from facerep_jax.train.writers.feed import Feeds\n"
        f"feeds = Feeds([{spec('Hanging', method='write_scalars')!r}], Path(sys.argv[1]), {{}})\n"
        "feeds.put(1, {}); time.sleep(3600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    finally:
        run.kill()
        run.wait()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_a_full_queue_drops_the_oldest_lines_and_counts_them(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(feed, "WAITING", 5)
    monkeypatch.setattr(feed, "CLOSE_SECONDS", 1.0)
    feeds = feeds_of(tmp_path, spec("Hanging", method="write_scalars"))
    feeds.put(1, {})
    wait_for(lambda: not feeds._feeds[0]._lines)  # the writer has taken the first
    for step in range(2, 10):
        feeds.put(step, {})
    assert [json.loads(line)[0] for line in feeds._feeds[0]._lines] == [5, 6, 7, 8, 9]
    assert feeds.counts == {"writers_lost": 3}
    feeds.close()
    assert "hanging misses 9 of 9 lines" in caplog.messages[-1]


def test_a_writer_whose_process_dies_is_said_once(tmp_path, caplog):
    feeds = feeds_of(tmp_path, f"{PLUGINS}:Dying")
    for step in range(1, 4):
        feeds.put(step, {"loss": 1.0})
    feeds.close()
    assert caplog.text.count("its process has ended") == 1
    assert caplog.messages[-1] == "config.writers: dying misses 3 of 3 lines"
    assert "about to die" in (tmp_path / "writers" / "dying.log").read_text()


@pytest.mark.parametrize(
    ("writers", "message"),
    [
        ("wandb", r"config.writers is a tuple, such as \('wandb',\), not 'wandb'"),
        (("wandbb",), "config.writers: no writer 'wandbb' .*; did you mean 'wandb'?"),
        (("nowhere:Writer",), "no callable 'nowhere:Writer'"),
        ((3,), "config.writers holds specs .* or names, not 3"),
        ((spec("Hanging"),), "Hanging: missing a required argument: 'method'; arguments: method"),
        ((spec("Hanging", metod="close"),), "Hanging: .*; arguments: method"),
        ((f"{PLUGINS}:Needy",), "Needy needs a package: pip install facerep_no_such_package"),
    ],
)
def test_what_cannot_be_built_is_refused_before_a_run_begins(writers, message):
    with pytest.raises(ValueError, match=message):
        specs_of(writers)
