import fcntl
import shutil
import signal
import subprocess
import sys

import pytest

from facerep_jax import lock

HOLD = """
import sys, time
from pathlib import Path
from facerep_jax import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {first.pid} on "), lock.held(tmp_path):
            pass
        first.send_signal(signal.SIGKILL)
    with lock.held(tmp_path):
        pass


def test_it_is_let_go_at_the_end(tmp_path):
    for _ in range(2):
        with lock.held(tmp_path):
            pass


def test_a_lock_is_taken_once_and_never_waited_for(tmp_path):
    with lock.take(tmp_path):
        assert lock.take(tmp_path) is None
    with lock.take(tmp_path) as file:
        assert file.closed is False


def test_the_lock_of_a_folder_that_was_just_removed_is_nobodys(tmp_path, monkeypatch):
    """Planted and seen red: without the second look, a lock on a file that is gone was taken for the folder's."""
    (tmp_path / "stage").mkdir()

    def flock(file, how, really=fcntl.flock):
        shutil.rmtree(tmp_path / "stage", ignore_errors=True)  # by another process, after the file was opened
        really(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert lock.take(tmp_path / "stage") is None
    with pytest.raises(FileNotFoundError):
        lock.take(tmp_path / "stage")
