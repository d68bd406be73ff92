import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import closing
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.train import account, loop, sharding
from facerep_jax.train.account import KINDS, Meter
from facerep_jax.train.checkpoint import Checkpoints, steps_in
from facerep_jax.train.profile import Profile
from facerep_jax.train.samples import Ledger
from facerep_jax.train.state import TrainState
from facerep_jax.train.writer import Writer, lines_of


class Batches:
    """Stands for a stream: batches that count up, and a state that is the next."""

    def __init__(self, event=None):
        self.state, self.event = 0, event

    def __iter__(self):
        for number in itertools.count():
            self.state = number + 1
            if self.event is not None:
                self.event(number)
            position = np.arange(8, dtype=np.uint32) + 8 * number
            ids = np.array([f"face-{index:03d}" for index in position[::-1]])
            yield {"position": position, "truncated": np.array([number == 2] * 8), "id": ids}


def step(state, frozen, batch):
    """Adds up positions; the loss is 1 but at the steps that `frozen` names, where it is no number."""
    total = state.params["total"] + batch["position"].sum()
    bad = (state.step + 1 == frozen["bad"]).any()
    metrics = {"loss": jnp.where(bad, jnp.nan, 1.0), "gradient_norm": jnp.ones(())}
    return state._replace(step=state.step + 1, params={"total": total}), metrics


def train(workdir, *, step=step, batches=None, bad=(), limit=3, samples=None, **settings):
    mesh = sharding.make_mesh({"fsdp": -1})
    state = TrainState(jnp.zeros((), jnp.int32), {"total": jnp.zeros((), jnp.uint32)}, {}, {}, None)
    batches, meter = batches or Batches(), Meter(8, lines_of(workdir))
    checkpoints, writer = Checkpoints(workdir / "checkpoints", keep=9), Writer(workdir)
    settings = {"steps": 6, "log_every": 2, "checkpoint_every": 0, "checkpoint_minutes": 0.0, **settings}
    try:
        return loop.run(
            jax.jit(step),
            state,
            {"bad": jnp.asarray(bad, jnp.int32)},
            batches,
            mesh=mesh,
            checkpoints=checkpoints,
            meta=lambda: {"data": batches.state},
            writer=writer,
            faults=loop.Faults(workdir, limit),
            meter=meter,
            profile=Profile(workdir / "profile", ()),
            samples=samples,
            schedule=lambda done: done / 10,
            **settings,
        )
    finally:
        writer.close()
        checkpoints.close()
        meter.close()


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_every_batch_is_used_once_and_what_is_due_is_logged_and_saved(tmp_path):
    state = train(tmp_path, checkpoint_every=4)
    assert int(state.step) == 6
    assert int(state.params["total"]) == sum(range(48))
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]
    assert steps_in(tmp_path) == [4, 6]  # the last step is saved, due or not
    assert lines(tmp_path)[1]["learning_rate"] == 0.3  # that of the update just made, the fourth
    assert lines(tmp_path)[0]["images_per_second"] > 0
    assert 0 <= lines(tmp_path)[0]["input_wait"] <= 1


def test_scores_that_are_due_are_logged_the_first_before_any_step(tmp_path):
    """With what else is logged of a step, or alone; and at a resume only those of later steps."""

    def monitor(done, state):
        assert int(state.step) == done
        return {"evaluate/x": float(state.params["total"])} if done % 3 == 0 else {}

    train(tmp_path, monitor=monitor)
    seen = {line["step"]: line for line in lines(tmp_path)}
    assert [*seen] == [0, 2, 3, 4, 6]
    assert {step: line["evaluate/x"] for step, line in seen.items() if "evaluate/x" in line} == {
        0: 0.0,
        3: sum(range(24)),
        6: sum(range(48)),
    }
    assert {*seen[3]} == {"step", "time", "evaluate/x"}
    assert seen[6]["loss"] == 1
    assert seen[6]["seconds/evaluate"] > 0


class AtOnce:
    """Stands for a pool of threads: does what it is given before it goes on."""

    def __init__(self, *_):
        pass

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done

    def shutdown(self):
        pass


