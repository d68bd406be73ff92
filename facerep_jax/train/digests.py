"""Digests that prove a checkpoint whole: the size and SHA-256 of each of its files.

orbax silently loads a flipped bit, and takes an empty folder for the newest step. Here a checkpoint counts only once
every process has left the digests of the files that it wrote, `STEP/digests.P-of-N.json`, and only as long as all files
still match their digests. Files that systems leave in any folder, such as .DS_Store, are passed over, and so are hidden
ones that came later: nothing reads them.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from facerep_jax.files import write

NAME = "digests.{process}-of-{processes}.json"
PATTERN = re.compile(r"digests\.(\d+)-of-(\d+)\.json")
OWNED = re.compile(r"ocdbt\.process_(\d+)$")  # a folder that only one process writes
THREADS = 4  # that compute digests; SHA-256 releases the interpreter's lock
FIRST = 3  # the most faults that a message names
LITTER = re.compile(  # what systems leave in folders of others, by a part of the path
    r"\.DS_Store|\._.*|\.nfs[0-9a-fA-F]+|Thumbs\.db|ehthumbs\.db|desktop\.ini|\.~lock\..*|\.fuse_hidden.*|\.__afs.*|"
    r"\.smbdelete.*|\.syncthing\..*|~syncthing~.*|\.goutputstream-.*|\.Trash-.*|\.directory|@eaDir|\.snapshot|lost\+found",
    re.IGNORECASE,
)


def seal(folder: Path, process: int = 0, processes: int = 1) -> None:
    """Write the digests of the files that one process wrote into a complete checkpoint.

    Process 0 also covers the files that no single process owns.
    """
    mine = [name for name in files_in(folder) if owner(name, processes) == process]
    digests = {name: [size, digest] for name, (size, digest) in zip(mine, measured(folder, mine), strict=True)}
    record = {"step": int(folder.name), "files": digests}
    write(folder / NAME.format(process=process, processes=processes), json.dumps(record, indent=1))


def sealed(folder: Path) -> bool:
    """Whether all processes have left their digests."""
    found = seals(folder)
    return (
        bool(found) and {process for process, _ in found} == set(range(found[0][1])) and len(set(found)) == len(found)
    )


def fault(folder: Path, part: int = 0, parts: int = 1) -> str:
    """What is wrong with a checkpoint, in words; empty if it is whole.

    All names and sizes are checked, but the bytes of every `parts`-th file only, starting at file `part`, so that many
    processes can share the reading.
    """
    if not sealed(folder):
        return "it was not saved to its end (the digests of some process are missing)"
    expected: dict[str, tuple[int, str]] = {}
    for process, processes in seals(folder):
        name = NAME.format(process=process, processes=processes)
        try:
            record = json.loads((folder / name).read_text())
            files = record["files"].items()
            expected |= {name: (size, digest) for name, (size, digest) in files if not litter(name)}
            step = record["step"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return f"{name} cannot be read"
        if str(step) != folder.name:
            return f"it is the checkpoint of step {step} under the name of another"
    there = sizes(folder)
    faults = [f"{name} is missing" for name in sorted(expected.keys() - there.keys())]
    faults += [f"{name} was added" for name in sorted(there.keys() - expected.keys()) if not hidden(name)]
    faults += [
        f"{name} has {there[name]} bytes, not {size}"
        for name, (size, _) in sorted(expected.items())
        if there.get(name, size) != size
    ]
    if not faults:
        mine = sorted(expected)[part::parts]
        found = measured(folder, mine)
        faults = [f"{name} has other bytes" for name, of in zip(mine, found, strict=True) if of != expected[name]]
    more = [f"and {len(faults) - FIRST} more"] if len(faults) > FIRST else []
    return ", ".join(faults[:FIRST] + more)


def all_steps(folder: Path) -> list[int]:
    """The steps of all checkpoints in a folder, whole or not, in order."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit() and path.is_dir())


def sealed_steps(folder: Path) -> list[int]:
    """The steps of all sealed checkpoints in a folder, in order."""
    return [step for step in all_steps(folder) if sealed(folder / str(step))]


def seals(folder: Path) -> list[tuple[int, int]]:
    """The pairs (process, processes) in the names of a checkpoint's digest files."""
    found = (PATTERN.fullmatch(path.name) for path in sorted(folder.iterdir()))
    return [(int(match[1]), int(match[2])) for match in found if match]


def files_in(folder: Path) -> list[str]:
    """All files of a checkpoint except its digest files, finished or not, and what systems left there."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.lstrip(".").startswith("digests.") and not litter(name))


def sizes(folder: Path) -> dict[str, int]:
    """The size of each file of a checkpoint; one that vanishes meanwhile is left out."""
    found = {}
    for name in files_in(folder):
        with suppress(FileNotFoundError):
            found[name] = (folder / name).stat().st_size
    return found


def litter(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is one that systems leave in folders of others."""
    return any(LITTER.fullmatch(part) for part in Path(name).parts)


def hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is hidden."""
    return any(part.startswith(".") for part in Path(name).parts)


def owner(name: str, processes: int) -> int:
    """The process that answers for a file: the one that owns its folder, else process 0."""
    found = (OWNED.fullmatch(part) for part in Path(name).parts)
    owners = [int(match[1]) for match in found if match]
    return owners[0] if owners and owners[0] < processes else 0


def measured(folder: Path, names: Sequence[str]) -> list[tuple[int, str]]:
    """Size and digest of each file."""

    def measure(name: str) -> tuple[int, str]:
        with (folder / name).open("rb") as file:
            return (folder / name).stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(measure, names))


def meta_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint holds besides the state: position in the data, config, digests of frozen networks."""
    return json.loads((folder / "meta" / "metadata").read_text())
