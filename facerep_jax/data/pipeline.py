"""Records to batches by grain. Everything random is a function of (seed, position in the stream)."""

import inspect
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import grain
import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from facerep_jax.config import Spec, build, locate
from facerep_jax.data import arrays
from facerep_jax.data.arrays import Lazy
from facerep_jax.data.bucket import Unreachable
from facerep_jax.data.library import Source
from facerep_jax.data.mixture import PERIOD, Mixture, Weights, shares
from facerep_jax.data.processes import check_shared_memory, end_with_parent
from facerep_jax.data.transforms import Example, Lacking, Transform, decode, text_of

HOST_ONLY = ("id", "truncated", "replaced")  # keys that the training loop reads and the device never sees
ATTEMPTS = 16  # records in a row that may be unreadable: more are no accident
MOST = 1024  # records in a row that may be left out
THREADS = 4  # that read a split
KEPT = 256  # examples that are kept after they were read
T = TypeVar("T")


class Unreadable(Exception):
    """A record that the reader or the decoder takes for broken."""


class Part(NamedTuple):
    """One of the data sets that a stream draws from."""

    records: Source
    transforms: tuple[Transform, ...]
    name: str = ""
    absent: Mapping[str, int] = MappingProxyType({})  # feature -> records that lack it, of those that some lack


class Examples:
    """From a position in the stream to an example: the wanted keys, `position`, and what the host reads.

    A record that cannot be read or decoded is named and gives its place to that of the next position; so does one of
    `skip_ids`, and one that lacks what a transform reads. `replaced` says how many did. Raises RuntimeError if none of
    `MOST` in a row gives an example, or `ATTEMPTS` before the first that does cannot be read.
    """

    def __init__(
        self, parts: Sequence[Part], mixture: Mixture | None, keys: Sequence[str], seed: int, skip_ids: Set[str]
    ):
        self._parts, self._mixture, self._keys, self._seed = tuple(parts), mixture, tuple(keys), seed
        self._skip = skip_ids
        self._records = [read_in_part(part.records, part.transforms, keys) for part in parts]
        # Grain shuffles numbers of records, not the records, whose bytes it would count one by one.
        self._orders = [
            grain.MapDataset.range(len(part.records)).seed(seed + index).shuffle().repeat()
            for index, part in enumerate(parts)
        ]

    def __getitem__(self, position: int) -> Example:
        def ahead_of(ahead: int) -> Example | None:
            which, index = self._mixture[position + ahead] if self._mixture else (0, position + ahead)
            name = f"the record of position {position + ahead} ({self._parts[which].name})"
            example = read(self._records[which], self._orders[which][index], name)
            if self.skips(example):
                return None
            with suppress(Lacking):
                return {**self.made(which, position, example), "replaced": np.int32(ahead)}
            return None

        return first_readable(ahead_of, position)

    def skips(self, example: Example) -> bool:
        """Whether a decoded record is one of those that are not to be seen."""
        return bool(self._skip) and text_of(example["id"]) in self._skip

    def made(self, which: int, position: int, example: Example) -> Example:
        """What the transforms of a part make of a decoded record at a position."""
        rng = np.random.default_rng((self._seed, position))
        for transform in self._parts[which].transforms:
            example = transform(example, rng)
        if "id" in example:
            example["id"] = text_of(example["id"])
        wanted = {key: np.asarray(example[key]) for key in (*self._keys, *HOST_ONLY) if key in example}
        return {**wanted, "position": np.uint32(position % 2**32)}

    def check(self, which: int) -> Example:
        """An example of a part; raises ValueError if there is none, or its transforms do not give a key.

        The record is read whole, so that the error tells all that the data set has.
        """
        part = self._parts[which]

        def whole(index: int) -> tuple[Example, Example] | None:
            record = read(part.records, index % len(part.records), f"a record of {part.name}")
            with suppress(Lacking):
                return record, self.made(which, index, record)
            return None

        try:
            record, example = first_readable(whole, 0)
        except RuntimeError as error:
            raise ValueError(f"data set {part.name!r}: {error}") from error
        if missing := sorted(set(self._keys) - set(example)):
            raise ValueError(
                f"the objective needs {', '.join(missing)}, which data set {part.name!r} with its transforms does "
                f"not give; its records have: {', '.join(sorted(part.records[0]))}"
            )
        self.count_left_out(which, record)
        return example

    def count_left_out(self, which: int, record: Example) -> None:
        """Log how many records of a part are left out, by what they lack; ValueError if they are most.

        Args:
            record: one that is not left out. What the transforms say if it lacks a feature is true of all that do.
        """
        part = self._parts[which]
        for name, count in part.absent.items():
            try:
                self.made(which, 0, {**record, name: blank(record[name])} if name in record else record)
            except Lacking:
                said = f"{count} of {len(part.records)} records of {part.name!r} have no {name}"
                if 2 * count > len(part.records):
                    raise ValueError(f"{said}, which the transforms of config.data need") from None
                logging.warning("%s and are left out", said)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        end_with_parent()  # for here begins what a worker does

    def peek(self, count: int) -> list[Example]:
        """Examples of records that are evenly spaced in all parts, without those that the stream leaves out.

        Of all records if there are fewer than `count`.
        """
        ends = np.cumsum([len(part.records) for part in self._parts])
        found = []
        for number in np.unique(np.linspace(0, ends[-1] - 1, count).astype(int)):
            which = int(np.searchsorted(ends, number, side="right"))
            part = self._parts[which]
            index = int(number - ends[which] + len(part.records))
            with suppress(Unreadable, Lacking):
                example = read(part.records, index, f"record {index} of {part.name}")
                if not self.skips(example):
                    found.append(self.made(which, int(number), example))
        return found


