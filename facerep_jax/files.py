"""Paths as users give them, and files that are never written in part."""

import errno
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO


def local_path(flag: str, path: str | Path, *, needs: str = "") -> Path:
    """A path of this machine's file system, in which `~` is the home folder.

    Args:
        flag: names the input in errors.
        needs: what is needed of the path that a bucket does not have, in words.

    Raises:
        ValueError: it is an address such as gs://, or there is no such home folder.
    """
    if scheme := re.match(r"[a-z][a-z0-9+.-]*:/", str(path)):
        why = f", since a bucket has no {needs}" if needs else ""
        raise ValueError(
            f"{flag} {path}: {scheme[0]}/ is not supported, only paths of this machine's file system{why}; "
            + ("use a folder that all hosts see, and copy it to the bucket" if needs else "mount the bucket, or copy")
        )
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{flag} {path}: no such home folder; a file of that name is ./{path}") from None


def writable_folder(flag: str, path: Path) -> Path:
    """The nearest folder that exists, of one that is to be written to and all above it.

    Args:
        flag: names the input in errors.

    Raises:
        NotADirectoryError, PermissionError: the folder could not be made there.
    """
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{flag} {path}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        why = f" ({os.strerror(errno.EROFS)})" if os.statvfs(there).f_flag & os.ST_RDONLY else ""
        raise PermissionError(f"{flag} {path}: nothing can be written in {there}{why}")
    return there


def write(path: Path, content: str | Callable[[Path], Any]) -> None:
    """Write a file atomically: under a temporary name, which is then renamed to `path`.

    Whatever happens, `path` either holds all of the new content or is as it was before. If an error is raised, the
    temporary file is removed.

    Args:
        content: the text, or a function that writes to the path that it is given.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if isinstance(content, str):
            unfinished.write_text(content, encoding="utf-8")
        else:
            content(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def json_of(value: Any) -> str:
    """JSON of data, with null where a number is not finite."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [finite(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), indent=1, allow_nan=False)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: the file is not JSON, or holds something else than an object.
    """
    return object_of(path.read_bytes(), str(path))


def object_of(raw: bytes, where: str) -> dict[str, Any]:
    """The object that JSON in UTF-8 holds.

    Args:
        where: names the JSON in errors.

    Raises:
        ValueError: it is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(raw.decode())
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} must hold an object, not {type(value).__name__}")
    return value


def append_lines(path: Path) -> TextIO:
    """A text file opened for appending, in which each line is written at once.

    An incomplete last line, which a killed process left behind, is removed first.
    """
    whole = path.read_bytes().rpartition(b"\n")[:2] if path.exists() else (b"", b"")
    file = path.open("a", buffering=1, encoding="utf-8")
    file.truncate(sum(map(len, whole)))
    return file
