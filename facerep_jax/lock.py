"""One process at a time in a folder.

The kernel lets go of a lock when its process ends, however that ends; the file stays and means nothing by itself.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

NAME = "lock"


def take(folder: Path) -> TextIO | None:
    """The open file of a folder's lock, which is held until it is closed; None if another process holds it.

    Never waits. The folder must exist.
    """
    file = (folder / NAME).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed the folder while this process opened the file.
        mine = os.path.samestat(os.fstat(file.fileno()), os.stat(folder / NAME))
    except (BlockingIOError, FileNotFoundError):
        mine = False
    if not mine:
        file.close()
        return None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Holds a workdir, which must exist, while entered.

    Raises:
        ValueError: another process holds it.
    """
    file = take(workdir)
    if file is None:
        who = (workdir / NAME).read_text().strip() or "another process"
        raise ValueError(f"{workdir} is in use by {who}; wait for its end, or choose another --workdir")
    with file:
        yield