def first_readable(made: Callable[[int], T | None], position: int) -> T:
    """The first that `made` gives of 0, 1, ...; it may raise Unreadable, or return None for what is to be left out.

    Raises:
        RuntimeError: `ATTEMPTS` cannot be read, or none of `MOST` is given.
    """
    problems: list[Exception] = []
    for ahead in range(MOST):
        try:
            if (example := made(ahead)) is not None:
                return example
        except Unreadable as error:
            problems.append(error)
        if len(problems) == ATTEMPTS:
            break
    raise RuntimeError(
        f"{ahead + 1} records in a row from position {position} on cannot be read or are to be left out"
    ) from (problems[-1] if problems else None)


def read(records: Any, index: int, name: str) -> Example:
    """A decoded record; one that cannot be read or decoded is named in the log, and raises Unreadable.

    A bucket that does not answer raises Unreachable: to pass its records over would change what a step sees.
    """
    try:
        return decode(dict(records[index]))
    except Unreachable:
        raise
    except Exception as error:  # whatever the reader or the decoder says of broken bytes
        logging.error("%s cannot be read and is passed over: %s", name, " ".join(str(error).split()))
        raise Unreadable(name) from error


def blank(value: Any) -> Any:
    """A feature's value as that of a record that lacks it; that of an image or mask stays."""
    if isinstance(value, list):
        return []
    if isinstance(value, np.ndarray) and value.dtype != np.uint8:
        return np.full_like(value, np.nan if np.issubdtype(value.dtype, np.floating) else -1)
    return value


