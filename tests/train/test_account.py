"""Where the time of a run went, against the same counted in small slices of time."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.train import account
from facerep_jax.train.account import KINDS, Account, Meter, Timeline


class Clock:
    """Stands for time.monotonic and for results that say when they are there."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(account.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(account, "ready_at", float)

    def spend(self, timeline: Timeline, kind: str, seconds: float) -> None:
        with timeline.span(kind):
            self.now += seconds


def test_only_time_without_a_running_step_is_the_hosts(monkeypatch):
    """Tried: what the host does while a step runs counted too; the waits are then 3 and 4."""
    clock, nothing = Clock(monkeypatch), dict.fromkeys(KINDS, 0)
    clock.now = 2.0
    timeline = Timeline(began=0.0)
    clock.spend(timeline, "input", 1)
    clock.spend(timeline, "compile", 4)
    timeline.started(jnp.asarray(10.0))  # at 7
    clock.spend(timeline, "input", 2)
    timeline.started(jnp.asarray(12.0))  # at 9, but the device is busy until 10
    clock.spend(timeline, "save", 4)
    clock.now += 1
    assert timeline.take() == {**nothing, "start": 2, "input": 1, "compile": 4, "step": 5, "save": 1, "other": 1}
    clock.now += 3
    assert timeline.take() == {**nothing, "other": 3}
    timeline.close()


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_a_count_by_slices(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    clock = Clock(monkeypatch)
    timeline = Timeline(began=0.0)
    host, device, done = np.full(4000, "other"), np.zeros(4000, bool), 0
    found = dict.fromkeys(KINDS, 0.0)
    for _ in range(60):
        for kind in ("input", "step", "save", ""):
            seconds, begin = int(rng.integers(0, 9)), int(clock.now)
            if kind:
                clock.spend(timeline, kind, seconds)
                host[begin : begin + seconds] = kind
            else:
                clock.now += seconds
            if kind == "step":
                begin = max(int(clock.now), done)
                done = begin + int(rng.integers(1, 12))
                device[begin:done] = True
                timeline.started(jnp.asarray(float(done)))
        if rng.random() < 0.2:
            clock.now = max(clock.now, float(done))
            found = {kind: found[kind] + value for kind, value in timeline.take().items()}
    clock.now = max(clock.now, float(done))
    found = {kind: found[kind] + value for kind, value in timeline.take().items()}
    timeline.close()
    slices = np.where(device, "step", host)[: int(clock.now)]
    assert found == {kind: np.sum(slices == kind) for kind in KINDS}


def line(last, steps, end, **seconds):
    return {"step": last, "steps": steps, "time": end} | {f"seconds/{kind}": value for kind, value in seconds.items()}


def test_steps_that_were_taken_again_are_lost():
    """Tried: no look at steps that come again; nothing is then lost."""
    account = Account.of(
        [
            {"step": 1, "loss": 1.0},  # of an older version
            line(10, 10, 1010.0, start=4.0, step=6.0),
            line(20, 10, 1020.0, step=10.0),
            line(30, 10, 1030.0, step=8.0, input=2.0),
            line(20, 5, 1050.0, start=5.0, step=5.0),  # went on from step 15, 10 s after the last word
        ]
    )
    assert account.total == 50
    lost = 8.0 + 10.0 / 2
    expected = {"start": 9.0, "step": 29 - lost, "input": 2.0, "lost": lost, "down": 10.0}
    assert {kind: value for kind, value in account.seconds.items() if value} == expected
    assert account.goodput == (29 - lost) / 50
    assert account.summary().startswith(
        "50.0 s since the first start: 32.0% training steps, 26.0% steps that were lost"
    )


def test_a_run_may_go_on_twice_from_one_step():
    account = Account.of([line(10, 10, 10.0, step=10.0), line(8, 4, 14.0, step=4.0), line(12, 8, 22.0, step=8.0)])
    assert account.seconds["lost"] == pytest.approx(6 + 4)
    assert account.seconds["step"] == pytest.approx(4 + 8)


def test_a_line_says_how_fast_the_steps_were():
    meter = Meter(64, flops_per_image=10**9, peak_flops=1e12)
    time.sleep(0.05)
    values = meter.measure(5, 5)
    meter.close()
    wall = sum(values[f"seconds/{kind}"] for kind in KINDS)
    assert wall >= 0.05
    assert values["images_per_second"] == pytest.approx(5 * 64 / wall)
    assert values["model_flops_per_second"] == pytest.approx(1e9 * 5 * 64 / wall)
    assert values["mfu"] == pytest.approx(1e-3 * 5 * 64 / wall)
    assert values["goodput"] == 0  # nothing ran


@pytest.mark.parametrize(
    ("device", "peak"),
    [("TPU v5 lite", 197e12), ("TPU v5", 459e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12)],
)
def test_the_peak_is_that_of_the_longest_name(device, peak):
    assert account.peak_flops(device) == peak


def test_an_unknown_device_has_no_peak():
    assert account.peak_flops("cpu") == 0
