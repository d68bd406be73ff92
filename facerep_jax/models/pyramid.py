"""Feature pyramid from maps of one resolution."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.heads import Maps, unfolded
from facerep_jax.models.layers import gelu

# torch's default for a transposed convolution, uniform within ±(4 * outputs)^-1/2: torch counts outputs as the fan-in.
DOUBLE_INIT = nnx.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class Pyramid(nnx.Module):
    """Resizing of a transformer's four maps, all at the resolution of its patches, to 4, 2, 1 and 1/2 times as much.

    The first map is doubled, normalised, passed through GELU and doubled again. The second is doubled, the third is
    unchanged, and the fourth is max-pooled over 2 x 2 pixels, which drops an odd last row or column. Widths stay.
    Source: FaRL's `_make_fpns` (github.com/FacePerceiver/FaRL, farl/network/transformers.py), which is BEiT's.
    Changed: for patches of 8 pixels FaRL has levels of 2, 1, 1/2 and 1/4 times the resolution, without normalisation
    and GELU (as a review read its code); here all patches have one pyramid.

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
    """A transposed convolution of kernel 2 and stride 2, which turns each pixel into 2 x 2."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(DOUBLE_INIT(rngs.params(), (2, 2, width, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b 2*h 2*w d"]:
        parts = jnp.einsum("bhwi,yxio->bhwyxo", x, self.kernel[...])
        return unfolded(parts) + self.bias[...].reshape(1, 1, 1, -1)


def halved(x: Float[Array, "b h w d"]) -> Float[Array, "b h//2 w//2 d"]:
    """The largest value of every 2 x 2 pixels. Raises ValueError if the map is smaller than that."""
    b, h, w, d = x.shape
    if min(h, w) < 2:
        raise ValueError(f"a pyramid needs maps of at least 2 x 2 pixels, not {h} x {w}")
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, d).max((2, 4))
