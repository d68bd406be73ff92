"""A feature pyramid from maps of one resolution."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.heads import Maps, unfolded
from facerep_jax.models.layers import gelu

# torch's default of a transposed convolution, uniform within (4 * outputs)^-1/2: it takes the outputs for the inputs.
DOUBLE_INIT = nnx.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class Pyramid(nnx.Module):
    """Four maps of a transformer, all at the resolution of its patches, at 4, 2, 1 and 1/2 times that resolution.

    The first is doubled, normalised, passed through GELU and doubled again, the second doubled, the third left as it
    is, and of the fourth every 2 x 2 pixels give their largest value; a last odd row or column is dropped. Widths stay.
    Source: FaRL's `_make_fpns` (github.com/FacePerceiver/FaRL, farl/network/transformers.py), which is BEiT's.

    Args:
        widths: channels of the four maps.
        rows: how many rows share statistics of the batch normalisation; 0 for all.
    """

    def __init__(self, widths: tuple[int, ...], *, rows: int = 0, rngs: nnx.Rngs):
        self.first = Double(widths[0], rngs=rngs)
        self.norm = BatchNorm(widths[0], rows=rows)
        self.again = Double(widths[0], rngs=rngs)
        self.second = Double(widths[1], rngs=rngs)

    def __call__(self, maps: Maps, *, train: bool) -> Maps:
        quadruple = self.again(gelu(self.norm(self.first(maps[0]), train=train)))
        return quadruple, self.second(maps[1]), maps[2], halved(maps[3])


class Double(nnx.Module):
    """A transposed convolution of kernel 2 and stride 2: each pixel gives 2 x 2, and the map is twice as large."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(DOUBLE_INIT(rngs.params(), (2, 2, width, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b 2*h 2*w d"]:
        parts = jnp.einsum("bhwi,yxio->bhwyxo", x, self.kernel[...])
        return unfolded(parts) + self.bias[...].reshape(1, 1, 1, -1)


def halved(x: Float[Array, "b h w d"]) -> Float[Array, "b h//2 w//2 d"]:
    """The largest value of every 2 x 2 pixels; ValueError where there are none."""
    b, h, w, d = x.shape
    if min(h, w) < 2:
        raise ValueError(f"a pyramid needs maps of at least 2 x 2 pixels, not {h} x {w}")
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, d).max((2, 4))
