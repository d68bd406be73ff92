"""DALL-E's discrete variational autoencoder: images to logits of codes, and codes back to images."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.layers import applied
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Features, Rules, View, pin

MARGIN = 0.1  # pixels are mapped into [MARGIN, 1 - MARGIN], where their logits are finite


class Sizes(NamedTuple):
    """The sizes of a dVAE variant."""

    channels: int  # of the first group; each further group has twice as many
    groups: int  # each but the last halves the sides of the image
    blocks: int  # in each group
    codes: int

    @property
    def stride(self) -> int:
        """Side in pixels of the square that each code stands for."""
        return 2 ** (self.groups - 1)


SIZES = {
    "Nano": Sizes(16, 4, 1, 128),
    "S": Sizes(64, 4, 2, 2048),
    "DALL-E": Sizes(256, 4, 2, 8192),  # the published network, which is BEiT's tokenizer
}


def sizes_of(variant: str, **overrides: int | None) -> Sizes:
    """The sizes of a variant, with overrides that are not None. Raises ValueError if the variant is unknown."""
    if variant not in SIZES:
        raise ValueError(f"there is no dVAE variant {variant!r}; {nearest(variant, SIZES)}")
    return SIZES[variant]._replace(**{name: value for name, value in overrides.items() if value is not None})


class DVAEEncoder(nnx.Module):
    """A residual network from images to logits of codes, one code per stride x stride pixels, in blocks of four convs.

    As an encoder, it gives the logits as tokens, in float32, and their mean as the pooled feature. A tap is the index
    of a group, whose map has stride 2^tap. Float images must be mapped by `map_pixels` already.
    Source: openai/DALL-E, dall_e/encoder.py (2102.12092); initialised as there.

    Args:
        variant: name of sizes in `SIZES`.
        channels, groups, blocks, codes: override the variant's.
        dtype: type of the products in all convolutions but the last.
    """

    no_matter: tuple[str, ...] = ()
    rules: Mapping[str, Rules] = {}

    def __init__(
        self,
        *,
        variant: str = "DALL-E",
        channels: int | None = None,
        groups: int | None = None,
        blocks: int | None = None,
        codes: int | None = None,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        self.sizes = sizes_of(variant, channels=channels, groups=groups, blocks=blocks, codes=codes)
        self.width, self.stages, self.dtype, self.remat = self.sizes.codes, self.sizes.groups, dtype, remat
        widths = [self.sizes.channels * 2**group for group in range(self.sizes.groups)]
        self.stem = Conv(3, widths[0], 7, dtype=dtype)
        self.groups = residual_groups((widths[0], *widths), self.sizes.blocks, (3, 3, 3, 1), dtype=dtype)
        self.output = Conv(widths[-1], self.sizes.codes, 1)
        draw_kernels(self, rngs)

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.sizes.channels * 2**tap for tap in taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(2**tap for tap in taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of codes for an image of (height, width). Raises ValueError if codes do not tile it."""
        h, w = image_size
        stride = self.sizes.stride
        if min(h, w) < stride or h % stride or w % stride:
            raise ValueError(f"an image of {h} x {w} pixels is no grid of codes of {stride} x {stride}")
        return h // stride, w // stride

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        """Logits of whole images, see `typing.Encoder`. Raises ValueError for kept or masked patches."""
        if view.keep is not None or view.masked is not None:
            raise ValueError("a dVAE's encoder sees whole images, without kept or masked patches")
        if any(not 0 <= tap < self.stages for tap in view.taps):
            raise ValueError(f"taps {view.taps} are not groups of an encoder that has {self.stages}")
        rows, columns = self.grid((view.image.shape[1], view.image.shape[2]))
        image = view.image
        x = self.stem(pin(map_pixels(image.astype(jnp.float32) / 255) if image.dtype == jnp.uint8 else image))
        maps = []
        for index, group in enumerate(self.groups):
            for block in group:
                x = applied(block, x, self.remat)
            maps.append(x)
            if index < self.sizes.groups - 1:
                x = max_pooled(x)
        logits = self.output(jax.nn.relu(x)).astype(jnp.float32).reshape(x.shape[0], rows * columns, -1)
        return Features(pooled=logits.mean(1), tokens=logits, maps={tap: maps[tap] for tap in view.taps})


