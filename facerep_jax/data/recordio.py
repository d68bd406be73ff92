"""MXNet's RecordIO files, in which sets of recognition are traded: images, each with the number of a person.

A record is 0xced7230a, a word with 3 bits of what part it is and 29 bits of length, and so many bytes, padded to a
multiple of four; all little-endian. A record that holds the magic number itself is split there into several parts. Its
bytes are a header (flag, label, two ids: 24 bytes), `flag` labels more if that is not 0, and the image's file. The
index is a text: a key and where its record begins, on each line.

Source: dmlc-core, include/dmlc/recordio.h; MXNet, python/mxnet/recordio.py (what is written, not their code).
"""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from facerep_jax.data import listings

MAGIC = 0xCED7230A
HEADER = struct.Struct("<IfQQ")  # flag, label, id, second id
WHOLE, FIRST, MIDDLE, LAST = range(4)


@dataclasses.dataclass(frozen=True)
class Record:
    """The image of a record; a `Part`."""

    file: str
    offset: int

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)

    def read(self, folder: Path) -> bytes:
        with open(folder / self.file, "rb") as file:
            return unpacked(record(file, self.offset))[1]


def record(file: BinaryIO, offset: int) -> bytes:
    """The bytes of the record that begins at `offset`; ValueError if none does."""
    file.seek(offset)
    parts: list[bytes] = []
    while True:
        head = file.read(8)
        magic, word = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
        kind, length = word >> 29, word & ((1 << 29) - 1)
        if magic != MAGIC or kind not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            raise ValueError(f"no record begins at byte {offset} of {file.name}: is the index that of another file?")
        part = file.read(length + -length % 4)[:length]
        if len(part) < length:
            raise ValueError(f"the record at byte {offset} of {file.name} is cut off")
        parts.append(part)
        if kind in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts)


def unpacked(data: bytes) -> tuple[tuple[float, ...], bytes]:
    """The labels of a record's bytes, and the file in it."""
    if len(data) < HEADER.size:
        raise ValueError(f"a record of {len(data)} bytes is shorter than its header")
    flag, label, _, _ = HEADER.unpack_from(data)
    if not flag:
        return (label,), data[HEADER.size :]
    end = HEADER.size + 4 * flag
    if len(data) < end:
        raise ValueError(f"a record of {len(data)} bytes has no room for {flag} labels")
    return struct.unpack_from(f"<{flag}f", data, HEADER.size), data[end:]


def index(path: Path) -> dict[int, int]:
    """Key -> where its record begins."""
    found = {}
    for row in listings.rows(path, 2):
        if not all(word.isdigit() for word in row):
            raise ValueError(f"{path}: a key and a number of bytes are expected, not {' '.join(row)[:40]!r}")
        found[int(row[0])] = int(row[1])
    return found


def labelled(folder: Path, name: str) -> Iterator[tuple[int, float, Record]]:
    """(key, label, image) of each image of NAME.rec and NAME.idx, in the order of keys.

    Where record 0 has labels, it has no image: the first is the key after the last image, as in insightface's files,
    whose further records list the keys of each person.
    """
    keys = index(folder / f"{name}.idx")
    with open(folder / f"{name}.rec", "rb") as file:
        first = min(keys, default=0)
        last = None
        if keys and first == 0 and HEADER.unpack_from(record(file, keys[0]).ljust(HEADER.size, b"\0"))[0]:
            last = int(unpacked(record(file, keys.pop(0)))[0][0])
        for key, offset in sorted(keys.items()):
            if last is None or key < last:
                labels, _ = unpacked(record(file, offset))
                yield key, labels[0], Record(f"{name}.rec", offset)
