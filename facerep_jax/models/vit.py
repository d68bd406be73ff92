"""Vision transformers in three flavours: CLIP's, which is FaRL's, CLIP's with GELU, and MAE's, which is MCF's."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.config import pick
from facerep_jax.models.layers import (
    Activation,
    Block,
    Initializer,
    LayerNorm,
    Linear,
    cubic_matrix,
    gelu,
    quick_gelu,
    scan,
    stack,
    trunc_normal,
)
from facerep_jax.models.stems import ContrastStem
from facerep_jax.models.views import random_patches
from facerep_jax.streams import stream
from facerep_jax.typing import Features, Rules, View, pin

SIZES = {  # name: width, depth, heads
    "Nano": (96, 4, 3),
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Sizes(NamedTuple):
    """The sizes of a ViT variant."""

    width: int
    depth: int
    heads: int
    patch: int


def sizes_of(variant: str) -> Sizes:
    """The sizes of a variant such as "B/16". Raises ValueError if the name is unknown."""
    size, _, patch = variant.partition("/")
    if size not in SIZES or not patch.isdigit() or not int(patch):
        raise ValueError(f"encoder variant {variant!r} is not SIZE/PATCH; sizes: {', '.join(SIZES)}")
    return Sizes(*SIZES[size], int(patch))


class Flavour(NamedTuple):
    """The choices in which families of published vision transformers differ."""

    activation: Activation
    eps: float  # of the norms
    init: Initializer  # of linear layers except query, key and value
    fixed: bool  # whether positions are sin-cos, the patch embedding has a bias and no norm precedes the blocks
    mean: tuple[float, ...]
    std: tuple[float, ...]


FLAVOURS = {
    "clip": Flavour(quick_gelu, 1e-5, trunc_normal(0.02), False, CLIP_MEAN, CLIP_STD),
    "clip_gelu": Flavour(gelu, 1e-5, trunc_normal(0.02), False, CLIP_MEAN, CLIP_STD),
    "mae": Flavour(gelu, 1e-6, nnx.initializers.xavier_uniform(), True, IMAGENET_MEAN, IMAGENET_STD),
}


class ViT(nnx.Module):
    """A vision transformer, in one of three flavours.

    Patches are embedded, a class token and positions are added, blocks follow, and the pooled feature is the normalised
    class token.

    "clip": learned positions, a norm before the blocks, quick GELU, norms with eps 1e-5. The projection into the space
    of captions belongs to the contrastive objective.
    Source: openai/CLIP and FaRL's VisualTransformer (2112.03109), initialised as the latter.

    "clip_gelu": the same with GELU, as most models of open_clip are.

    "mae": fixed sin-cos positions, which are not parameters, a bias in the patch embedding, GELU, norms with eps 1e-6.
    The published code normalises all tokens at the end. Here `tokens` are not normalised; apply `norm_out` to them.
    Source: facebookresearch/mae (2111.06377), from which MCF (2309.03575) takes its encoders; initialised as there.

    Changed: the residual stream has type `dtype`. Under torch's autocast to bfloat16, MAE's is float32 and open_clip's
    is not.

    Args:
        flavour: "clip", "clip_gelu" or "mae".
        variant: size and patch, such as "B/16", with a size of `SIZES`.
        image_size: side in pixels of the images that positions are made for; for other images all flavours resize
            positions, as published. Checkpoints do not hold MAE's positions, so this must be the size of pre-training.
        width, depth, heads: override the variant's.
        drop_path: rate of the last block; rates grow linearly from 0 at the first.
        patch_dropout: share of the patches that are dropped in training; the class token stays. Source: 2212.00794.
        block_scale: multiplies the initial deviation of the linear layers behind attention and in MLPs; None scales it
            such that blocks of a narrow network change their input as much as they do at the width of B/16.
        stem: hidden units of a `stems.ContrastStem`, which takes the place of the linear patch embedding.
        unroll: how many blocks each iteration of the loop over blocks lays out, see `layers.scan`.
        mean, std: normalisation of RGB in [0, 1]; by default the flavour's.
    """

    no_matter: tuple[str, ...] = ("drop_path", "patch_dropout", "block_scale", "unroll")
    rules: Mapping[str, Rules] = {}

    def __init__(
        self,
        *,
        flavour: str = "clip",
        variant: str = "B/16",
        image_size: int = 224,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        drop_path: float = 0.0,
        patch_dropout: float = 0.0,
        block_scale: float | None = 1.0,
        stem: int | None = None,
        unroll: int = 1,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        for name, share in (("drop_path", drop_path), ("patch_dropout", patch_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} is a share of at least 0 and less than 1, not {share}")
        style = pick("flavour of the encoder", flavour, FLAVOURS)
        size = sizes_of(variant)
        self.patch, self.unroll = size.patch, unroll
        self.width, self.depth, self.heads = width or size.width, depth or size.depth, heads or size.heads
        self.stages = self.depth
        self.image_size, self.mean, self.std = image_size, tuple(mean or style.mean), tuple(std or style.std)
        self.dtype, self.remat, self.drop_path, self.patch_dropout = dtype, remat, drop_path, patch_dropout
        rows, columns = self.grid((image_size, image_size))

        pixels = 3 * self.patch**2
        if style.fixed:
            sincos(rows, columns, self.width)  # raises now, not in the first step, if the width cannot be split
        self.embed: Linear | ContrastStem
        if stem:
            self.embed = ContrastStem(pixels, hidden=stem, width=self.width, init=style.init, dtype=dtype, rngs=rngs)
        else:
            self.embed = Linear(pixels, self.width, init=style.init, use_bias=style.fixed, dtype=dtype, rngs=rngs)
            if style.fixed:
                limit = pixels**-0.5  # MAE leaves the bias at the default of torch's convolutions
                bias = jax.random.uniform(rngs.params(), (self.width,), minval=-limit, maxval=limit)
                self.embed.bias = nnx.Param(bias)
        normal = nnx.initializers.normal(0.02 if style.fixed else self.width**-0.5)
        self.class_token = nnx.Param(normal(rngs.params(), (self.width,)))
        self.positions = None if style.fixed else nnx.Param(normal(rngs.params(), (1 + rows * columns, self.width)))
        self.norm_in = None if style.fixed else LayerNorm(self.width, eps=style.eps)
        if block_scale is None:  # MAE's uniform initialisation scales with the width itself
            block_scale = 1.0 if style.fixed else (SIZES["B"][0] / self.width) ** 0.5
        style = style._replace(init=scaled(style.init, block_scale))
        self.blocks = stack(partial(make_block, self.width, self.heads, style, dtype), self.depth, rngs)
        self.norm_out = LayerNorm(self.width, eps=style.eps)

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (self.width,) * len(taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (self.patch,) * len(taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in an image of (height, width). Raises ValueError if patches do not tile it."""
        return grid_of(image_size, self.patch)

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        """Features of a view, see `typing.Encoder`; the stages that can be tapped are the blocks."""
        if train and self.patch_dropout:
            view = self.dropped(view, rng)
        if view.taps and view.keep is not None:
            raise ValueError("maps exist of whole images only, not of views with kept patches")
        if any(not 0 <= tap < self.depth for tap in view.taps):
            raise ValueError(
                f"taps {view.taps} are not blocks of an encoder that has {self.depth}, 0 to {self.depth - 1}"
            )
        rows, columns = self.grid((view.image.shape[1], view.image.shape[2]))
        x = self.embed(patches(self.normalise(view.image), self.patch))
        if view.masked is not None and view.fill is not None:
            x = jnp.where(view.masked[..., None], view.fill.astype(x.dtype)[None, None], x)
        position = self.positions_for(rows, columns).astype(x.dtype)
        x = x + position[None, 1:]
        if view.keep is not None:
            x = jnp.take_along_axis(x, view.keep[..., None], axis=1)
        cls = jnp.broadcast_to(self.class_token[...].astype(x.dtype) + position[0], (len(x), 1, self.width))
        x = pin(jnp.concatenate([cls, x], axis=1))
        if self.norm_in is not None:
            x = self.norm_in(x)
        x, layers = scan(
            self.blocks,
            x,
            remat=self.remat,
            drop_path=self.drop_path,
            rng=stream(rng, "drop_path") if train and rng is not None else None,
            collect=bool(view.taps),
            unroll=self.unroll,
        )
        maps: dict[int, Array] = {}
        if layers is not None:
            maps = {tap: layers[tap][:, 1:].reshape(len(x), rows, columns, self.width) for tap in view.taps}
        return Features(pooled=self.norm_out(x[:, 0]), tokens=x[:, 1:], maps=maps, cls=x[:, 0])

    def dropped(self, view: View, rng: Key[Array, "b"] | None) -> View:
        """The view after patch dropout. Raises ValueError if patches are kept or masked already, or without keys."""
        if rng is None:
            raise ValueError("patch dropout needs a key for each example")
        if view.keep is not None or view.masked is not None:
            raise ValueError("patch dropout is for whole images, not for views with kept or masked patches")
        rows, columns = self.grid((view.image.shape[1], view.image.shape[2]))
        kept = max(1, int(rows * columns * (1 - self.patch_dropout)))
        return replace(view, keep=random_patches(stream(rng, "patch_dropout"), rows * columns, kept))

    def normalise(self, image: Array) -> Float[Array, "b h w 3"]:
        """uint8 images normalised by mean and standard deviation; float images are returned as they are."""
        if image.dtype != jnp.uint8:
            return image
        mean, std = jnp.asarray(self.mean) * 255, jnp.asarray(self.std) * 255
        return (image.astype(jnp.float32) - mean.reshape(1, 1, 1, 3)) / std.reshape(1, 1, 1, 3)

    def positions_for(self, rows: int, columns: int) -> Float[Array, "{1+rows*columns} d"]:
        """Positions of the class token and of a grid of patches.

        If the grid is not that of `image_size`, positions are resized by torch's bicubic kernel. FaRL does so, and so
        does MAE, which resizes its fixed positions instead of computing them anew.
        """
        side = self.image_size // self.patch
        position = jnp.asarray(sincos(side, side, self.width)) if self.positions is None else self.positions[...]
        if (rows, columns) == (side, side):
            return position
        grid = position[1:].reshape(side, side, -1)
        grid = jnp.einsum("hi,wj,ijd->hwd", cubic_matrix(side, rows), cubic_matrix(side, columns), grid)
        return jnp.concatenate([position[:1], grid.reshape(rows * columns, -1)])


