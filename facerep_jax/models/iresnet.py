"""The residual network of face recognition: insightface's IResNet."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import applied
from facerep_jax.models.projector import torch_linear
from facerep_jax.models.resnet import Conv, normalised, require_whole
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Features, Rules, View, pin

BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 14, 3), "100": (3, 13, 30, 3), "200": (6, 26, 60, 6)}
STRIDE = 16  # of the last map
HALF = (0.5, 0.5, 0.5)


class PReLU(nnx.Module):
    """x where it is positive, and x times a learnt slope of each channel elsewhere. Source: 1502.01852."""

    def __init__(self, width: int):
        self.slope = nnx.Param(jnp.full(width, 0.25))

    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        return jnp.where(x > 0, x, self.slope[...].astype(x.dtype).reshape(1, 1, 1, -1) * x)


class IResidualBlock(nnx.Module):
    """shortcut(x) + normalised convolutions of the normalised x; there is no activation behind the sum.

    Source: 1801.07698, section 3.2.2 of its first version, "improved residual unit"; insightface, IBasicBlock.
    """

    def __init__(self, width_in: int, width: int, stride: int, *, norm_groups: int, dtype: str, rngs: nnx.Rngs):
        settings: dict[str, Any] = dict(
            init=nnx.initializers.normal(0.1), norm_groups=norm_groups, dtype=dtype, rngs=rngs
        )
        self.norm = BatchNorm(width_in, groups=norm_groups)
        self.first = Conv(width_in, width, 3, 1, **settings)
        self.activation = PReLU(width)
        self.second = Conv(width, width, 3, stride, **settings)
        self.shortcut = Conv(width_in, width, 1, stride, **settings) if stride > 1 else None

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        y = self.activation(self.first(self.norm(x, train=train), train=train))
        return self.second(y, train=train) + (x if self.shortcut is None else self.shortcut(x, train=train))


class IResNet(nnx.Module):
    """A residual network whose pooled feature is a linear map of all places of the last map, batch-normalised.

    Four stages, of strides 2, 4, 8 and 16, can be tapped. It sees whole images of one size alone, since its last layer
    reads each place by weights of its own. Source: insightface, recognition/arcface_torch/backbones/iresnet.py.

    Args:
        variant: a name of `BLOCKS`.
        image_size: side of the images in pixels, a multiple of 16; 112 is published, of faces aligned by five points.
        channels: of the first stage; each further stage has twice as many, and the feature as many as the last.
        blocks: of each stage, in place of the variant's.
        norm_groups: see `resnet.ResNet`.
        mean, std: normalisation of RGB in [0, 1].
    """

    no_matter: tuple[str, ...] = ("norm_groups",)
    rules: Mapping[str, Rules] = {"fsdp": ((r"kernel$", "largest"),)}

    def __init__(
        self,
        *,
        variant: str = "50",
        image_size: int = 112,
        channels: int = 64,
        blocks: tuple[int, ...] | None = None,
        norm_groups: int = 1,
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        if variant not in BLOCKS:
            raise ValueError(f"there is no IResNet {variant!r}; {nearest(variant, BLOCKS)}")
        if image_size < STRIDE or image_size % STRIDE:
            raise ValueError(f"an IResNet sees images of a multiple of {STRIDE} pixels, not {image_size}")
        self.image_size, self.mean, self.std, self.dtype, self.remat = image_size, tuple(mean), tuple(std), dtype, remat
        self.norm_groups = norm_groups
        settings: dict[str, Any] = dict(norm_groups=norm_groups, dtype=dtype, rngs=rngs)
        self.stem = Conv(3, channels, 3, 1, init=nnx.initializers.normal(0.1), **settings)
        self.activation = PReLU(channels)
        before = channels
        self.groups: nnx.List = nnx.List()
        self.widths = tuple(channels * 2**stage for stage in range(4))
        for width, count in zip(self.widths, blocks or BLOCKS[variant], strict=True):
            group: nnx.List = nnx.List()
            for index in range(count):
                group.append(IResidualBlock(before, width, 1 if index else 2, **settings))
                before = width
            self.groups.append(group)
        self.width, self.stages = self.widths[-1], len(self.groups)
        self.norm = BatchNorm(self.width, groups=norm_groups)
        self.linear = torch_linear((image_size // STRIDE) ** 2 * self.width, self.width, rngs=rngs)
        self.norm_out = BatchNorm(self.width, groups=norm_groups, scaled=False)

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.widths[tap] for tap in taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(2 * 2**tap for tap in taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the last map. Raises ValueError if it is not made for images of this size."""
        if image_size != (self.image_size, self.image_size):
            raise ValueError(
                f"this IResNet sees images of {self.image_size} x {self.image_size} pixels alone, not "
                f"{image_size[0]} x {image_size[1]}: its last layer reads each place of its map"
            )
        return self.image_size // STRIDE, self.image_size // STRIDE

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        """Features of whole images, see `typing.Encoder`. Raises ValueError for kept or masked patches."""
        require_whole(view, self.stages)
        self.grid((view.image.shape[1], view.image.shape[2]))
        x = self.activation(self.stem(pin(normalised(view.image, self.mean, self.std)), train=train))
        maps = []
        for group in self.groups:
            for block in group:
                x = applied(block, x, self.remat, train=train)
            maps.append(x)
        x = self.norm(x, train=train)
        pooled = self.norm_out(self.linear(x.astype(jnp.float32).reshape(x.shape[0], -1)), train=train)
        tokens = x.reshape(x.shape[0], -1, self.width)
        return Features(pooled, tokens, {tap: maps[tap] for tap in view.taps})