def split_host(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch or example as what the device sees and what only the host reads."""
    device = {name: x for name, x in batch.items() if name not in HOST_ONLY}
    return device, {name: x for name, x in batch.items() if name in HOST_ONLY}


def build_transforms(
    specs: Iterable[Spec], meta: Mapping[str, Any] = MappingProxyType({}), **given: Any
) -> tuple[Transform, ...]:
    """The transforms that specs name.

    Specs among a transform's own arguments, singly or in tuples, are built too, so that it is called with transforms.
    Every callable with a parameter `meta`, or of a name in `given`, gets that argument if its spec leaves it open.

    Args:
        specs: in the order in which they are applied.
        meta: of the data set.
        given: other arguments that are known only now, such as the size of the images.

    Raises:
        ValueError: what a spec names is no `Transform`.
    """
    built = []
    for described in specs:
        built.append(_built(described, {"meta": meta, **given}))
        if not isinstance(built[-1], Transform):
            raise ValueError(f"{described['call']} is no transform: it must be callable and say what it `reads`")
    return tuple(built)


def _built(described: Spec, known: Mapping[str, Any]) -> Any:
    """What a spec names, called with its arguments and those of `known` that it takes and leaves open."""
    arguments = {name: _with_transforms(value, known) for name, value in described.items()}
    parameters = inspect.signature(locate(described)).parameters
    left_open = {name: value for name, value in known.items() if name in parameters and name not in described}
    return build(arguments, **left_open)


def _with_transforms(value: Any, known: Mapping[str, Any]) -> Any:
    """An argument, with what they name in place of specs."""
    if isinstance(value, tuple | list):
        return tuple(_with_transforms(item, known) for item in value)
    return _built(value, known) if isinstance(value, Mapping | ConfigDict) and "call" in value else value


class Stream:
    """Endless shuffled batches of this process's share; its state is one number, whatever the number of processes.

    Iterating gives dicts of NumPy arrays. `position` counts examples over all epochs.

    Args:
        parts: data sets, each read in an order of its own.
        keys: what a batch holds.
        weights: of the parts, see `Mixture`; equal if there are none.
        batch_size: over all processes.
        skip_ids: of records that are not to be seen.
        threads, workers: that read; worker processes pay once transforms in Python dominate.

    Raises:
        ValueError: a part has no records, or its transforms do not give one of the keys; or shared memory is too small
            for the workers.
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
        if empty := [part.name for part in parts if len(part.records) == 0]:
            raise ValueError(f"data set {empty[0]!r} has no records to train on")
        most = np.max([shares(each) for _, each in weights], axis=0)
        for part, taken in zip(parts, np.ceil(most * batch_size / PERIOD), strict=True):
            if taken > len(part.records):
                said = "each batch takes %d records of %s, which has %d: every batch repeats some"
                logging.warning(said, taken, part.name, len(part.records))
        self._examples = Examples(parts, mixture if len(parts) > 1 else None, keys, seed, skip_ids)
        self.example, *_ = [self._examples.check(which) for which in range(len(parts))]  # shows shapes and types
        example_bytes = sum(np.asarray(x).nbytes for x in self.example.values())
        check_shared_memory(workers, example_bytes * batch_size // jax.process_count())
        self._iterator = grain.experimental.ElasticIterator(
            grain.MapDataset.range(sys.maxsize).map(self._examples.__getitem__),
            batch_size,
            grain.sharding.ShardOptions(jax.process_index(), jax.process_count()),
            read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch),
            multiprocessing_options=grain.MultiprocessingOptions(num_workers=workers) if workers else None,
        )

    def peek(self, count: int) -> list[Example]:
        """Examples made of records that are evenly spaced, of all if there are fewer; the stream does not move."""
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
    source: Source,
    transforms: Sequence[Transform],
    keys: Sequence[str],
    *,
    optional: Sequence[str] = (),
    name: str = "",
) -> Example:
    """All records of a source as arrays over examples, transformed without chance.

    With them go `id`, a list of strings, and `row`, the records' indices in the source: records that lack what a
    transform reads are left out, and counted in the log.

    Arrays that would take more than `MEMORY_BYTES`, as images and masks of large splits do, are `Lazy`: their records
    are read and transformed again whenever examples are asked for.

    Args:
        source: the records.
        transforms: applied in order, each example with a generator of its own.
        keys: what every example must have.
        optional: what is kept too if the examples have it.
        name: of the data set, for messages.

    Raises:
        ValueError: the examples lack one of the keys, or most of them lack what a transform reads.
    """

    def one(index: int, source: Source) -> Example | Lacking:
        record = source[index]
        example = decode(dict(record))
        rng = np.random.default_rng(index)
        try:
            for transform in transforms:
                example = transform(example, rng)
        except Lacking as lacking:
            return lacking
        if missing := sorted(set(keys) - set(example)):
            raise ValueError(
                f"the task needs {', '.join(missing)}, which data set {name!r} has not; "
                f"its records have: {', '.join(sorted(record))}"
            )
        kept = {k: example[k] for k in (*keys, *optional) if k in example}
        return {"id": text_of(example["id"]), "row": np.int64(index), **kept}

    one(0, source)  # whatever a record lacks, the error names all that it has
    wanted = read_in_part(source, transforms, (*keys, *optional))
    kinds: dict[str, np.ndarray] = {}  # an example of each array that is too large

    def small(index: int) -> Example | Lacking:
        example = one(index, wanted)
        if isinstance(example, Lacking):
            return example
        found = {key: np.asarray(x) for key, x in example.items() if key not in ("id", "row")}
        large = {key: x for key, x in found.items() if x.nbytes * len(source) > arrays.MEMORY_BYTES}
        kinds.update(large)
        return {key: x for key, x in example.items() if key not in large}

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(small, range(len(source))))
    examples = [each for each in found if not isinstance(each, Lacking)]
    if lacking := [each for each in found if isinstance(each, Lacking)]:
        said = f"{len(lacking)} of {len(found)} records of {name!r} lack what the transforms need"
        if len(lacking) > len(examples):
            raise ValueError(f"{said}; the first: {lacking[0]}")
        logging.warning("%s and are left out; the first: %s", said, lacking[0])
    stacks = {key: np.stack([e[key] for e in examples]) for key in examples[0] if key != "id"}
    again = Again(lambda index: one(index, wanted), stacks["row"])
    lazy = {key: Lazy(partial(again, key), (len(examples), *x.shape), x.dtype) for key, x in kinds.items()}
    return {"id": [e["id"] for e in examples], **stacks, **lazy}


