"""Records to batches by grain. Everything random is a function of (seed, position in the stream)."""

import functools
import inspect
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from absl import logging

from facerep_jax.config import Spec, build, locate
from facerep_jax.data.mixture import Mixture, Weights
from facerep_jax.data.transforms import Example, Transform, decode, text_of

HOST_ONLY = ("id", "truncated", "replaced")  # keys that the training loop reads and the device never sees
ATTEMPTS = 16  # records in a row that may be unreadable: more are no accident


class Unreadable(Exception):
    """A record that the reader or the decoder takes for broken."""


class Part(NamedTuple):
    """One of the data sets that a stream draws from."""

    records: Sequence[Any]
    transforms: tuple[Transform, ...]
    name: str = ""


class Examples:
    """From a position in the stream to an example: the wanted keys, `position`, and what the host reads.

    A record that cannot be read or decoded is named and gives its place to that of the next position; so does one of
    `skip_ids`. `replaced` says how many did. RuntimeError where `ATTEMPTS` in a row do not give one.
    """

    def __init__(
        self, parts: Sequence[Part], mixture: Mixture | None, keys: Sequence[str], seed: int, skip_ids: Set[str]
    ):
        self._shuffled = [
            grain.MapDataset.source(part.records).seed(seed + index).shuffle().repeat()
            for index, part in enumerate(parts)
        ]
        self._parts, self._mixture, self._keys, self._seed = tuple(parts), mixture, tuple(keys), seed
        self._skip = skip_ids

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int) -> Example:
        problem: Exception | None = None
        for ahead in range(ATTEMPTS):
            which, index = (0, position + ahead) if self._mixture is None else self._mixture[position + ahead]
            name = f"the record of position {position + ahead} ({self._parts[which].name})"
            try:
                example = read(self._shuffled[which], index, name)
            except Unreadable as error:
                problem = error
                continue
            if not self._skip or text_of(example["id"]) not in self._skip:
                return {**self.made(which, position, example), "replaced": np.int32(ahead)}
        raise RuntimeError(
            f"{ATTEMPTS} records in a row from position {position} on cannot be read or are to be skipped"
        ) from problem

    def made(self, which: int, position: int, example: Example) -> Example:
        """What the transforms of a part make of a decoded record at a position."""
        rng = np.random.default_rng((self._seed, position))
        for transform in self._parts[which].transforms:
            example = transform(example, rng)
        if "id" in example:
            example["id"] = text_of(example["id"])
        wanted = {key: np.asarray(example[key]) for key in (*self._keys, *HOST_ONLY) if key in example}
        return {**wanted, "position": np.uint32(position % 2**32)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        end_with_parent()  # for here begins what a worker does

    def peek(self, count: int) -> list[Example]:
        """Examples made of readable records that are evenly spaced in all parts, all where there are fewer."""
        ends = np.cumsum([len(part.records) for part in self._parts])
        found = []
        for number in np.unique(np.linspace(0, ends[-1] - 1, count).astype(int)):
            which = int(np.searchsorted(ends, number, side="right"))
            part = self._parts[which]
            index = int(number - ends[which] + len(part.records))
            with suppress(Unreadable):
                example = read(part.records, index, f"record {index} of {part.name}")
                found.append(self.made(which, int(number), example))
        return found


@functools.cache
def end_with_parent() -> None:
    """In a process that another started, see to it that it ends when that one does, even if it is killed.

    A worker of grain's would otherwise stay, with all its memory, once its run was killed.
    """
    if (parent := multiprocessing.parent_process()) is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def read(records: Any, index: int, name: str) -> Example:
    """A decoded record; one that cannot be is named in the log, and raises Unreadable."""
    try:
        return decode(dict(records[index]))
    except Exception as error:  # whatever the reader or the decoder says of broken bytes
        logging.error("%s cannot be read and is passed over: %s", name, " ".join(str(error).split()))
        raise Unreadable(name) from error


def split_host(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch or example as what the device sees and what only the host reads."""
    device = {name: x for name, x in batch.items() if name not in HOST_ONLY}
    return device, {name: x for name, x in batch.items() if name in HOST_ONLY}


def build_transforms(specs: Iterable[Spec], meta: Mapping[str, Any] = MappingProxyType({})) -> tuple[Transform, ...]:
    """The transforms that specs name; those that take `meta` are given that of the data set."""

    def one(spec: Spec) -> Transform:
        return build(spec, meta=meta) if "meta" in inspect.signature(locate(spec)).parameters else build(spec)

    return tuple(one(spec) for spec in specs)


class Stream:
    """Endless shuffled batches of this process's share; its state is one number, whatever the number of processes.

    Iterating gives dicts of NumPy arrays. `position` counts examples over all epochs.

    Args:
        parts: data sets, each read in an order of its own.
        keys: what a batch holds; ValueError where the transforms of a part do not give one of them.
        weights: of the parts, as of `Mixture`; equal where there are none.
        batch_size: over all processes.
        skip_ids: of records that are not to be seen.
        threads, workers: that read; worker processes pay once transforms in Python dominate.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        keys: Sequence[str],
        *,
        weights: Weights = (),
        batch_size: int,
        seed: int,
        skip_ids: Set[str] = frozenset(),
        threads: int = 8,
        workers: int = 0,
        prefetch: int = 8,
    ):
        weights = weights or ((0, (1.0,) * len(parts)),)
        mixture = Mixture(weights, batch_size, sets=len(parts), seed=seed)
        for part in parts:
            if len(part.records) == 0:
                raise ValueError(f"data set {part.name!r} has no records to train on")
            alone = Examples([part], None, keys, seed, frozenset())
            if missing := sorted(set(keys) - set(alone[0])):
                raise ValueError(
                    f"the objective needs {', '.join(missing)}, which data set {part.name!r} with its transforms does "
                    f"not give; its records have: {', '.join(sorted(part.records[0]))}"
                )
        parts = [part._replace(records=read_in_part(part.records, part.transforms, keys)) for part in parts]
        self._examples = Examples(parts, mixture if len(parts) > 1 else None, keys, seed, skip_ids)
        self._iterator = grain.experimental.ElasticIterator(
            grain.MapDataset.source(self._examples),
            batch_size,
            grain.sharding.ShardOptions(jax.process_index(), jax.process_count()),
            read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch),
            multiprocessing_options=grain.MultiprocessingOptions(num_workers=workers) if workers else None,
        )

    def peek(self, count: int) -> list[Example]:
        """Examples made of records that are evenly spaced, all where there are fewer, without moving the stream."""
        return self._examples.peek(count)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self._iterator)

    @property
    def state(self) -> dict[str, Any]:
        return self._iterator.get_state()

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._iterator.set_state(state)

    def close(self) -> None:
        self._iterator.close()


