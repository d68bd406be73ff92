"""Lists of images in pickles, as insightface trades pairs of aligned images: NAME.bin.

Each is a pickle of (files of images, whether each two are of one person), written by Python 2 or 3, some with NumPy
arrays of bytes. `torch_files` reads it, which runs nothing of it.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from facerep_jax import torch_files


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
    held = torch_files.read_pickle(path)
    if not (isinstance(held, tuple | list) and len(held) == 2 and all(np.iterable(part) for part in held)):
        raise ValueError(f"{path} is no file of pairs, which holds (images, same)")
    images, same = [_bytes(image, path) for image in held[0]], [bool(one) for one in held[1]]
    if len(images) != 2 * len(same) or not same:
        raise ValueError(f"{path}: two images for each pair are expected, not {len(images)} for {len(same)}")
    return images, same


def _bytes(image: Any, path: Path) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image.tobytes()
    if not isinstance(image, bytes):
        raise ValueError(f"{path}: an image is {type(image).__name__}, not bytes")
    return image
