"""Faults in writing checkpoints or records: nothing older than the last whole save is lost, a message says what was.

Each with a real kill or a real file system; the undisturbed run is the measure.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.train import checkpoint, digests
from facerep_jax.train.checkpoint import steps_in
from facerep_jax.train.state import TrainState
from facerep_jax.train.writer import lines_of
from tests.processes import FLAGS, LONG, STEPS, TINY, assert_equal_to_the_bit, facerep, finish, metrics, wait_for

SAVING = (*LONG, "--config.checkpoint_every=1")


def unsealed(workdir: Path) -> bool:
    """Whether a save is under way: orbax writes, or the digests are not there yet."""
    folder = workdir / "checkpoints"
    writing = any("tmp" in path.name for path in folder.glob("*"))
    return writing or digests.all_steps(folder) != digests.sealed_steps(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)])
def test_a_signal_while_a_save_is_under_way(undisturbed, tmp_path, fault, status):
    """Tried: a position in the data that is not restored, states then differ; a stop before the save it tells of."""
    process = facerep(tmp_path, *SAVING)
    wait_for(lambda: len(steps_in(tmp_path)) > 1 and unsealed(tmp_path), process)
    process.send_signal(fault)
    found, output = finish(process)
    assert found == status, output
    assert steps_in(tmp_path)[-1] >= max(metrics(tmp_path)) - 2
    if fault == signal.SIGTERM:
        assert f"saved step {steps_in(tmp_path)[-1]} after SIGTERM; start me again to go on" in output
    status, output = finish(facerep(tmp_path, *SAVING))
    assert status == 0, output
    assert_equal_to_the_bit(tmp_path, undisturbed, STEPS)


def state_of(value: float, size: int) -> TrainState:
    rng = np.random.default_rng(int(value))  # what compresses well would fit
    params = {"kernel": jnp.asarray(rng.random((size, 256), np.float32))}
    return TrainState(jnp.asarray(int(value), jnp.int32), params, {}, {}, None)


def save(checkpoints: checkpoint.Checkpoints, step: int) -> None:
    checkpoints.save(step, state_of(step, 64), {})
    checkpoints.wait()


class Disk:
    """A file system of its own in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system needs root")


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


def pretrain(workdir: Path, *flags: str) -> int:
    tiny = (f"--config={TINY}", *FLAGS, "--config.checkpoint_every=1")
    return cli.main(["facerep", "pretrain", f"--workdir={workdir}", *tiny, *flags])


def failing_threads(test):
    """Lets threads of orbax fail, as they do where they cannot write."""
    for kind in ("UnraisableException", "UnhandledThreadException"):
        test = pytest.mark.filterwarnings(f"ignore::pytest.Pytest{kind}Warning")(test)
    return test


@pytest.mark.slow
@failing_threads
def test_a_disk_that_fills_up_ends_the_run_and_once_there_is_room_it_goes_on(disk, capfd):
    """It does not go on without checkpoints, and repeats no step differently.

    Tried: removal of the newest checkpoint where a save fails.
    """
    disk.mount("size=40m")
    workdir, every = disk.folder / "run", "--config.checkpoint_every=2"
    assert pretrain(workdir, every) == 1
    step = steps_in(workdir)[-1]
    message = capfd.readouterr().err.strip().splitlines()[-1]
    unsaved = (
        rf"step {step + 2} could not be saved: .*[Nn]o space left on device.*; the newest checkpoint is step {step}"
    )
    unlogged = r"\[Errno 28\] No space left on device"  # whichever comes first
    assert re.fullmatch(f"facerep pretrain: ({unsaved}|{unlogged})", message), message
    assert not digests.fault(workdir / "checkpoints" / str(step))

    disk.mount("remount,size=256m")
    assert pretrain(workdir, every) == 0
    again: dict[int, float] = {}
    for line in lines_of(workdir):
        assert again.setdefault(line["step"], line["loss"]) == line["loss"]
    assert len(lines_of(workdir)) > len(again) == STEPS
    assert not list((workdir / "checkpoints").glob("*tmp*"))


