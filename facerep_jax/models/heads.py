"""Dense heads, which read the maps of an encoder's taps, and the linear head.

A dense head is built as `Head(encoder, outputs, taps=taps, rngs=rngs)`. Before it learns, `fit(maps)` sets what it
takes from training examples. `head(maps, rng=rng)` is a map of outputs. `rng` holds one key per example and is given in
training only: without it, a head uses running statistics and no dropout. Heads see features, never images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Integer, Key

from facerep_jax.config import plain, spec
from facerep_jax.models.layers import Linear, trunc_normal
from facerep_jax.typing import Carried, Encoder, Equations

Maps = tuple[Float[Array, "b _ _ _"], ...]


class Standardise(nnx.Module):
    """Standardisation of each channel of all taps' maps by its mean and standard deviation over training examples.

    The statistics are set once, by `fit`. Then a linear head learns equally fast on any encoder, whatever the scale of
    its features. Source: the normalisation before MAE's linear probe (2111.06377), without its running statistics.
    """

    def __init__(self, width: int):
        self.mean = Carried(jnp.zeros(width))
        self.deviation = Carried(jnp.ones(width))

    def fit(self, maps: Maps) -> None:
        """Set mean and standard deviation from the maps of training examples."""
        x = side_by_side(maps)
        self.mean.set_value(x.mean((0, 1, 2)))
        self.deviation.set_value(x.std((0, 1, 2)) + 1e-6)

    def __call__(self, maps: Maps) -> Float[Array, "b h w d"]:
        shape = (1, 1, 1, -1)
        return (side_by_side(maps) - self.mean[...].reshape(shape)) / self.deviation[...].reshape(shape)


class PerToken(nnx.Module):
    """A linear map from each token's standardised features to outputs for `cells` x `cells` parts of its patch.

    Args:
        outputs: channels of the result.
        taps: stages of the encoder whose maps are concatenated.
        cells: parts that each side of a patch is divided into; 1 is the common linear head of dense probes.
    """

    def __init__(self, encoder: Encoder, outputs: int, *, taps: tuple[int, ...], cells: int = 1, rngs: nnx.Rngs):
        self.cells, self.outputs = cells, outputs
        self.places, width = each_once(encoder, taps)
        self.standardise = Standardise(width)
        self.linear = Linear(width, cells * cells * outputs, init=trunc_normal(0.01), rngs=rngs)

    def fit(self, maps: Maps) -> None:
        """Set the statistics of standardisation from the maps of training examples."""
        self.standardise.fit(at(maps, self.places))

    def equations(self, maps: Maps, labels: Integer[Array, "b H W"]) -> Equations:
        """A row for each token: each output's share of the pixels of each part of its patch.

        Pixels of a class that is not among the outputs do not count.
        """
        x = self.standardise(at(maps, self.places))
        b, h, w, _ = x.shape
        size = (h * self.cells, w * self.cells)

        def share(output: Array) -> Float[Array, "b h w"]:
            return averaged((labels == output).astype(jnp.float32)[..., None], size)[..., 0]

        shares = jnp.moveaxis(jax.lax.map(share, jnp.arange(self.outputs)), 0, -1)  # one after the other saves memory
        known = shares.sum(-1, keepdims=True)
        targets, weights = shares / jnp.where(known > 0, known, 1), jnp.broadcast_to(known, shares.shape)
        rows = (folded(x, self.cells).reshape(b, h * w, -1) for x in (targets, weights))
        return Equations(x.reshape(b, h * w, -1), *rows)

    def __call__(self, maps: Maps, *, rng: Key[Array, "b"] | None = None) -> Float[Array, "b H W k"]:
        x = self.linear(self.standardise(at(maps, self.places)))
        return unfolded(x.reshape(*x.shape[:3], self.cells, self.cells, -1))


LINEAR = plain(spec(PerToken))  # spec of the default head of tasks


def each_once(encoder: Encoder, taps: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The places of different stages among taps, and how many channels their maps have together.

    Several taps of an encoder with few stages are one; read once each, they count no more than others.
    """
    stages = tuple(dict.fromkeys(taps))
    return tuple(map(taps.index, stages)), sum(encoder.tap_widths(stages))


def at(maps: Maps, places: tuple[int, ...]) -> Maps:
    """Some of the maps."""
    return tuple(maps[place] for place in places)


def unfolded(parts: Float[Array, "b h w y x k"]) -> Float[Array, "b h*y w*x k"]:
    """A map in which the y x x parts of each cell become pixels, each at its own place."""
    b, h, w, y, x, k = parts.shape
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * y, w * x, k)


def folded(x: Float[Array, "b H W k"], cells: int) -> Float[Array, "b h w y x k"]:
    """What `unfolded` makes a map of, of cells x cells parts."""
    b, height, width, k = x.shape
    parts = x.reshape(b, height // cells, cells, width // cells, cells, k)
    return parts.transpose(0, 1, 3, 2, 4, 5)


def side_by_side(maps: Maps) -> Float[Array, "b h w d"]:
    """All maps concatenated along the channels, in float32 and at the resolution of the first."""
    size = (maps[0].shape[1], maps[0].shape[2])
    return jnp.concatenate([resized(x.astype(jnp.float32), size) for x in maps], axis=-1)


def resized(x: Float[Array, "b h w d"], size: tuple[int, int], *, antialias: bool = True) -> Float[Array, "b H W d"]:
    """`x` resized by bilinear interpolation; with `antialias`, it is smoothed if it shrinks.

    Without `antialias` the result is that of torch's interpolate(mode="bilinear", align_corners=False).
    """
    if x.shape[1:3] == size:
        return x
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=antialias)


def averaged(x: Float[Array, "b h w d"], size: tuple[int, int]) -> Float[Array, "b H W d"]:
    """Means over rows x columns parts of a map; the parts overlap if their number does not divide the map's sides."""
    return jnp.einsum("yh,xw,bhwd->byxd", parts_of(x.shape[1], size[0]), parts_of(x.shape[2], size[1]), x)


def parts_of(length: int, parts: int) -> Float[np.ndarray, "parts length"]:
    """The matrix that averages a line of pixels over parts of it. Source: torch.nn.AdaptiveAvgPool2d.

    Part i reaches from floor(i * length / parts) up to, not including, ceil((i + 1) * length / parts).
    """
    index, place = np.arange(parts)[:, None], np.arange(length)[None]
    # -(-a // b) is a / b rounded up. Rounding begins down and ends up covers every pixel, at the cost of overlap.
    inside = (place >= index * length // parts) & (place < -(-(index + 1) * length // parts))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)
