"""One process at a time in a folder.

Where the file system has locks, the kernel lets go of one when its process ends, however that ends; the file `lock`
stays and means nothing by itself. Where it has none, as some network file systems of clusters, the file `lease` stands
in, which its holder renews as long as it lives.
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from absl import logging
from filelock import LeaseCompromise, SoftFileLease, Timeout

NAME = "lock"
LEASE_NAME = "lease"
LEASE = 60.0  # seconds without renewal after which a lease is nobody's; it is renewed every third of them
HELD = (errno.EAGAIN, errno.EACCES)  # what flock answers if another process holds the lock


def take(folder: Path, *, patient: bool = False) -> ExitStack | None:
    """A folder's lock, which is held until it is closed; None if another process holds it. The folder must exist.

    Never waits, unless it is `patient` and the folder has a lease that is perhaps that of a dead process: then it waits
    until the lease is renewed or `LEASE` seconds are over.
    """
    with ExitStack() as stack:
        file = stack.enter_context((folder / NAME).open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD or (lease := _leased(folder, patient)) is None:
                return None
            stack.callback(lease.release)
            logging.warning(
                "%s is on a file system without locks (%s). A lease stands in, with these limits: if it cannot be "
                "renewed for %g s, as on a stopped or sleeping machine, this process ends; after a crash on another "
                "host, the next start waits as long",
                *(folder, error.strerror, LEASE),
            )
        try:  # whoever held it before may have removed the folder while this process opened the file
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(folder / NAME)):
                return None
        except FileNotFoundError:
            return None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        return stack.pop_all()


def _leased(folder: Path, patient: bool) -> SoftFileLease | None:
    """A folder's lease, taken; None if another process holds it."""
    path = folder / LEASE_NAME
    lease = SoftFileLease(path, lease_duration=LEASE, on_compromise=lost, thread_local=False)
    with contextlib.suppress(Timeout):
        lease.acquire(blocking=False)  # takes that of a dead process of this host, too
        return lease
    if not patient:
        return None
    before = _renewed(path)
    logging.warning("waiting up to %g s to see whether the process that holds %s still lives", LEASE, folder)
    with contextlib.suppress(Timeout):
        lease.acquire(
            timeout=1.1 * LEASE, poll_interval=LEASE / 100, cancel_check=lambda: _renewed(path) not in (before, None)
        )
        return lease
    if _renewed(path) != before:
        return None
    # Nobody renewed it, but filelock replaces it only where two names can be exchanged at once, which network file
    # systems cannot. If two processes come here at the same time, the one that loses the lease ends, see `lost`.
    lease.force_break()
    with contextlib.suppress(Timeout):
        lease.acquire(blocking=False)
        return lease
    return None


def _renewed(path: Path) -> int | None:
    """When a lease was last renewed, in ns by the file server's clock; None if there is none."""
    try:
        with path.open("rb") as file:  # on NFS, only what is opened is looked up anew
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def lost(loss: LeaseCompromise) -> None:
    """End this process at once, unsaved: another may work in the folder by now."""
    print(
        f"facerep: lost {loss.lock_file} ({loss.reason}); another process may work there", file=sys.stderr, flush=True
    )
    os._exit(1)


def works(folder: Path, how: Callable[[IO[str], int], None] | None = None) -> bool:
    """Whether files of a folder can be locked; some file systems have no locks.

    Args:
        how: `fcntl.flock`, as `take`; by `fcntl.lockf` without it, as tensorstore.
    """
    path = folder / f".{NAME}.{socket.gethostname()}.{os.getpid()}.tmp"
    try:
        with path.open("w") as file:
            (how or fcntl.lockf)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Holds a workdir, which must exist, while entered.

    Raises:
        ValueError: another process holds it.
    """
    taken = take(workdir, patient=True)
    if taken is None:
        who = (workdir / NAME).read_text().strip() or "another process"
        raise ValueError(f"{workdir} is in use by {who}; wait for its end, or choose another folder")
    with taken:
        yield
