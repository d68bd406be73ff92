"""Paths as users give them, and files that are never there in part."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO


def local_path(flag: str, path: str | Path) -> Path:
    """A path as given; ValueError for a bucket's address."""
    if scheme := re.match(r"[a-z][a-z0-9+.-]*:/", str(path)):
        raise ValueError(f"{flag} {path}: {scheme[0]}/ is not supported, only paths of this machine's file system")
    return Path(path)


def write(path: Path, content: str | Callable[[Path], Any]) -> None:
    """Write a text, or what a function writes to the path that it is given, under another name; then give it its own.

    Whatever happens, `path` holds all of the new content or is as it was before, and nothing else is left behind.
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


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: the file is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, not {type(value).__name__}")
    return value


def append_lines(path: Path) -> TextIO:
    """A file open for more lines, each of which is there at once; what a killed process left half is removed."""
    whole = path.read_bytes().rpartition(b"\n")[:2] if path.exists() else (b"", b"")
    file = path.open("a", buffering=1, encoding="utf-8")
    file.truncate(sum(map(len, whole)))
    return file
