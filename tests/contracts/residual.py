"""Plug-in: a small residual network with batch normalisation. Source: 1512.03385, with two convolutions a block."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import applied
from facerep_jax.typing import Features, Rules, View, pin

HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nnx.Module):
    """A convolution and batch normalisation."""

    def __init__(self, width_in: int, width_out: int, side: int, stride: int, *, dtype: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(HE(rngs.params(), (side, side, width_in, width_out), jnp.float32))
        self.norm = BatchNorm(width_out)
        self.stride, self.dtype = stride, dtype

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        strides, layout = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
        return self.norm(
            jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=layout), train=train
        )


class ResidualBlock(nnx.Module):
    """relu(shortcut(x) + two convolutions of x)."""

    def __init__(self, width_in: int, width_out: int, stride: int, *, dtype: str, rngs: nnx.Rngs):
        self.first = Conv(width_in, width_out, 3, stride, dtype=dtype, rngs=rngs)
        self.second = Conv(width_out, width_out, 3, 1, dtype=dtype, rngs=rngs)
        same = width_in == width_out and stride == 1
        self.shortcut = None if same else Conv(width_in, width_out, 1, stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        y = self.second(jax.nn.relu(self.first(x, train=train)), train=train)
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x, train=train)))


class Residual(nnx.Module):
    """Four groups of one block each, of strides 4, 8, 16 and 32.

    Args:
        channels: of the first group; each further group has twice as many.
    """

    no_matter: tuple[str, ...] = ()
    rules: Mapping[str, Rules] = {"fsdp": ((r"kernel$", "largest"),)}

    def __init__(self, *, channels: int = 8, dtype: str, remat: str, rngs: nnx.Rngs):
        self.widths = tuple(channels * 2**group for group in range(4))
        self.width, self.stages, self.dtype, self.remat = self.widths[-1], 4, dtype, remat
        self.stem = Conv(3, channels, 3, 2, dtype=dtype, rngs=rngs)
        inputs = (channels, *self.widths[:-1])
        self.groups = nnx.List(
            ResidualBlock(*width, 2, dtype=dtype, rngs=rngs) for width in zip(inputs, self.widths, strict=True)
        )

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.widths[tap] for tap in taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(4 * 2**tap for tap in taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the last map."""
        return -(-image_size[0] // 32), -(-image_size[1] // 32)

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        if view.keep is not None or view.masked is not None:
            raise ValueError("a residual network sees whole images")
        x = view.image.astype(jnp.float32) / 127.5 - 1 if view.image.dtype == jnp.uint8 else view.image
        x, maps = jax.nn.relu(self.stem(pin(x), train=train)), []
        for group in self.groups:
            x = applied(group, x, self.remat, train=train)
            maps.append(x)
        b, _, _, d = x.shape
        return Features(x.mean((1, 2)), x.reshape(b, -1, d), {tap: maps[tap] for tap in view.taps})
