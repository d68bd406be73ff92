"""Arrays over examples that are read as they are needed, so that a large split never lies in memory."""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

MEMORY_BYTES = 2**27  # of an array that lies in memory, at most; larger ones are read as they are needed
PART = 32  # examples that are read at a time by what looks at each of them once

T = TypeVar("T")
Indices = Int[np.ndarray, "_"]


class Lazy:
    """An array over examples whose rows are read whenever they are asked for.

    It is indexed along its first axis, by a number, a slice or an array of rows; `np.asarray` reads all of it.

    Args:
        read: (rows) -> array of these rows.
        shape: of the whole.
    """

    def __init__(self, read: Callable[[Indices], np.ndarray], shape: tuple[int, ...], dtype: Any):
        self._read, self.shape, self.dtype = read, tuple(shape), np.dtype(dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        rows = np.arange(len(self))[index]
        if rows.size == 0:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        found = self._read(np.atleast_1d(rows))
        return found if np.ndim(rows) else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __iter__(self) -> Iterator[Any]:
        return (example for part in in_parts(self) for example in part)

    def take(self, rows: Indices) -> "Lazy":
        """Some of its examples, which are not read yet."""
        return Lazy(lambda some: self._read(rows[some]), (len(rows), *self.shape[1:]), self.dtype)


Stack = np.ndarray | Lazy  # an array over examples, in memory or not


def in_parts(x: Stack, size: int = PART) -> Iterator[np.ndarray]:
    """All examples of an array in order, some at a time."""
    return ahead(x[start : start + size] for start in range(0, len(x), size))


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each of which is made in a thread while the one before it is used."""
    made, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, made, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, made, end)
            yield item  # type: ignore[misc]


def filed(parts: Iterable[Mapping[str, np.ndarray]], count: int, folder: Path) -> dict[str, Lazy]:
    """Parts of arrays, written one after the other into a folder; `count` rows of them, read back as they are needed.

    A file without a name needs no removal: its space is free again once nothing reads it, however the process ends.

    Raises:
        OSError: the folder does not take them.
    """
    files: dict[str, Any] = {}
    kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    with ExitStack() as stack:
        for part in parts:
            for name, x in part.items():
                if name not in files:
                    files[name] = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                    kinds[name] = (x.dtype, x.shape[1:])
                files[name].write(x.tobytes())
        for file in files.values():
            file.flush()
        return {
            name: Lazy(FileRows(files[name], dtype, shape), (count, *shape), dtype)
            for name, (dtype, shape) in kinds.items()
        }


class FileRows:
    """Reads rows of a file, which may be closed; mapped pages would count as memory of the process."""

    def __init__(self, file: Any, dtype: np.dtype, shape: tuple[int, ...]):
        self._dtype, self._shape = dtype, shape
        self._descriptor = os.dup(file.fileno())  # so that the file stays when it is closed
        weakref.finalize(self, os.close, self._descriptor)

    def __call__(self, rows: Indices) -> np.ndarray:
        found = np.empty((len(rows), *self._shape), self._dtype)
        bytes_of = found.reshape(len(rows), -1).view(np.uint8)
        size = bytes_of.shape[1]
        for row, into in zip(rows.tolist(), bytes_of, strict=True):
            if os.preadv(self._descriptor, [into.data], row * size) != size:
                raise OSError(f"row {row} of a file of features or predictions is cut short")
        return found
