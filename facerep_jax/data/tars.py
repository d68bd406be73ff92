"""Archives in webdataset's layout, read sample by sample: one lies in memory, however large the archive.

Nothing is written to disk, so that no path in an archive leads anywhere. Paths that would, links, devices and files
that are too large are faults of their sample, which is then counted and left out.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 64 << 20  # bytes of a file in an archive
BLOCK = bytes(tarfile.BLOCKSIZE)  # two of these end an archive
CUT = "the archive is cut or damaged"


@dataclass
class TarSample:
    """The files of an archive that stand in a row and are called alike but for what follows the first dot."""

    key: str  # their path up to the first dot of the name
    files: dict[str, bytes] = field(default_factory=dict)  # what follows the dot, in lower case -> content
    fault: str = ""  # why it cannot be used


def samples(path: Path) -> Iterator[TarSample]:
    """The samples of an uncompressed archive, in its order.

    If it ends too early, the last one has the fault `CUT` and an empty key.

    Raises:
        ValueError: the file is no such archive.
    """
    current = TarSample("")
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if member.isdir():
                    continue
                key, kind = split_name(member.name)
                if key != current.key or kind in current.files:
                    if current.key:
                        yield current
                    current = TarSample(key)
                if fault := fault_of(member):
                    current.fault = current.fault or fault
                    continue
                file = archive.extractfile(member)
                content = file.read() if file else b""
                if len(content) < member.size:
                    raise tarfile.ReadError(CUT)
                current.files[kind] = content
            whole = ends_here(path, archive.offset)
    except tarfile.ReadError as error:
        if not current.key:
            raise ValueError(f"{path} is no uncompressed tar archive: {error}") from None
        current, whole = TarSample(""), False  # its last sample may lack a file
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is no uncompressed tar archive: {error}") from None
    if current.key:
        yield current
    if not whole:
        yield TarSample("", fault=CUT)


def ends_here(path: Path, offset: int) -> bool:
    """Whether an archive was read to its end, and not to a header that tarfile could not read, which it passes over."""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(len(BLOCK)) == BLOCK


def split_name(name: str) -> tuple[str, str]:
    """(the key, the kind in lower case) of a file: `a/000.seg.png` is `seg.png` of `a/000`."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return (folder + slash + stem, kind.lower()) if stem else (name, "")


def fault_of(member: tarfile.TarInfo) -> str:
    """What is wrong with a file of an archive before it is read; empty if nothing is."""
    if not member.isreg():
        return "a link or device in the archive"
    if member.name.startswith("/") or re.match("[A-Za-z]:", member.name) or "\\" in member.name:
        return "a path that is not relative"
    if ".." in member.name.split("/"):
        return "a path that leads out of its folder"
    if "\0" in member.name or not member.name.isprintable():
        return "a path that cannot be printed"
    if member.issparse():
        return "a sparse file"
    if member.size > LARGEST:
        return f"a file of more than {LARGEST >> 20} MiB"
    return ""