@failing_threads
def test_a_log_that_cannot_be_written_ends_the_run_with_a_word(disk, capfd):
    """Tried: a command line that knows no full disk; it ends with a traceback."""
    disk.mount("size=1m")
    (disk.folder / "other").write_bytes(bytes(2**20 - 2**13))
    assert pretrain(disk.folder / "run") == 1
    assert re.fullmatch(
        r"facerep pretrain: .*No space left on device.*", capfd.readouterr().err.strip().splitlines()[-1]
    )


@failing_threads
def test_a_disk_that_cannot_be_written_to(disk, capfd):
    """Neither at the start nor, where it became so under a run, at a save; what is there can be read.

    Tried: a status of 1; no trial of the folder, whereupon threads of orbax hold up the exit for five minutes.
    """
    disk.mount("size=64m")
    checkpoints = checkpoint.Checkpoints(disk.folder / "checkpoints")
    save(checkpoints, 1)
    threads = set(threading.enumerate())
    disk.mount("remount,ro")
    with pytest.raises(checkpoint.SaveFailed, match=r"step 2 could not be saved: .*Read-only file system.*step 1"):
        save(checkpoints, 2)
    checkpoints.close()
    assert all(thread.daemon for thread in set(threading.enumerate()) - threads)  # others would hold up the exit
    assert cli.main(["facerep", "verify", str(disk.folder)]) == 0
    assert pretrain(disk.folder / "run") == 2
    assert "Read-only file system" in capfd.readouterr().err.strip().splitlines()[-1]


@failing_threads
def test_a_folder_of_checkpoints_that_somebody_removed(tmp_path, caplog):
    """Between two saves: it is said, and the next save is whole. During one: it fails.

    Tried: no look at what is there; the first is then not said.
    """
    folder = tmp_path / "checkpoints"
    checkpoints = checkpoint.Checkpoints(folder)
    save(checkpoints, 1)
    shutil.rmtree(folder)
    save(checkpoints, 2)
    assert "somebody removed the checkpoints 1" in caplog.text
    assert not digests.fault(folder / "2")
    checkpoints.save(3, state_of(3, 4096), {})
    while not list(folder.glob("3*/**/manifest.ocdbt")):  # or orbax would begin in a folder that it makes anew
        time.sleep(0.001)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(checkpoint.SaveFailed, match=r"step 3 could not be saved: .*; there is no checkpoint"):
        checkpoints.wait()
    checkpoints.close()


@failing_threads
def test_a_full_disk_ends_the_save_and_leaves_the_checkpoint_before(disk):
    """Tried: removal of the older checkpoint before the newer is written, which makes the room that it lacks."""
    disk.mount("size=4m")
    checkpoints = checkpoint.Checkpoints(disk.folder / "checkpoints", keep=1)
    checkpoints.save(1, state_of(1, 2048), {})
    checkpoints.wait()
    (disk.folder / "other").write_bytes(bytes(2**20))
    checkpoints.save(2, state_of(2, 2048), {})
    with pytest.raises(checkpoint.SaveFailed, match=r"step 2 could not be saved: .*[Nn]o space.*checkpoint is step 1"):
        checkpoints.wait()
    checkpoints.close()

    (disk.folder / "other").unlink()
    again = checkpoint.Checkpoints(disk.folder / "checkpoints", keep=1)
    assert again.latest() == 1
    assert not digests.fault(disk.folder / "checkpoints" / "1")
    again.save(2, state_of(2, 2048), {})
    again.close()
    assert steps_in(disk.folder) == [2]


def test_a_full_disk_ends_prepare_with_one_line_and_nothing_is_left(disk, capfd):
    """Tried: the error of ArrayRecord let through, a traceback of TFDS."""
    disk.mount("size=100k")
    faces = ("generated_faces:size=32,train=8,validation=0,test=0", "--name=tiny", f"--data_dir={disk.folder}")
    assert cli.main(["facerep", "prepare", *faces]) == 1
    message = "facerep prepare: generated_faces/tiny could not be written: No space left on device\n"
    assert capfd.readouterr() == ("", message)
    assert list(disk.folder.iterdir()) == []
    disk.mount("remount,size=1m")
    assert cli.main(["facerep", "prepare", *faces]) == 0
