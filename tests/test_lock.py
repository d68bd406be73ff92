import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading

import filelock
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
    with lock.take(tmp_path):
        pass


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


# File systems without locks

HOLD_A_LEASE = (
    """
import fcntl, socket, sys
from facerep_jax import lock
lock.LEASE = 0.6
def flock(*_): raise OSError(38, "Function not implemented")
fcntl.flock = flock
host = socket.gethostname
socket.gethostname = lambda: sys.argv[2] or host()
"""
    + HOLD
)


@pytest.fixture
def without_flock(monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 0.6)

    def fail(code=errno.ENOSYS):
        def flock(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)

    fail()
    return fail


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds a lease of tmp_path, on a host of the given name."""
    started = []

    def start(host=""):
        words = [sys.executable, "-c", HOLD_A_LEASE, tmp_path, host]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, 524, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_nothing_can_be_locked_a_lease_stands_in_and_says_its_limits(tmp_path, without_flock, caplog, code):
    without_flock(code)
    for _ in range(2):
        with lock.take(tmp_path):
            assert lock.take(tmp_path) is None
            assert f"process {os.getpid()} on " in (tmp_path / "lock").read_text()
        assert not (tmp_path / "lease").exists()
    assert f"{tmp_path} is on a file system without locks ({os.strerror(code)})" in caplog.text
    assert "if it cannot be renewed for 0.6 s" in caplog.text


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_holds_is_not_taken_for_a_file_system_without(tmp_path, without_flock, code):
    without_flock(code)
    assert lock.take(tmp_path) is None
    assert not (tmp_path / "lease").exists()


def test_the_lease_of_a_killed_process_of_this_host_is_free_at_once(tmp_path, without_flock, holder):
    process = holder()
    assert lock.take(tmp_path) is None
    process.kill()
    process.wait()
    with lock.take(tmp_path):
        pass


@pytest.mark.parametrize("exchange", [True, False])
def test_that_of_a_process_killed_elsewhere_is_free_once_it_was_not_renewed(
    tmp_path, without_flock, holder, monkeypatch, exchange
):
    """With and without a file system that exchanges two names at once, which filelock needs to replace a lease.

    Tried: without `force_break`, the second is refused for ever.
    """
    if not exchange:
        monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)
    holder("elsewhere").kill()
    assert lock.take(tmp_path) is None  # without patience
    with lock.held(tmp_path):
        pass


def test_that_of_a_process_that_lives_elsewhere_is_refused(tmp_path, without_flock, holder):
    """Tried: a lease that is broken although it was renewed."""
    process = holder("elsewhere")
    message = f"in use by process {process.pid} on elsewhere; wait"
    with pytest.raises(ValueError, match=message), lock.held(tmp_path):
        pass
    assert process.poll() is None


def test_who_lost_a_lease_ends_before_two_write_at_once(tmp_path, without_flock, monkeypatch, capfd):
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set() if status == 1 else None)
    with lock.take(tmp_path):
        (tmp_path / "lease").unlink()
        (tmp_path / "lease").touch()  # of another process
        assert ended.wait(5)
    assert capfd.readouterr().err == f"facerep: lost {tmp_path}/lease (owner-changed); another process may work there\n"


def test_whether_files_can_be_locked_is_tried(tmp_path, monkeypatch):
    assert lock.works(tmp_path)

    def lockf(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    assert not lock.works(tmp_path)
    assert list(tmp_path.iterdir()) == []
