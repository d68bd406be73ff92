"""Residual networks as torchvision has them, to the name of each array (`weights.torchvision_resnet`)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import Initializer, applied
from facerep_jax.models.vit import IMAGENET_MEAN, IMAGENET_STD
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Features, Rules, View, pin

HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class Sizes(NamedTuple):
    """The sizes of a variant."""

    blocks: tuple[int, ...]  # of each stage
    bottleneck: bool  # whether blocks have three convolutions, of which the last widens fourfold, or two
    widen: int = 1  # factor of the inner width of a bottleneck


SIZES = {
    "18": Sizes((2, 2, 2, 2), False),
    "34": Sizes((3, 4, 6, 3), False),
    "50": Sizes((3, 4, 6, 3), True),
    "101": Sizes((3, 4, 23, 3), True),
    "152": Sizes((3, 8, 36, 3), True),
    "50-wide": Sizes((3, 4, 6, 3), True, 2),  # torchvision's wide_resnet50_2; SwAV's own wide networks widen all maps
    "101-wide": Sizes((3, 4, 23, 3), True, 2),
}


class Conv(nnx.Module):
    """A convolution without bias, framed with zeros so that it keeps the size at stride 1, and batch normalisation."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        side: int,
        stride: int,
        *,
        init: Initializer = HE,
        norm_groups: int,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (side, side, width_in, width_out), jnp.float32))
        self.norm = BatchNorm(width_out, groups=norm_groups)
        self.stride, self.dtype = stride, dtype

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        return self.norm(convolved(x, self.kernel[...], self.stride, self.dtype), train=train)


class ResidualBlock(nnx.Module):
    """relu(shortcut(x) + convolutions of x), with ReLUs between them.

    Source: 1512.03385, figure 5. The stride is that of the 3 x 3 convolution, torchvision's "v1.5", not the paper's.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        stride: int,
        sizes: Sizes,
        *,
        norm_groups: int,
        zero_init: bool,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        inner, self.width = width * sizes.widen, 4 * width if sizes.bottleneck else width
        plan = [(width_in, width, 3, stride), (width, width, 3, 1)]
        if sizes.bottleneck:
            plan = [(width_in, inner, 1, 1), (inner, inner, 3, stride), (inner, self.width, 1, 1)]
        settings: dict[str, Any] = dict(norm_groups=norm_groups, dtype=dtype, rngs=rngs)
        self.convs = nnx.List(Conv(*each, **settings) for each in plan)
        same = width_in == self.width and stride == 1
        self.shortcut = None if same else Conv(width_in, self.width, 1, stride, **settings)
        if zero_init:
            self.convs[-1].norm.scale = nnx.Param(jnp.zeros(self.width))

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b H W o"]:
        *first, last = self.convs
        y = x
        for conv in first:
            y = jax.nn.relu(conv(y, train=train))
        return jax.nn.relu(last(y, train=train) + (x if self.shortcut is None else self.shortcut(x, train=train)))


class ResNet(nnx.Module):
    """A residual network with batch normalisation, whose pooled feature is the mean of the last map.

    Four stages, of strides 4, 8, 16 and 32, can be tapped. It sees images of any size, whole: no patches are kept or
    masked. In training each pass takes statistics of its own and moves the running ones, see `batch_norm`. Which
    examples share statistics, and so the features in training, depends on the order of the batch if `norm_groups` is
    more than one.

    Source: 1512.03385; torchvision.models.resnet, whose outputs, gradients and initial distribution it has.

    Args:
        variant: a name of `SIZES`.
        channels: of the first stage, before a bottleneck's factor of four; each further stage has twice as many.
        blocks: of each stage, in place of the variant's.
        norm_groups: how many groups each pass is divided into, within which batch normalisation takes its statistics. 1
            is the global batch; the published SwAV has groups of eight devices, so an eighth of the devices.
        zero_init: whether blocks begin as their shortcut, with a scale of 0 behind their last convolution.
        mean, std: normalisation of RGB in [0, 1].
    """

    no_matter: tuple[str, ...] = ("norm_groups", "zero_init")
    rules: Mapping[str, Rules] = {"fsdp": ((r"kernel$", "largest"),)}

    def __init__(
        self,
        *,
        variant: str = "50",
        channels: int = 64,
        blocks: tuple[int, ...] | None = None,
        norm_groups: int = 1,
        zero_init: bool = False,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        if variant not in SIZES:
            raise ValueError(f"there is no residual network {variant!r}; {nearest(variant, SIZES)}")
        sizes = SIZES[variant]._replace(blocks=tuple(blocks or SIZES[variant].blocks))
        if len(sizes.blocks) != 4 or min(sizes.blocks) < 1:
            raise ValueError(f"a residual network has four stages of at least one block, not {sizes.blocks}")
        self.mean, self.std, self.dtype, self.remat = tuple(mean), tuple(std), dtype, remat
        self.norm_groups, self.zero_init = norm_groups, zero_init
        settings: dict[str, Any] = dict(norm_groups=norm_groups, dtype=dtype, rngs=rngs)
        self.stem = Conv(3, channels, 7, 2, **settings)
        before = channels
        self.groups: nnx.List = nnx.List()
        for stage, count in enumerate(sizes.blocks):
            group: nnx.List = nnx.List()
            for index in range(count):
                stride = 2 if stage and not index else 1
                block = ResidualBlock(before, channels * 2**stage, stride, sizes, zero_init=zero_init, **settings)
                group.append(block)
                before = block.width
            self.groups.append(group)
        self.widths = tuple(group[-1].width for group in self.groups)
        self.width, self.stages = self.widths[-1], len(self.groups)

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
        x = jax.nn.relu(self.stem(pin(normalised(view.image, self.mean, self.std)), train=train))
        x, maps = pooled_by_three(x), []
        for group in self.groups:
            for block in group:
                x = applied(block, x, self.remat, train=train)
            maps.append(x)
        b, _, _, d = x.shape
        return Features(x.astype(jnp.float32).mean((1, 2)), x.reshape(b, -1, d), {tap: maps[tap] for tap in view.taps})


def convolved(
    x: Float[Array, "b h w i"], kernel: Float[Array, "s s i o"], stride: int, dtype: str
) -> Float[Array, "b H W o"]:
    """A convolution by a kernel of odd side, in `dtype`, over an image with a frame of zeros half as wide."""
    frame = (kernel.shape[0] // 2,) * 2
    return jax.lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        (stride, stride),
        (frame, frame),  # on both sides: with "SAME", strides of 2 would see other pixels than torch's
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def pooled_by_three(x: Float[Array, "b h w d"]) -> Float[Array, "b H W d"]:
    """The largest of 3 x 3 values at every second place."""
    frame = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), frame)


def normalised(image: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Float[Array, "b h w 3"]:
    """uint8 images normalised by mean and standard deviation of RGB in [0, 1]; float images as they are."""
    if image.dtype != jnp.uint8:
        return image
    mean_255, std_255 = (255 * jnp.asarray(x).reshape(1, 1, 1, 3) for x in (mean, std))
    return (image.astype(jnp.float32) - mean_255) / std_255


def require_whole(view: View, stages: int) -> None:
    """Check that a network without patches can see a view. Raises ValueError if patches are kept or masked in it."""
    if view.keep is not None or view.masked is not None:
        raise ValueError("a residual network sees whole images, without kept or masked patches; take a ViT")
    if any(not 0 <= tap < stages for tap in view.taps):
        raise ValueError(f"taps {view.taps} are not stages of an encoder that has {stages}, 0 to {stages - 1}")