def test_the_log_says_where_the_time_went(tmp_path, monkeypatch):
    """By a clock that compilation moves by 1, each step by 0.5 and each of two batches, for steps 3 and 4, by 0.1."""
    clock = SimpleNamespace(now=5.0, monotonic=lambda: clock.now, time=time.time)

    def move(seconds):
        clock.now += seconds
        return clock.now

    compiling = iter([1.0])

    def traced(state, frozen, batch):
        move(next(compiling, 0.0))  # Python runs as the step is traced; once more for how its result is laid out
        return step(state, frozen, batch)

    monkeypatch.setattr(account, "time", clock)
    monkeypatch.setattr(account, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(account, "ready_at", lambda result: move(0.5))
    train(tmp_path, step=traced, batches=Batches(lambda number: move(0.1 * (number in (2, 3)))))
    times = [{kind: line[f"seconds/{kind}"] for kind in KINDS} for line in lines(tmp_path)]
    nothing = dict.fromkeys(KINDS, 0.0)
    assert times[0] == pytest.approx({**nothing, "step": 1.0, "compile": 1.0})
    assert times[1] == pytest.approx({**nothing, "step": 1.0, "input": 0.2})
    assert times[2] == pytest.approx({**nothing, "step": 1.0})
    assert [line["input_wait"] for line in lines(tmp_path)] == pytest.approx([0.0, 0.2 / 1.2, 0.0])
    assert lines(tmp_path)[-1]["goodput"] == pytest.approx(3.0 / 4.2)


def test_it_is_saved_by_time(tmp_path):
    train(tmp_path, checkpoint_minutes=1e-9)
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_cut_captions_are_counted(tmp_path):
    train(tmp_path)
    assert [line["captions_truncated"] for line in lines(tmp_path)] == [0, 8, 8]


def ids(step):
    return [f"face-{index:03d}" for index in range(8 * (step - 1), 8 * step)]


def test_steps_that_are_not_finite_are_recorded_with_their_records_and_the_run_goes_on(tmp_path):
    train(tmp_path, bad=(2, 3, 5), limit=3)
    records = [json.loads(line) for line in (tmp_path / "nonfinite.jsonl").read_text().splitlines()]
    assert records == [{"step": n, "ids": ids(n), "loss": "nan", "gradient_norm": "1.0"} for n in (2, 3, 5)]
    assert [line["nonfinite_steps"] for line in lines(tmp_path)] == [0, 2, 3]  # known one step later
    assert [line["loss"] for line in lines(tmp_path)] == [None, 1.0, 1.0]


def test_too_many_in_a_row_end_the_run(tmp_path):
    """Tried: a count that is not reset by a finite step; the run then ends at step 4."""
    with pytest.raises(loop.NonFinite, match=r"the last 2 steps up to 5 had a loss that is not finite") as error:
        train(tmp_path, bad=(2, 4, 5), limit=2, steps=9)
    assert "nonfinite.jsonl has their records" in str(error.value)


def test_the_last_step_is_looked_at_too(tmp_path):
    with pytest.raises(loop.NonFinite):
        train(tmp_path, bad=(6,), limit=1)


def test_the_records_of_every_step_are_written(tmp_path):
    path = tmp_path / "sample_ledger.jsonl"
    path.write_text('{"step": 0, "ids": []}\n{"step": 1, "id')  # what a killed process left
    with closing(Ledger(path)) as samples:
        train(tmp_path, samples=samples, steps=3)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records == [{"step": 0, "ids": []}] + [{"step": n, "ids": ids(n)} for n in (1, 2, 3)]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_ends_the_run_after_a_save(tmp_path, name):
    number = signal.Signals[name]
    batches = Batches(lambda batch: batch == 2 and os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    with pytest.raises(loop.Stopped, match=f"saved step 3 after {name}"):
        train(tmp_path, batches=batches)
    assert steps_in(tmp_path) == [3]
    assert signal.getsignal(number) is before


def test_of_several_processes_each_signal_is_passed_on_as_sigterm(monkeypatch):
    """Which jax handles and tells the others."""
    passed_on = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: passed_on.append(number))
    monkeypatch.setattr(loop.distributed, "alone", lambda: False)
    try:
        for number in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            with loop.Signals():
                signal.raise_signal(signal.Signals[number])
            assert len(passed_on) == 1, number
            passed_on.clear()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_that_is_to_be_ignored_is_ignored(name):
    """As SIGHUP is under nohup. Tried: handlers for all; a run under nohup then ends with its terminal."""
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with loop.Signals() as signals:
            signal.raise_signal(number)
        assert signals.received is None
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


HUNG_UP = """
import signal, sys, time
from facerep_jax.train import loop
with loop.Signals() as signals:
    print("ready", flush=True)
    while signals.received is None:
        time.sleep(0.01)
    print("more", flush=True)
    print("more", file=sys.stderr, flush=True)
print("more", flush=True)
sys.exit(75)
"""


def test_a_run_whose_terminal_is_gone_ends_with_its_status():
    """Tried: prints that go to the terminal on; they raise, and Python ends with status 1 or 120."""
    ours, its = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", HUNG_UP], stdin=its, stdout=its, stderr=its)
    os.close(its)
    assert os.read(ours, 5) == b"ready"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 75


INTERRUPTED = """
import os, signal, time
from facerep_jax.train import loop
with loop.Signals() as signals:
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == signal.SIGINT
    print("noted", flush=True)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    finally:
        print("not at once", flush=True)
"""


def test_a_second_interrupt_ends_at_once():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "noted\n")
