"""UPerHead, FaRL's dense head for landmarks and face parts."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.heads import Maps, averaged, resized
from facerep_jax.models.layers import Linear
from facerep_jax.models.pyramid import Pyramid
from facerep_jax.streams import stream
from facerep_jax.typing import Encoder

LEVELS = 4

KAIMING = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # mmcv's ConvModule's (recalled)
TORCH = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default for a convolution

bilinear = partial(resized, antialias=False)


class UPerHead(nnx.Module):
    """A head that fuses four maps of an encoder into one, with context of the whole image and with its details.

    First, the coarsest level gets averages over 1, 2 x 2, 3 x 3 and 6 x 6 parts of the image, so that every pixel has
    global context. Then each level is added to the next finer one. Finally, all levels are resized to the finest
    resolution and fused. Dropout drops whole channels, with a key per example. Everything is in float32, as in FaRL.

    A transformer's maps all have one resolution and are turned into a pyramid first, as in FaRL, so that the result has
    four times their resolution. Maps whose strides double, such as a ResNet's, are a pyramid already and are used
    unchanged, so that the result has the resolution of the first.

    Source: UPerNet (1807.10221); mmsegmentation 0.18 UPerHead, and FaRL's use of it (2112.03109).
    Convolutions before a normalisation are initialised as in mmcv (recalled), other kernels as in torch.
    Changed: biases start at 0; in torch they start at random.

    Args:
        outputs: channels of the result, such as classes.
        taps: four stages of the encoder.
        channels: channels of every level; FaRL's 768 need a large accelerator, 64 suit small ones.
        pool_sizes: numbers of parts per side over which the coarsest level is averaged.
        dropout: share of the channels that are dropped before the output layer.
        rows: how many rows share statistics of the batch normalisation; 0 for all.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        *,
        taps: tuple[int, ...],
        channels: int = 768,
        pool_sizes: tuple[int, ...] = (1, 2, 3, 6),
        dropout: float = 0.1,
        rows: int = 0,
        rngs: nnx.Rngs,
    ):
        if len(taps) != LEVELS:
            raise ValueError(f"UPerHead reads {LEVELS} taps of the encoder, not {len(taps)}: {tuple(taps)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share from 0 to less than 1, not {dropout}")
        widths = encoder.tap_widths(taps)
        self.pyramid = Pyramid(widths, rows=rows, rngs=rngs) if is_flat(encoder.tap_strides(taps)) else None
        self.pool_sizes, self.dropout = tuple(pool_sizes), dropout
        conv = partial(Convolution, channels=channels, rows=rows, rngs=rngs)
        self.pooled = nnx.List(conv(widths[3], size=1) for _ in self.pool_sizes)
        self.context = conv(widths[3] + len(self.pool_sizes) * channels, size=3)
        self.lateral = nnx.List(conv(width, size=1) for width in widths[:3])
        self.level = nnx.List(conv(channels, size=3) for _ in widths[:3])
        self.fusion = conv(LEVELS * channels, size=3)
        self.out = Linear(channels, outputs, init=TORCH, rngs=rngs)

    def fit(self, maps: Maps) -> None:
        """Do nothing: this head takes nothing from examples before it learns."""

    def __call__(self, maps: Maps, *, rng: Key[Array, "b"] | None = None) -> Float[Array, "b H W k"]:
        train = rng is not None
        maps = tuple(x.astype(jnp.float32) for x in maps)
        levels = maps if self.pyramid is None else self.pyramid(maps, train=train)
        # All levels are brought to the same width. The coarsest also gets its global context.
        laterals = [conv(x, train=train) for conv, x in zip(self.lateral, levels[:3], strict=True)]
        laterals.append(self.in_context(levels[3], train))
        # From coarse to fine, so that context from the coarsest level reaches the finest through all between.
        for finer, coarser in ((2, 3), (1, 2), (0, 1)):
            laterals[finer] = laterals[finer] + bilinear(laterals[coarser], size_of(laterals[finer]))
        # A convolution smooths what bilinear interpolation added; nothing was added to the coarsest level.
        outputs = [conv(x, train=train) for conv, x in zip(self.level, laterals[:3], strict=True)] + laterals[3:]
        together = jnp.concatenate([bilinear(x, size_of(outputs[0])) for x in outputs], axis=-1)
        x = self.fusion(together, train=train)
        if rng is not None:
            x = x * kept_channels(rng, x.shape[-1], self.dropout)
        return self.out(x)

    def in_context(self, x: Float[Array, "b h w d"], train: bool) -> Float[Array, "b h w c"]:
        """The coarsest level, fused with its averages over parts of several sizes."""
        parts = [
            bilinear(conv(averaged(x, (size, size)), train=train), size_of(x))
            for conv, size in zip(self.pooled, self.pool_sizes, strict=True)
        ]
        return self.context(jnp.concatenate([x, *parts], axis=-1), train=train)


class Convolution(nnx.Module):
    """A convolution that keeps the resolution, followed by batch normalisation and ReLU."""

    def __init__(self, width: int, *, channels: int, size: int, rows: int, rngs: nnx.Rngs):
        self.kernel = nnx.Param(KAIMING(rngs.params(), (size, size, width, channels), jnp.float32))
        self.norm = BatchNorm(channels, rows=rows)

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b h w o"]:
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, self.kernel[...], (1, 1), "SAME", dimension_numbers=layout)
        return jax.nn.relu(self.norm(x, train=train))


def is_flat(strides: tuple[int, ...]) -> bool:
    """Whether all strides are equal; if not, each must be twice the one before. Raises ValueError otherwise."""
    if len(set(strides)) > 1 and any(b != 2 * a for a, b in pairwise(strides)):
        raise ValueError(f"UPerHead reads maps of one stride or of strides that double, not of {tuple(strides)}")
    return len(set(strides)) == 1


def kept_channels(rng: Key[Array, "b"], channels: int, dropout: float) -> Float[Array, "b 1 1 d"]:
    """The factor of each channel of each example: 0 if the channel is dropped, else 1 / (1 - dropout)."""
    keys = stream(rng, "dropout")
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - dropout, (channels,)))(keys)
    return (kept / (1 - dropout))[:, None, None].astype(jnp.float32)


def size_of(x: Float[Array, "b h w d"]) -> tuple[int, int]:
    """Height and width of a map."""
    return x.shape[1], x.shape[2]
