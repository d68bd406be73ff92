"""Vision transformers: CLIP's, which is FaRL's, MAE's, which is MCF's, and settings in which published ones differ."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.config import pick
from facerep_jax.models.attention import EINSUM
from facerep_jax.models.layers import (
    ACTIVATIONS,
    Block,
    Initializer,
    LayerNorm,
    Linear,
    scan,
    stack,
    trunc_normal,
)
from facerep_jax.models.pooling import AttentionPool
from facerep_jax.models.positions import (
    BICUBIC,
    KINDS,
    LEARNED,
    RESIZINGS,
    ROPE,
    SINCOS,
    SINCOS_ROWS,
    resized,
    rope,
    sincos,
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

    activation: str  # of `ACTIVATIONS`
    eps: float  # of the norms
    init: Initializer  # of linear layers except query, key and value
    init_scales: bool  # whether that scales with the width itself
    deviation: float | None  # of the first tokens and positions; None: width^-1/2
    positions: str  # of `positions.KINDS`
    patch_bias: bool  # whether the patch embedding has a bias
    norm_in: bool  # whether a norm precedes the blocks
    mean: tuple[float, ...]
    std: tuple[float, ...]


CLASS, MEAN, ATTENTION = "class", "mean", "attention"
POOLS = dict.fromkeys((CLASS, MEAN, ATTENTION))
CLIP = Flavour("quick_gelu", 1e-5, trunc_normal(0.02), False, None, LEARNED, False, True, CLIP_MEAN, CLIP_STD)
FLAVOURS = {
    "clip": CLIP,
    "clip_gelu": CLIP._replace(activation="gelu"),
    "mae": Flavour(
        "gelu", 1e-6, nnx.initializers.xavier_uniform(), True, 0.02, SINCOS, True, False, IMAGENET_MEAN, IMAGENET_STD
    ),
}


class ViT(nnx.Module):
    """A vision transformer, in a flavour or with settings of its own.

    Patches are embedded, positions are added, a class token and registers are put before them, blocks follow, and the
    pooled feature is the normalised class token.

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
        flavour: "clip", "clip_gelu" or "mae"; what other arguments leave at None is as the flavour has it.
        variant: size and patch, such as "B/16", with a size of `SIZES`.
        image_size: side in pixels of the images that positions are made for; for other images all flavours resize
            positions, as published. Checkpoints do not hold MAE's positions, so this must be the size of pre-training.
        width, depth, heads: override the variant's.
        hidden: units of the MLPs; by default four times the width.
        activation: of the MLPs, "quick_gelu", "gelu" or "gelu_tanh".
        eps: of the norms.
        positions: "learned"; "sincos", MAE's; "sincos_rows", MoCo v3's, see `positions.sincos`; or "rope", DINOv3's,
            which turn queries and keys and which no resolution resizes.
        resizing: kernel that resizes positions, "bicubic", which does not antialias; or "linear", which does, as that
            of SigLIP 2 for images of any aspect ratio. By default bicubic.
        patch_bias: whether the patch embedding has a bias.
        norm_in: whether a norm precedes the blocks.
        class_token: whether there is one; by default there is.
        registers: further tokens, without positions, that no head sees; by default none. Source: 2309.16588.
        layer_scale: initial factor of each branch of a block, see `layers.Block`; by default there are none.
        pool: the pooled feature: "class", the normalised class token; "mean", the norm of the mean of all patches'
            tokens; "attention", `pooling.AttentionPool` of their normalised tokens. By default the class token.
        drop_path: rate of the last block; rates grow linearly from 0 at the first.
        patch_dropout: share of the patches that are dropped in training; the class token stays. Source: 2212.00794.
        block_scale: multiplies the initial deviation of the linear layers behind attention and in MLPs; None scales it
            such that blocks of a narrow network change their input as much as they do at the width of B/16.
        stem: hidden units of a `stems.ContrastStem`, which takes the place of the linear patch embedding.
        attention: the program of the blocks' attention, which changes no result: "einsum", the default; "splash", a
            kernel for TPUs, for images of about 500 patches and more; "cudnn", for GPUs. See `attention`.
        unroll: how many blocks each iteration of the loop over blocks lays out, see `layers.scan`.
        mean, std: normalisation of RGB in [0, 1]; by default the flavour's.
    """

    no_matter: tuple[str, ...] = ("drop_path", "patch_dropout", "block_scale", "layer_scale", "attention", "unroll")
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
        hidden: int | None = None,
        activation: str | None = None,
        eps: float | None = None,
        positions: str | None = None,
        resizing: str | None = None,
        patch_bias: bool | None = None,
        norm_in: bool | None = None,
        class_token: bool | None = None,
        registers: int | None = None,
        layer_scale: float | None = None,
        pool: str | None = None,
        drop_path: float = 0.0,
        patch_dropout: float = 0.0,
        block_scale: float | None = 1.0,
        stem: int | None = None,
        attention: str | None = None,
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
        said: dict[str, Any] = dict(
            activation=activation, eps=eps, positions=positions, patch_bias=patch_bias, norm_in=norm_in
        )
        said |= dict(mean=mean and tuple(mean), std=std and tuple(std))
        style = pick("flavour of the encoder", flavour, FLAVOURS)
        style = style._replace(**{name: value for name, value in said.items() if value is not None})
        act = pick("activation of the encoder", style.activation, ACTIVATIONS)
        pick("positions of the encoder", style.positions, KINDS)
        self.resizing = resizing or BICUBIC
        pick("resizing of positions", self.resizing, RESIZINGS)
        self.pool = pool or CLASS
        pick("pool of the encoder", self.pool, POOLS)
        has_class = class_token is not False
        if self.pool == CLASS and not has_class:
            raise ValueError("without a class token the pooled feature is that of pool=mean or pool=attention")
        size = sizes_of(variant)
        self.patch, self.unroll = size.patch, unroll
        self.width, self.depth, self.heads = width or size.width, depth or size.depth, heads or size.heads
        self.stages = self.depth
        self.image_size, self.mean, self.std, self.kind = image_size, style.mean, style.std, style.positions
        self.dtype, self.remat, self.drop_path, self.patch_dropout = dtype, remat, drop_path, patch_dropout
        rows, columns = self.grid((image_size, image_size))
        if self.kind == ROPE:  # these raise now, not in the first step, if the width cannot be split
            rope(rows, columns, self.width // self.heads)
        elif self.kind != LEARNED:
            self.fixed()

        pixels, hidden = 3 * self.patch**2, hidden or 4 * self.width
        self.embed: Linear | ContrastStem
        if stem:
            self.embed = ContrastStem(pixels, hidden=stem, width=self.width, init=style.init, dtype=dtype, rngs=rngs)
        else:
            linear = partial(Linear, pixels, self.width, init=style.init, dtype=dtype, rngs=rngs)
            self.embed = linear(use_bias=style.patch_bias)
            if style.patch_bias:
                limit = pixels**-0.5  # MAE leaves the bias at the default of torch's convolutions
                bias = jax.random.uniform(rngs.params(), (self.width,), minval=-limit, maxval=limit)
                self.embed.bias = nnx.Param(bias)

        def drawn(*rows: int) -> nnx.Param:
            normal = nnx.initializers.normal(style.deviation or self.width**-0.5)
            return nnx.Param(normal(rngs.params(), (*rows, self.width)))

        self.class_token = drawn() if has_class else None
        self.registers = drawn(registers) if registers else None
        self.positions = drawn(has_class + rows * columns) if self.kind == LEARNED else None
        self.norm_in = LayerNorm(self.width, eps=style.eps) if style.norm_in else None
        if block_scale is None:
            block_scale = 1.0 if style.init_scales else (SIZES["B"][0] / self.width) ** 0.5
        init = scaled(style.init, block_scale)
        inside = dict(activation=act, eps=style.eps, dtype=dtype)
        make = partial(Block, self.width, self.heads, hidden=hidden, layer_scale=layer_scale, **inside)
        make = partial(make, attention=attention or EINSUM)
        # In all flavours, query, key and value are initialised as one xavier-uniform matrix.
        make = partial(make, out_init=init, up_init=init, down_init=init)
        self.blocks = stack(lambda rngs: make(rngs=rngs), self.depth, rngs)
        self.norm_out = LayerNorm(self.width, eps=style.eps)
        pooling = partial(AttentionPool, self.width, self.heads, hidden=hidden, **inside)
        self.attention_pool = pooling(rngs=rngs) if self.pool == ATTENTION else None

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
        grid = rows, columns = self.grid((view.image.shape[1], view.image.shape[2]))
        x = self.embed(patches(self.normalise(view.image), self.patch))
        if view.masked is not None and view.fill is not None:
            x = jnp.where(view.masked[..., None], view.fill.astype(x.dtype)[None, None], x)
        before, x = self.placed(x, grid)
        angles = jnp.asarray(rope(rows, columns, self.width // self.heads))[None] if self.kind == ROPE else None
        if view.keep is not None:
            x = jnp.take_along_axis(x, view.keep[..., None], axis=1)
            angles = None if angles is None else angles[0][view.keep]
        first = [jnp.broadcast_to(token, (x.shape[0], *token.shape)) for token in before]
        x = pin(jnp.concatenate([*first, x], axis=1))
        if self.norm_in is not None:
            x = self.norm_in(x)
        x, layers = scan(
            self.blocks,
            x,
            remat=self.remat,
            drop_path=self.drop_path,
            rng=stream(rng, "drop_path") if train and rng is not None else None,
            angles=angles,
            collect=bool(view.taps),
            unroll=self.unroll,
        )
        count = sum(map(len, before))
        maps: dict[int, Array] = {}
        cls_at: dict[int, Array] = {}
        if layers is not None:
            maps = {tap: layers[tap][:, count:].reshape(x.shape[0], rows, columns, self.width) for tap in view.taps}
            cls_at = {} if self.class_token is None else {tap: layers[tap][:, 0] for tap in view.taps}
        cls, tokens = None if self.class_token is None else x[:, 0], x[:, count:]
        return Features(pooled=self.pooled(cls, tokens), tokens=tokens, maps=maps, cls=cls, cls_at=cls_at)

    def placed(self, x: Float[Array, "b n d"], grid: tuple[int, int]) -> tuple[list[Array], Float[Array, "b n d"]]:
        """What stands before the patches, the class token and registers as rows, and the patches with positions."""
        token = None if self.class_token is None else self.class_token[...].astype(x.dtype)
        if self.kind != ROPE:
            position = self.positions_for(*grid).astype(x.dtype)
            x = x + position[None, -x.shape[1] :]
            token = None if token is None else token + position[0]
        before = [] if token is None else [token[None]]
        return before if self.registers is None else [*before, self.registers[...].astype(x.dtype)], x

    def pooled(self, cls: Float[Array, "b d"] | None, tokens: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        """The pooled feature."""
        if self.attention_pool is not None:
            return self.attention_pool(self.norm_out(tokens))
        return self.norm_out(tokens.mean(1) if cls is None or self.pool == MEAN else cls)

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

    def positions_for(self, rows: int, columns: int) -> Float[Array, "_ d"]:
        """Positions of the class token, if there is one, and of a grid of patches.

        If the grid is not that of `image_size`, positions are resized, by default with torch's bicubic kernel. FaRL
        does so, and so does MAE, which resizes its fixed positions instead of computing them anew.
        """
        side = self.image_size // self.patch
        table = jnp.asarray(self.fixed()) if self.positions is None else self.positions[...]
        return resized(table, (side, side), (rows, columns), before=len(table) - side * side, by=self.resizing)

    def fixed(self) -> Float[np.ndarray, "_ d"]:
        """Sin-cos positions of the class token and of images of `image_size`."""
        side = self.image_size // self.patch
        return sincos(side, side, self.width, rows_first=self.kind == SINCOS_ROWS)


def scaled(init: Initializer, factor: float) -> Initializer:
    """An initializer whose values are `factor` times those of another."""
    return lambda *args: factor * init(*args)


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
