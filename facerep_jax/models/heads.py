"""What linear heads of tasks share: features of taps, each channel standardised."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.typing import Carried


class Standardise(nnx.Module):
    """Maps of all taps side by side, less their mean and divided by their standard deviation, per channel.

    The statistics are set once from training examples. A linear head on them learns as fast on one encoder as on
    another, whatever the scale of its features. Source: the normalisation before MAE's linear probe (2111.06377),
    without its running statistics.
    """

    def __init__(self, width: int):
        self.mean = Carried(jnp.zeros(width))
        self.deviation = Carried(jnp.ones(width))

    def fit(self, maps: tuple[Float[Array, "b _ _ _"], ...]) -> None:
        """Set the statistics."""
        x = side_by_side(maps)
        self.mean.set_value(x.mean((0, 1, 2)))
        self.deviation.set_value(x.std((0, 1, 2)) + 1e-6)

    def __call__(self, maps: tuple[Float[Array, "b _ _ _"], ...]) -> Float[Array, "b h w d"]:
        shape = (1, 1, 1, -1)
        return (side_by_side(maps) - self.mean[...].reshape(shape)) / self.deviation[...].reshape(shape)


def side_by_side(maps: tuple[Float[Array, "b _ _ _"], ...]) -> Float[Array, "b h w d"]:
    """Maps of all taps as channels of one, in float32 and at the first one's resolution."""
    size = (maps[0].shape[1], maps[0].shape[2])
    return jnp.concatenate([resized(x.astype(jnp.float32), size) for x in maps], axis=-1)


def resized(x: Float[Array, "b h w d"], size: tuple[int, int]) -> Float[Array, "b H W d"]:
    """`x` at another resolution by bilinear interpolation, smoothed where it shrinks."""
    if x.shape[1:3] == size:
        return x
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear")