def load(
    source: Sequence[Any],
    transforms: Sequence[Transform],
    keys: Sequence[str],
    *,
    optional: Sequence[str] = (),
    name: str = "",
) -> Example:
    """All records of a source as arrays over examples, transformed without chance, plus `id` (a list of strings).

    For evaluation, where every split fits in memory at the size that the encoder sees. `optional` keys are loaded if
    they are there.
    """

    def one(index: int, source: Sequence[Any]) -> Example:
        record = source[index]
        example = decode(dict(record))
        rng = np.random.default_rng(index)
        for transform in transforms:
            example = transform(example, rng)
        if missing := sorted(set(keys) - set(example)):
            raise ValueError(
                f"the task needs {', '.join(missing)}, which data set {name!r} has not; "
                f"its records have: {', '.join(sorted(record))}"
            )
        return {"id": text_of(example["id"]), **{k: example[k] for k in (*keys, *optional) if k in example}}

    one(0, source)  # whatever a record lacks, the error names all that it has
    wanted = read_in_part(source, transforms, (*keys, *optional))
    with ThreadPoolExecutor(4) as pool:
        examples = list(pool.map(one, range(len(source)), itertools.repeat(wanted)))
    arrays = {key: np.stack([e[key] for e in examples]) for key in examples[0] if key != "id"}
    return {"id": [e["id"] for e in examples], **arrays}


def read_in_part(source: Any, transforms: Sequence[Any], keys: Sequence[str]) -> Any:
    """The same records with the features alone that transforms read or keys name; with all, where one does not say."""
    if not all(hasattr(transform, "reads") for transform in transforms):
        return source
    return only(source, {"id", "image", *keys, *(name for transform in transforms for name in transform.reads)})


def only(source: Any, names: Container[str]) -> Any:
    """The same records without other features, where they can be read in part."""
    return source.only(names) if hasattr(source, "only") else source


class Subset(Sequence):
    """Some records of a source, by index."""

    def __init__(self, source: Sequence[Any], indices: Sequence[int]):
        self._source, self._indices = source, tuple(int(i) for i in indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        return self._source[self._indices[index]]

    def only(self, names: Container[str]) -> "Subset":
        """The same records without other features, where they can be read in part."""
        return Subset(only(self._source, names), self._indices)
