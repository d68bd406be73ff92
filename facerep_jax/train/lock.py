"""Lock on a workdir, so that only one run uses it at a time."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

NAME = "lock"


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Hold the lock of an existing workdir inside this context; raises ValueError if another process holds it.

    The kernel releases the lock when its process ends, however it ends. The file stays and means nothing by itself.
    """
    with (workdir / NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise ValueError(f"{workdir} is in use by {who}; wait for its end, or choose another --workdir") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
