"""Records to batches by grain. Everything random is a function of (seed, position in the stream)."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import grain
import jax
import numpy as np

from facerep_jax.config import Spec, build, locate
from facerep_jax.data.transforms import Example, Transform, decode, text_of

HOST_ONLY = ("truncated",)  # keys that the training loop reads and the device never sees
OPTIONAL = ("bbox", "landmarks_scale")  # what metrics read where it is there


class Prepare(grain.transforms.MapWithIndex):
    """A record and its position to an example that holds just the wanted keys, and `position`."""

    def __init__(self, transforms: Sequence[Transform], keys: Sequence[str], seed: int):
        self.transforms, self.keys, self.seed = tuple(transforms), tuple(keys), seed

    def map_with_index(self, index: int, record: Mapping[str, Any]) -> Example:
        example = decode(dict(record))
        rng = np.random.default_rng((self.seed, index))
        for transform in self.transforms:
            example = transform(example, rng)
        wanted = {key: np.asarray(example[key]) for key in (*self.keys, *HOST_ONLY) if key in example}
        return {**wanted, "position": np.uint32(index % 2**32)}


def build_transforms(specs: Iterable[Spec], meta: Mapping[str, Any] = MappingProxyType({})) -> tuple[Transform, ...]:
    """The transforms that specs name; those that take `meta` are given that of the data set."""

    def one(spec: Spec) -> Transform:
        return build(spec, meta=meta) if "meta" in inspect.signature(locate(spec)).parameters else build(spec)

    return tuple(one(spec) for spec in specs)


class Stream:
    """Endless shuffled batches of this process's share; its state is one number, whatever the number of processes.

    Iterating gives dicts of NumPy arrays. `position` counts examples over all epochs.

    Args:
        source: records by index.
        keys: what a batch holds; ValueError where the transforms do not give one of them.
        batch_size: over all processes.
        threads, workers: that read; worker processes pay once transforms in Python dominate.
    """

    def __init__(
        self,
        source: Sequence[Any],
        transforms: Sequence[Transform],
        keys: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        threads: int = 8,
        workers: int = 0,
        prefetch: int = 8,
        name: str = "",
    ):
        if len(source) == 0:
            raise ValueError(f"data set {name!r} has no records to train on")
        self._prepare = Prepare(transforms, keys, seed)
        self._source, self._seed = source, seed
        first = self.peek(1)[0]
        if missing := sorted(set(keys) - set(first)):
            raise ValueError(
                f"the objective needs {', '.join(missing)}, which data set {name!r} with its transforms does not give; "
                f"its records have: {', '.join(sorted(source[0]))}"
            )
        examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat().map_with_index(self._prepare)
        self._iterator = grain.experimental.ElasticIterator(
            examples,
            batch_size,
            grain.sharding.ShardOptions(jax.process_index(), jax.process_count()),
            read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch),
            multiprocessing_options=grain.MultiprocessingOptions(num_workers=workers) if workers else None,
        )

    def peek(self, count: int) -> list[Example]:
        """Examples made of records that are evenly spaced, all where there are fewer, without moving the stream."""
        indices = np.unique(np.linspace(0, len(self._source) - 1, count).astype(int))
        return [self._prepare.map_with_index(int(index), self._source[int(index)]) for index in indices]

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


def load(source: Sequence[Any], transforms: Sequence[Transform], keys: Sequence[str], *, name: str = "") -> Example:
    """All records of a source as arrays over examples, transformed without chance, plus `id` (a list of strings).

    For evaluation, where every split fits in memory at the size that the encoder sees.
    """

    def one(index: int) -> Example:
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
        return {"id": text_of(example["id"]), **{k: example[k] for k in (*keys, *OPTIONAL) if k in example}}

    with ThreadPoolExecutor(4) as pool:
        examples = list(pool.map(one, range(len(source))))
    arrays = {key: np.stack([e[key] for e in examples]) for key in examples[0] if key != "id"}
    return {"id": [e["id"] for e in examples], **arrays}


class Subset(Sequence):
    """Some records of a source, by index."""

    def __init__(self, source: Sequence[Any], indices: Sequence[int]):
        self._source, self._indices = source, tuple(int(i) for i in indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        return self._source[self._indices[index]]
