"""Features of a frozen encoder for many images, in half precision, in memory or on disk."""

import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from facerep_jax.data.arrays import Lazy, Stack, ahead, filed
from facerep_jax.evaluation.devices import everywhere, mesh_of, spread
from facerep_jax.typing import Encoder, Features, View

ROWS = 128  # images that an encoder or a head sees at a time outside of training
FEW = 32  # at least, since a program costs more than it to run
HALF = np.dtype(ml_dtypes.bfloat16)  # the range of float32: features of large encoders have outliers


class Extractor(NamedTuple):
    """An encoder and taps, compiled once for many splits."""

    run: Callable[[Any, Array], dict[str, Array]]
    weights: Any
    mesh: Mesh | None = None  # over which images are spread

    def __call__(self, images: Stack, folder: Path | None = None) -> dict[str, Any]:
        """Pooled features and the maps of the taps of all images: in memory, or in nameless files in a folder.

        Raises:
            ValueError: the folder does not take the features.
        """
        rows = parts_of(len(images), 1 if self.mesh is None else self.mesh.size)
        batches = ahead({"image": images[part]} for part in rows)
        parts = (jax.device_get(self.run(self.weights, spread(batch, self.mesh)["image"])) for batch in batches)
        if folder is not None:
            return kept_in(folder, parts, len(images))
        whole = list(parts)
        return {name: np.concatenate([part[name] for part in whole])[: len(images)] for name in whole[0]}

    def size(self, images: Stack) -> int:
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


def extractor(encoder: Encoder, taps: tuple[int, ...], devices: int = 1) -> Extractor:
    """What turns images into features that `given` reads, on so many devices."""
    graph, weights = nnx.split(encoder)
    mesh = mesh_of(devices, devices)

    @jax.jit
    def run(weights: Any, images: Array) -> dict[str, Array]:
        features = nnx.merge(graph, weights)(View(images, taps=taps))
        named = {"pooled": features.pooled, **{f"map{tap}": x for tap, x in features.maps.items()}}
        return {name: x.astype(HALF) for name, x in named.items()}

    return Extractor(run, everywhere(weights, mesh), mesh)


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


def kept_in(folder: Path, parts: Iterable[Mapping[str, np.ndarray]], count: int) -> dict[str, Lazy]:
    """`filed`, where what fails says what can be done. Raises ValueError if the folder does not take the parts."""
    try:
        return filed(parts, count, folder)
    except OSError as error:
        raise ValueError(f"cannot keep features in {folder}: {error.strerror or error}; {CHOICES}") from None


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


def row_bytes(data: Mapping[str, Stack]) -> int:
    """Bytes of one example."""
    return sum(math.prod(x.shape[1:]) * x.dtype.itemsize for x in data.values())


def parts_of(count: int, devices: int = 1, most: int = ROWS) -> list[np.ndarray]:
    """Rows in parts of one size, which so many devices split evenly; the last part is filled up with the last row.

    The size is a power of two from `FEW` to `ROWS`, so that splits and label subsets of many sizes share programs. It
    is at most `most`, but for what devices need.
    """
    size = min(ROWS, most, max(FEW, 2 ** (count - 1).bit_length()))
    size = -(-size // devices) * devices
    return [np.minimum(np.arange(start, start + size), count - 1) for start in range(0, count, size)]
