"""The files that a raw set names: found in spite of how other systems write names, and read, in part or as they are."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Part(Protocol):
    """An image or a mask that is no file of its own: a piece of a larger file, or put together from several.

    What it depends on is in its `repr`, which the digest of a set is made from. It travels to other processes.
    """

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it is made from, relative to the set's folder."""
        ...

    def read(self, folder: Path) -> bytes:
        """What a file of its own would hold: an image file, or a PNG of class ids."""
        ...


def contents(folder: Path, named: str | Part) -> bytes:
    """What the file holds that a sample names, or what would be in it."""
    return named.read(folder) if isinstance(named, Part) else (folder / named).read_bytes()


def files_of(named: str | Part) -> tuple[str, ...]:
    """The files that have to be there for what a sample names."""
    return named.files if isinstance(named, Part) else (named,)


def find(root: Path, path: str, listing: str) -> tuple[str, str]:
    r"""A file in a folder: (its path as the folder has it, where it leads to if a link leads out of the folder, or "").

    A name may be written with `\` as on Windows, with blanks around it, or with accents encoded otherwise (NFC, NFD).

    Args:
        root: the folder, resolved.
        path: relative to it.
        listing: what names the path, for errors; empty for the folder.

    Raises:
        ValueError: the path is absolute, or leads out of the folder by `..`.
        FileNotFoundError: there is no such file; the message names what is nearly called so.
    """
    for spelling in _spellings(path):
        if os.path.isabs(spelling) or ".." in Path(spelling).parts or re.match("[A-Za-z]:/", spelling):
            raise ValueError(f"{path!r} must be relative to {listing or root} and inside its folder")
        real = os.path.realpath(root / spelling)
        if os.path.isfile(real):  # unlike Path's, it takes a name that is too long for that of no file
            return spelling, "" if Path(real).is_relative_to(root) else real
    if "://" in path:
        raise FileNotFoundError(f"{path!r} is an address; only files in {root} are read")
    raise FileNotFoundError(f"no file {path!r} in {root}{_hint(root, path)}")


def _spellings(path: str) -> Iterator[str]:
    """The path, and where these differ, how its file may be called."""
    plain = path.replace("\\", "/").strip()
    yield from dict.fromkeys((path, plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))))


def _hint(root: Path, path: str) -> str:
    """What follows the message that there is no such file: a dangling link, or a name that is nearly the same."""
    place = root
    for part in Path(path.replace("\\", "/")).parts:
        if os.path.islink(place / part) and not os.path.exists(place / part):
            return f": it is a link to {os.readlink(place / part)}, which is not there"
        if not os.path.exists(place / part):
            near = [name for name in os.listdir(place) if _alike(name) == _alike(part)] if place.is_dir() else []
            return f"; did you mean {near[0]!r}, as it is called in {place}?" if near else ""
        place /= part
    return ""


def _alike(name: str) -> str:
    """A name without what people do not see or hear: case, blanks around it, the encoding of accents."""
    return unicodedata.normalize("NFC", name).strip().casefold()
