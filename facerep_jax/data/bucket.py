"""Prepared data sets in buckets of Google's cloud, which are read where they lie.

What describes a set is read by etils and gcsfs, its records by ArrayRecord, which knows such buckets itself and tries
again for a quarter of an hour where one does not answer. The extra `gs` installs gcsfs.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from etils import epath

from facerep_jax.files import local_path

SCHEME = "gs://"
NETWORK = ("aiohttp", "gcsfs", "google", "requests", "urllib3", "fsspec")  # packages whose errors are no set's fault
DAMAGED = ("Corrupted", "Invalid Riegeli", "should be at least")  # in what ArrayRecord says of broken bytes, or nothing

Folder: TypeAlias = Path | epath.Path


class Unreachable(OSError):
    """A bucket does not answer, or not to this user: what lies there may be as it should."""


def readable(flag: str, path: str | Path) -> Folder:
    """A folder to read data sets from: one of this machine's file system, or gs://BUCKET/....

    Args:
        flag: names the input in errors.

    Raises:
        ValueError: it is another address, or gcsfs is not installed.
    """
    if str(path).startswith("s3:/"):
        raise ValueError(
            f"{flag} {path}: s3:// cannot be read, since ArrayRecord reads folders and gs:// alone; copy the data sets "
            "here, or mount the bucket as a folder"
        )
    if not str(path).startswith(SCHEME):
        return local_path(flag, path)
    if importlib.util.find_spec("gcsfs") is None:
        raise ValueError(f"{flag} {path}: gs:// needs gcsfs: pip install 'facerep_jax[gs]'")
    return epath.Path(path)


def remote(path: object) -> bool:
    """Whether a path is in a bucket."""
    return str(path).startswith(SCHEME)


@contextmanager
def answering(path: object) -> Iterator[None]:
    """Turns what goes wrong between here and a bucket into Unreachable, while something below a path is read.

    What is missing or damaged there raises what it raises of folders, and so do paths of this machine.
    """
    try:
        yield
    except Exception as error:
        if not remote(path) or isinstance(error, Unreachable | FileNotFoundError) or not _of_network(error):
            raise
        raise Unreachable(f"{path} does not answer: {' '.join(str(error).split()) or type(error).__name__}") from error


def _of_network(error: Exception) -> bool:
    if isinstance(error, RuntimeError):  # ArrayRecord raises no others
        said = str(error).strip()
        return bool(said) and not any(words in said for words in DAMAGED)
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in NETWORK