class Again:
    """Reads and transforms records again, several at a time; those that were read last stay, for their other arrays.

    Args:
        one: (index of a record) -> example.
        records: the record of each example, by index.
    """

    def __init__(self, one: Callable[[int], Any], records: np.ndarray):
        self._one, self._records = one, records
        self._pool, self._lock = ThreadPoolExecutor(THREADS), Lock()
        self._rows, self._last = np.zeros(0, int), list[Example]()

    def __call__(self, key: str, rows: np.ndarray) -> np.ndarray:
        records = self._records[rows].tolist()
        if len(rows) > KEPT:
            return self._filled(key, records)
        with self._lock:
            if not np.array_equal(rows, self._rows):
                self._rows, self._last = rows, list(self._pool.map(self._one, records))
            return np.stack([example[key] for example in self._last])

    def _filled(self, key: str, records: Sequence[int]) -> np.ndarray:
        """One array of many records, in the memory of the result alone."""
        first = np.asarray(self._one(records[0])[key])
        found = np.empty((len(records), *first.shape), first.dtype)

        def fill(place: int) -> None:
            found[place] = self._one(records[place])[key]

        for _ in self._pool.map(fill, range(len(records))):
            pass  # an error is raised here
        return found


def read_in_part(source: Source, transforms: Sequence[Transform], keys: Sequence[str]) -> Source:
    """The same records, of which only what transforms read and keys name is read; all, if a transform reads all."""
    names = {"id", "image", *keys}
    for transform in transforms:
        if transform.reads is None:
            return source
        names |= set(transform.reads)
    return source.only(names)


class Subset(Sequence[Example]):
    """Some records of a source, by index."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, tuple(int(i) for i in indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        return self._source[self._indices[index]]

    def only(self, names: Container[str]) -> "Subset":
        """The same records with no other features than these."""
        return Subset(self._source.only(names), self._indices)
