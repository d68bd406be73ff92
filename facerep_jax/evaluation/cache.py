"""Features of a frozen encoder for many images, in half precision, in memory or on disk."""

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.typing import Encoder, Features, View

ROWS = 128  # images that an encoder or a head sees at a time outside of training
FEW = 32  # at least, since a program costs more than it to run
HALF = np.dtype(ml_dtypes.bfloat16)  # the range of float32: features of large encoders have outliers


class Extractor(NamedTuple):
    """An encoder and taps, compiled once for many splits."""

    run: Callable[[Any, Array], dict[str, Array]]
    weights: Any

    def __call__(self, images: np.ndarray, folder: Path | None = None) -> dict[str, np.ndarray]:
        """Pooled features and the maps of the taps of all images: in memory, or mapped from nameless files in a folder.

        A file without a name needs no removal: its space is free again when nothing maps it, however the process ends.

        Raises:
            ValueError: the folder does not take the features.
        """
        parts = (jax.device_get(self.run(self.weights, images[rows])) for rows in parts_of(len(images)))
        if folder is None:
            whole = list(parts)
            return {name: np.concatenate([part[name] for part in whole])[: len(images)] for name in whole[0]}
        return mapped(parts, len(images), folder)

    def size(self, images: np.ndarray) -> int:
        """Bytes of the features of all images."""
        one = jax.eval_shape(self.run, self.weights, jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype))
        return len(images) * sum(math.prod(x.shape) * x.dtype.itemsize for x in one.values())


CHOICES = "choose --config.protocol.cache_folder, or encode anew in every step with --config.protocol.cache_gigabytes=0"


REMEDY = (
    "a linear probe keeps the pooled features and the maps of the task's taps; read the map of a tap, or choose a "
    "protocol that sees images, such as frozen"
)


class Kept(Features):
    """The features that a cache holds: pooled and maps. Raises ValueError if tokens or the class token are read."""

    @property
    def tokens(self) -> Array:
        raise ValueError(f"the task reads tokens, which are not kept: {REMEDY}")

    @property
    def cls(self) -> Array:
        raise ValueError(f"the task reads the class token, which is not kept: {REMEDY}")


def kept(pooled: Float[Array, "b d"], maps: Mapping[int, Float[Array, "b _ _ _"]]) -> Kept:
    """Features that hold what a cache does."""
    return Kept(pooled=pooled, tokens=pooled[:, None][:, :0], maps=maps)


def extractor(encoder: Encoder, taps: tuple[int, ...]) -> Extractor:
    """What turns images into features that `given` reads."""
    graph, weights = nnx.split(encoder)

    @jax.jit
    def run(weights: Any, images: Array) -> dict[str, Array]:
        features = nnx.merge(graph, weights)(View(images, taps=taps))
        named = {"pooled": features.pooled, **{f"map{tap}": x for tap, x in features.maps.items()}}
        return {name: x.astype(HALF) for name, x in named.items()}

    return Extractor(run, weights)


def features_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """What an `Extractor` made, of all that is in a split or batch."""
    return {name: x for name, x in data.items() if re.fullmatch(r"pooled|map\d+", name)}


def given(batch: Mapping[str, Any]) -> dict[str, Features]:
    """The features that a batch holds, as an encoder gives them."""
    features = {name: jnp.asarray(x, jnp.float32) for name, x in features_of(batch).items()}
    pooled = features.pop("pooled")
    maps = {int(name.removeprefix("map")): x for name, x in features.items()}
    return {"image": kept(pooled, maps)}


def rounded(features: Features) -> Kept:
    """Features as they come out of a cache: pooled and maps alone, with the precision that is kept there."""

    def half(x: Array) -> Array:  # XLA drops a cast to and fro if it may compute with more bits
        return jax.lax.reduce_precision(x.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)

    return kept(half(features.pooled), {tap: half(x) for tap, x in features.maps.items()})


def mapped(parts: Iterable[Mapping[str, np.ndarray]], count: int, folder: Path) -> dict[str, np.ndarray]:
    """Parts of arrays, written one after the other; `count` rows of them as arrays that are mapped from disk.

    Raises:
        ValueError: the folder does not take them.
    """
    try:
        return _mapped(parts, count, folder)
    except OSError as error:
        raise ValueError(f"cannot keep features in {folder}: {error.strerror or error}; {CHOICES}") from None


def _mapped(parts: Iterable[Mapping[str, np.ndarray]], count: int, folder: Path) -> dict[str, np.ndarray]:
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        layout: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        for part in parts:
            for name, x in part.items():
                if name not in files:
                    files[name] = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                    layout[name] = (x.dtype, (count, *x.shape[1:]))
                files[name].write(x.tobytes())
        for file in files.values():
            file.flush()
        # The mapping keeps its file. As plain arrays: rows taken from a memmap would claim to be one.
        maps = {name: np.memmap(file, layout[name][0], "r", shape=layout[name][1]) for name, file in files.items()}
        return {name: np.asarray(x) for name, x in maps.items()}


def require_space(folder: Path, needed: int) -> None:
    """Raise ValueError if a folder's disk has less than `needed` bytes left."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ValueError(f"cannot keep features in {folder}: {error.strerror}; {CHOICES}") from None
    if free < needed:
        raise ValueError(
            f"the features need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB left; {CHOICES}"
        )


def row_bytes(data: Mapping[str, np.ndarray]) -> int:
    """Bytes of one example."""
    return sum(x[0].nbytes for x in data.values())


def parts_of(count: int) -> list[np.ndarray]:
    """Rows in parts of one size, so that all compile once; the last part is filled up with the last row.

    The size is a power of two from `FEW` to `ROWS`, so that splits and label subsets of many sizes share programs.
    """
    size = min(ROWS, max(FEW, 2 ** (count - 1).bit_length()))
    return [np.minimum(np.arange(start, start + size), count - 1) for start in range(0, count, size)]
