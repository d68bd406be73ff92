"""Faults while checkpoints are written: nothing older than the last whole save is lost, and a message says what was.

Each with a real kill or a real file system; the undisturbed run is the measure.
"""

import os
import signal
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.train import checkpoint, digests
from facerep_jax.train.checkpoint import steps_in
from facerep_jax.train.state import TrainState
from tests.processes import SMOKE, facerep, finish, metrics, saved, wait_for

FLAGS = (f"--config={SMOKE}", "--config.steps=20", "--config.log_every=1", "--config.checkpoint_every=1")
ONE = 1  # fake devices: nothing here depends on their number


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    status, output = finish(facerep(workdir, *FLAGS, devices=ONE))
    assert status == 0, output
    return workdir


def unsealed(workdir: Path) -> bool:
    """Whether a save is under way: orbax writes, or the digests are not there yet."""
    folder = workdir / "checkpoints"
    writing = any("tmp" in path.name for path in folder.glob("*"))
    return writing or digests.all_steps(folder) != digests.sealed_steps(folder)


@pytest.mark.slow
def test_a_kill_while_a_save_is_under_way(undisturbed, tmp_path):
    """Tried: a step that counts before it is sealed; the run then begins at a checkpoint of which files are missing."""
    process = facerep(tmp_path, *FLAGS, devices=ONE)
    wait_for(lambda: len(steps_in(tmp_path)) > 1 and unsealed(tmp_path), process)
    process.send_signal(signal.SIGKILL)
    status, output = finish(process)
    assert status == -signal.SIGKILL, output
    assert steps_in(tmp_path)[-1] >= max(metrics(tmp_path)) - 2
    status, output = finish(facerep(tmp_path, *FLAGS, devices=ONE))
    assert status == 0, output
    expected, found = saved(undisturbed, 20), saved(tmp_path, 20)
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


def state_of(value: float, size: int) -> TrainState:
    rng = np.random.default_rng(int(value))  # what compresses well would fit
    params = {"kernel": jnp.asarray(rng.random((size, 256), np.float32))}
    return TrainState(jnp.asarray(int(value), jnp.int32), params, {}, {}, None)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_save_and_leaves_the_checkpoint_before(small_disk):
    """Tried: removal of the older checkpoint before the newer is sealed; nothing is then left."""
    checkpoints = checkpoint.Checkpoints(small_disk / "checkpoints", keep=1)
    checkpoints.save(1, state_of(1, 2048), {})
    checkpoints.wait()
    (small_disk / "other").write_bytes(bytes(2**20))
    checkpoints.save(2, state_of(2, 2048), {})
    with pytest.raises(checkpoint.SaveFailed, match=r"step 2 could not be saved: .*[Nn]o space.*checkpoint is step 1"):
        checkpoints.wait()
    checkpoints.close()

    (small_disk / "other").unlink()
    again = checkpoint.Checkpoints(small_disk / "checkpoints", keep=1)
    assert again.latest() == 1
    assert not digests.fault(small_disk / "checkpoints" / "1")
    again.save(2, state_of(2, 2048), {})
    again.close()
    assert steps_in(small_disk) == [2]
