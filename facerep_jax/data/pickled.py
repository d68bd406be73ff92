"""Pickles of lists of images, read by an allow-list: nothing in them is called but what makes bytes and arrays.

insightface trades pairs of aligned images as NAME.bin: a pickle of (files of images, whether each two are of one
person), written by Python 2 or 3, some with NumPy arrays of bytes.
"""

import dataclasses
import functools
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray


def _as_bytes(content: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them in an old protocol; other codecs, of which some unpack, are refused."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it asks for the codec {encoding!r}, which is not read")
    return content.encode("latin1")


ALLOWED = {
    ("_codecs", "encode"): _as_bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): getattr(multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}


class _Unpickler(pickle.Unpickler):
    """Knows no other names than those of `ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which is not read: only bytes, lists and arrays are")
        return ALLOWED[module, name]


@dataclasses.dataclass(frozen=True)
class Pickled:
    """An image in a file of pairs; a `Part`."""

    file: str
    index: int

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)

    def read(self, folder: Path) -> bytes:
        return pairs(folder / self.file)[0][self.index]


def pairs(path: Path) -> tuple[list[bytes], list[bool]]:
    """The images of a file, and whether those at 2 i and 2 i + 1 are of one person.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such pickle, or would run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    return _pairs(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)  # a file has some 70 MB, and its images are read one by one
def _pairs(path: Path, _: int) -> tuple[list[bytes], list[bool]]:
    try:
        # Python 2's strings are bytes; as text of Latin-1, NumPy takes them too.
        held = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        images, same = held
        found = [_bytes(image) for image in images], [bool(one) for one in same]
    except Exception as error:  # pickle raises all kinds for bytes that are none
        raise ValueError(f"{path} is no file of pairs: {' '.join(str(error).split())[:200]}") from None
    if len(found[0]) != 2 * len(found[1]) or not found[1]:
        raise ValueError(f"{path}: two images for each pair are expected, not {len(found[0])} for {len(found[1])}")
    return found


def _bytes(image: Any) -> bytes:
    if isinstance(image, str):
        return image.encode("latin1")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image.tobytes()
    if not isinstance(image, bytes):
        raise ValueError(f"an image is {type(image).__name__}, not bytes")
    return image
