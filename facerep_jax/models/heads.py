"""Heads that read the maps of an encoder's taps, and what linear ones share.

A dense head is built as `Head(encoder, outputs, taps=taps, rngs=rngs)`. `fit(maps)` gives it what it takes from
training examples before it learns. `head(maps, rng=rng)` is a map of outputs; `rng`, one key per example, is given in
training alone, so that its absence means running statistics and no dropout. Heads see features only, never images.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.config import plain, spec
from facerep_jax.models.layers import Linear, trunc_normal
from facerep_jax.typing import Carried, Encoder

Maps = tuple[Float[Array, "b _ _ _"], ...]


class Standardise(nnx.Module):
    """Maps of all taps side by side, less their mean and divided by their standard deviation, per channel.

    The statistics are set once from training examples. A linear head on them learns as fast on one encoder as on
    another, whatever the scale of its features. Source: the normalisation before MAE's linear probe (2111.06377),
    without its running statistics.
    """

    def __init__(self, width: int):
        self.mean = Carried(jnp.zeros(width))
        self.deviation = Carried(jnp.ones(width))

    def fit(self, maps: Maps) -> None:
        """Set the statistics."""
        x = side_by_side(maps)
        self.mean.set_value(x.mean((0, 1, 2)))
        self.deviation.set_value(x.std((0, 1, 2)) + 1e-6)

    def __call__(self, maps: Maps) -> Float[Array, "b h w d"]:
        shape = (1, 1, 1, -1)
        return (side_by_side(maps) - self.mean[...].reshape(shape)) / self.deviation[...].reshape(shape)


class PerToken(nnx.Module):
    """A linear map of each token's standardised features, to outputs for `cells` x `cells` parts of its patch.

    Args:
        outputs: channels of the result.
        taps: blocks of the encoder, side by side.
        cells: parts of a side of each patch; 1 is the common linear head of dense probes.
    """

    def __init__(self, encoder: Encoder, outputs: int, *, taps: tuple[int, ...], cells: int = 1, rngs: nnx.Rngs):
        self.cells, width = cells, sum(encoder.tap_widths(taps))
        self.standardise = Standardise(width)
        self.linear = Linear(width, cells * cells * outputs, init=trunc_normal(0.01), rngs=rngs)

    def fit(self, maps: Maps) -> None:
        """Take the statistics of features."""
        self.standardise.fit(maps)

    def __call__(self, maps: Maps, *, rng: Key[Array, "b"] | None = None) -> Float[Array, "b H W k"]:
        x = self.linear(self.standardise(maps))
        return unfolded(x.reshape(*x.shape[:3], self.cells, self.cells, -1))


LINEAR = plain(spec(PerToken))  # the spec of the head that tasks have unless told otherwise


def unfolded(parts: Float[Array, "b h w y x k"]) -> Float[Array, "b h*y w*x k"]:
    """A map whose pixels are the parts of each cell, in their places."""
    b, h, w, y, x, k = parts.shape
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * y, w * x, k)


def side_by_side(maps: Maps) -> Float[Array, "b h w d"]:
    """Maps of all taps as channels of one, in float32 and at the first one's resolution."""
    size = (maps[0].shape[1], maps[0].shape[2])
    return jnp.concatenate([resized(x.astype(jnp.float32), size) for x in maps], axis=-1)


def resized(x: Float[Array, "b h w d"], size: tuple[int, int], *, antialias: bool = True) -> Float[Array, "b H W d"]:
    """`x` at another resolution by bilinear interpolation, smoothed where it shrinks.

    Without `antialias` it is torch's interpolate(mode="bilinear", align_corners=False).
    """
    if x.shape[1:3] == size:
        return x
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=antialias)