class DVAEDecoder(nnx.Module):
    """A residual network from weights of codes to images, given as the mean and log scale of each colour's logit.

    Source: openai/DALL-E, dall_e/decoder.py (2102.12092); initialised as there.

    Args:
        sizes: sizes of the encoder that the decoder belongs to.
        embedding: width of a code's vector.
    """

    def __init__(self, sizes: Sizes, *, embedding: int = 128, dtype: str, remat: str, rngs: nnx.Rngs):
        widths = [sizes.channels * 2**group for group in reversed(range(sizes.groups))]
        self.codebook = Conv(sizes.codes, embedding, 1)
        self.groups = residual_groups((embedding, *widths), sizes.blocks, (1, 3, 3, 3), dtype=dtype)
        self.output = Conv(widths[-1], 6, 1, dtype=dtype)
        self.remat = remat
        draw_kernels(self, rngs)

    def __call__(self, codes: Float[Array, "b h w k"]) -> Float[Array, "b H W 6"]:
        x = self.codebook(codes)
        for index, group in enumerate(self.groups):
            for block in group:
                x = applied(block, x, self.remat)
            if index < len(self.groups) - 1:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
        return self.output(jax.nn.relu(x)).astype(jnp.float32)


class Conv(nnx.Module):
    """A convolution with bias that keeps the size of the image, with float32 parameters and the product in `dtype`.

    The kernel is zero until `draw_kernels` draws it.
    """

    def __init__(self, width_in: int, width_out: int, side: int, *, dtype: str = "float32"):
        self.kernel = nnx.Param(jnp.zeros((side, side, width_in, width_out)))
        self.bias = nnx.Param(jnp.zeros(width_out))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + self.bias[...].astype(self.dtype).reshape(1, 1, 1, -1)


class ResidualBlock(nnx.Module):
    """A residual block of four ReLUs and convolutions, with a quarter of the width inside.

    The branch is multiplied by `gain`. If the width changes, the input is projected before the sum.
    """

    def __init__(self, width_in: int, width_out: int, sides: tuple[int, ...], gain: float, *, dtype: str):
        inner = max(1, width_out // 4)
        widths = (width_in, inner, inner, inner, width_out)
        self.convs = nnx.List(
            [Conv(*width, side, dtype=dtype) for width, side in zip(pairwise(widths), sides, strict=True)]
        )
        self.shortcut = None if width_in == width_out else Conv(width_in, width_out, 1, dtype=dtype)
        self.gain = gain

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
        y = x
        for conv in self.convs:
            y = conv(jax.nn.relu(y))
        return (x if self.shortcut is None else self.shortcut(x)) + self.gain * y


def residual_groups(widths: tuple[int, ...], blocks: int, sides: tuple[int, ...], *, dtype: str) -> Any:
    """A list of groups, each a list of blocks, where `widths` are the widths of the input and of each group.

    The gain of each block is 1 / (number of all blocks)^2.
    """
    gain = 1 / ((len(widths) - 1) * blocks) ** 2

    def group(width_in: int, width_out: int) -> Any:
        inputs = (width_in, *[width_out] * (blocks - 1))
        return nnx.List([ResidualBlock(i, width_out, sides, gain, dtype=dtype) for i in inputs])

    return nnx.List([group(*width) for width in pairwise(widths)])


def draw_kernels(network: nnx.Module, rngs: nnx.Rngs) -> None:
    """Draw all kernels of a network from the normal distribution with variance 1 / (number of inputs).

    All kernels are cut from a single draw, since each draw takes half a second to compile.
    """
    params = nnx.to_flat_state(nnx.state(network, nnx.Param))
    kernels = [variable for path, variable in params if path[-1] == "kernel"]
    ends = np.cumsum([math.prod(kernel.shape) for kernel in kernels])
    draws = jnp.split(jax.random.normal(rngs.params(), (int(ends[-1]),)), ends[:-1])
    for kernel, draw in zip(kernels, draws, strict=True):
        kernel.set_value(draw.reshape(kernel.shape) * math.prod(kernel.shape[:3]) ** -0.5)


def max_pooled(x: Float[Array, "b h w d"]) -> Float[Array, "b H W d"]:
    """The largest value of every 2 x 2 pixels."""
    b, h, w, d = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, d).max((2, 4))


def map_pixels(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Pixels mapped linearly from [0, 1] to [0.1, 0.9]. Source: openai/DALL-E, dall_e/utils.py."""
    return (1 - 2 * MARGIN) * image + MARGIN


def unmap_pixels(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """The inverse of `map_pixels`, clipped to [0, 1]. Source: openai/DALL-E, dall_e/utils.py."""
    return jnp.clip((image - MARGIN) / (1 - 2 * MARGIN), 0, 1)
