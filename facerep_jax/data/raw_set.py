"""A raw set: its faces as they are given, before anything is written."""

import dataclasses
import functools
import hashlib
import itertools
import json
import marshal
import os
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facerep_jax.data.features import NO_MORE, Numbers
from facerep_jax.data.paths import Part, files_of
from facerep_jax.data.records import Table
from facerep_jax.data.values import PATHS

RULES = 2  # of how files are read; raised where the same files give other records, so that sets are prepared anew
PLAIN = (str, int, float, bool, tuple, list, dict)  # types of values that `Packed` packs, beside arrays


class Packed(Mapping[str, Any]):
    """The values of a sample as one string of bytes, unpacked whenever they are asked for.

    As objects they take a kilobyte and more, which a manifest of a million lines has no room for.
    """

    __slots__ = ("_bytes", "_objects")

    def __init__(self, values: Mapping[str, Any]):
        arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        plain = {key: value for key, value in values.items() if type(value) in PLAIN}
        # A `Part` stays as it is: it may share what is large with those of other samples.
        self._objects = {key: values[key] for key in values if key not in arrays and key not in plain} or None
        shown = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in arrays.items()}
        self._bytes = marshal.dumps((tuple(values), shown, plain))

    def _unpacked(self) -> dict[str, Any]:
        order, arrays, others = marshal.loads(self._bytes)
        others.update(self._objects or {})
        for key, (dtype, shape, content) in arrays.items():
            others[key] = np.frombuffer(content, dtype).reshape(shape)
        return {key: others[key] for key in order}

    def __getitem__(self, key: str) -> Any:
        return self._unpacked()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(marshal.loads(self._bytes)[0])

    def __len__(self) -> int:
        return len(marshal.loads(self._bytes)[0])

    def items(self) -> ItemsView[str, Any]:
        """All at once, which to ask for one after the other would unpack each time."""
        return self._unpacked().items()


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One face of a raw set."""

    values: Mapping[str, Any]  # by feature, as a line of faces.jsonl has them; relative paths, or `Part`s
    id: str = ""  # empty for the image's path
    split: str = "train"
    line: int = 0  # of the listing, from 1; 0 if there is no listing
    direct: bool = False  # whether the image's file is stored as it is, which `check` finds out


@dataclasses.dataclass(frozen=True)
class Samples:
    """All faces of a raw set, their values checked; files are not looked at yet. Made by `gather`."""

    folder: Path
    samples: tuple[Sample, ...]
    meta: Mapping[str, Any]  # as given, and names of attributes, action units, identities and expressions
    sizes: Mapping[str, int]  # landmarks, attributes, action_units
    listing: str = ""  # file whose lines the samples are
    meta_file: str = ""  # file that `meta` comes from
    described_by: tuple[str, ...] = ()  # files that say all that `samples` and `meta` hold
    link: str = ""  # the first file that is a link out of the folder, in words; empty if there is none
    more: Numbers = dataclasses.field(default_factory=lambda: NO_MORE)
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what the user should hear of it

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over all that is known of the samples, and every file that they name with its path."""
        total = hashlib.sha256(_canonical(RULES))
        if not self.described_by:
            more = {name: (dtype.__name__, shape) for name, (dtype, shape) in self.more.items()}
            total.update(_canonical([self.meta, self.sizes, more, self.tables]))
            for sample in self.samples:
                total.update(_canonical([sample.id, sample.split, dict(sample.values.items())]))
        named = (sample.values[key] for sample in self.samples for key in PATHS if key in sample.values)
        paths = list(dict.fromkeys([*self.described_by, *itertools.chain.from_iterable(map(files_of, named))]))
        for path, digest in zip(paths, threaded(self._digest_of, paths, "hashing"), strict=True):
            total.update(f"{digest} {path}\n".encode())
        return total.hexdigest()

    def _digest_of(self, path: str) -> str:
        with open(self.folder / path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def place(self, sample: Sample) -> str:
        """Where a sample comes from, in front of what is wrong with it."""
        if self.listing:
            return f"{self.folder / self.listing} line {sample.line}, "
        return f"{self.folder}, {self.called(sample)}: "

    def called(self, sample: Sample) -> str:
        """What a sample is called among the others: its line, or its id."""
        return f"line {sample.line}" if self.listing else sample.id or str(sample.values.get("image", ""))

    @property
    def place_of_meta(self) -> str:
        """Where `meta` comes from, in front of what is wrong with it."""
        return f"{self.folder / self.meta_file}, " if self.meta_file else f"{self.folder}, meta: "


def _canonical(value: Any) -> bytes:
    def plain(other: Any) -> Any:
        return repr(other) if isinstance(other, Part) else other.tolist()

    return json.dumps(value, sort_keys=True, default=plain).encode() + b"\n"


def threaded(function: Callable[[Any], Any], items: Sequence[Any], what: str) -> Iterator[Any]:
    """`map` in threads and in order, with a progress bar. In chunks, because a future per image weighs a kilobyte."""
    chunks = [items[start : start + 64] for start in range(0, len(items), 64)]
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc=what, total=len(items), unit=" files", leave=False, disable=None) as bar,
    ):
        try:
            for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
                bar.update(len(results))
                yield from results
        finally:
            pool.shutdown(cancel_futures=True)
