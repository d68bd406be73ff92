import itertools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.train import loop, sharding
from facerep_jax.train.checkpoint import Checkpoints, steps_in
from facerep_jax.train.state import TrainState
from facerep_jax.train.writer import Writer


class Batches:
    """Stands for a stream: batches that count up, and a state that is the next."""

    def __init__(self, event=None):
        self.state, self.event = 0, event

    def __iter__(self):
        for number in itertools.count():
            self.state = number + 1
            if self.event is not None:
                self.event(number)
            yield {"position": np.arange(8, dtype=np.uint32) + 8 * number, "truncated": np.array([number == 2] * 8)}


def step(state, frozen, batch):
    """Adds up positions; the loss is 1 until the step that `frozen` names, then no number."""
    total = state.params["total"] + batch["position"].sum()
    loss = jnp.where(state.step + 1 >= frozen["bad"], jnp.nan, 1.0)
    return state._replace(step=state.step + 1, params={"total": total}), {"loss": loss}


def train(workdir, *, batches=None, bad=10**6, **settings):
    mesh = sharding.make_mesh({"fsdp": -1})
    state = TrainState(jnp.zeros((), jnp.int32), {"total": jnp.zeros((), jnp.uint32)}, {}, {}, None)
    batches = batches or Batches()
    checkpoints, writer = Checkpoints(workdir / "checkpoints", keep=9), Writer(workdir)
    settings = {"steps": 6, "log_every": 2, "checkpoint_every": 0, "checkpoint_minutes": 0.0, **settings}
    try:
        return loop.run(
            jax.jit(step),
            state,
            {"bad": jnp.asarray(bad)},
            batches,
            batch_size=8,
            mesh=mesh,
            checkpoints=checkpoints,
            meta=lambda: {"data": batches.state},
            writer=writer,
            schedule=lambda done: done / 10,
            **settings,
        )
    finally:
        writer.close()
        checkpoints.close()


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


def test_it_is_saved_by_time(tmp_path):
    train(tmp_path, checkpoint_minutes=1e-9)
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_cut_captions_are_counted(tmp_path):
    train(tmp_path)
    assert [line["captions_truncated"] for line in lines(tmp_path)] == [0, 8, 8]


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(tmp_path):
    """Tried: saving without looking at the loss first; saving at every step then keeps step 3."""
    with pytest.raises(loop.NonFinite, match=r"the loss is nan at step 3; nothing after step 2 was saved"):
        train(tmp_path, bad=3, checkpoint_every=1)
    assert steps_in(tmp_path) == [1, 2]


def test_a_signal_ends_the_run_after_a_save(tmp_path):
    batches = Batches(lambda number: number == 2 and os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(loop.Stopped, match="saved step 3 after SIGTERM"):
        train(tmp_path, batches=batches)
    assert steps_in(tmp_path) == [3]
    assert signal.getsignal(signal.SIGTERM) is before


def interrupt_twice():
    with loop.Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interrupt_ends_at_once():
    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