def scaled(init: Initializer, factor: float) -> Initializer:
    """An initializer whose values are `factor` times those of another."""
    return lambda *args: factor * init(*args)


def make_block(width: int, heads: int, flavour: Flavour, dtype: str, rngs: nnx.Rngs) -> Block:
    """One block of a flavour; in all, query, key and value are initialised as one xavier-uniform matrix."""
    init = flavour.init
    return Block(
        width,
        heads,
        activation=flavour.activation,
        eps=flavour.eps,
        out_init=init,
        up_init=init,
        down_init=init,
        dtype=dtype,
        rngs=rngs,
    )


def sincos(rows: int, columns: int, width: int) -> Float[np.ndarray, "{1+rows*columns} d"]:
    """Fixed positions of a class token, which are 0, and of a grid of patches in row-major order.

    The first half of each vector encodes the column, the second half the row. Each half holds sines, then cosines, of
    angular frequencies that fall geometrically from 1 to nearly 1 / 10000.
    Source: util/pos_embed.py of facebookresearch/mae. MoCo v3's positions have the two halves swapped.
    """
    if width % 4:
        raise ValueError(f"sin-cos positions need a width that is a multiple of 4, not {width}")
    # A quarter of the width for each of column and row, sine and cosine. NumPy computes in float64, as MAE does.
    frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))

    def along(count: int) -> np.ndarray:
        angle = np.arange(count)[:, None] * frequency
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    # One line of vectors for the columns and one for the rows suffice; each is repeated along the other axis.
    half = (rows, columns, width // 2)
    x, y = np.broadcast_to(along(columns), half), np.broadcast_to(along(rows)[:, None], half)
    patches = np.concatenate([x, y], axis=-1).reshape(rows * columns, width)
    return np.concatenate([np.zeros((1, width)), patches]).astype(np.float32)


def grid_of(image_size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches in an image of (height, width). Raises ValueError if patches do not tile it."""
    h, w = image_size
    if min(h, w) < patch or h % patch or w % patch:
        raise ValueError(f"an image of {h} x {w} pixels is no grid of patches of {patch} x {patch}")
    return h // patch, w // patch


def patches(image: Float[Array, "b h w 3"], patch: int) -> Float[Array, "b n p"]:
    """Non-overlapping square patches in row-major order, each flattened by row, column and colour."""
    b, h, w, c = image.shape
    x = image.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, -1, patch * patch * c)
