"""Vision transformers in CLIP's flavour, which is FaRL's."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.models.layers import Block, LayerNorm, Linear, cubic_matrix, scan, stack, trunc_normal
from facerep_jax.typing import Features, View, pin

SIZES = {  # name: width, depth, heads
    "Nano": (96, 4, 3),
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Sizes(NamedTuple):
    """What a variant's name stands for."""

    width: int
    depth: int
    heads: int
    patch: int


def sizes_of(variant: str) -> Sizes:
    """The sizes of a variant such as "B/16"; ValueError where there is none of that name."""
    size, _, patch = variant.partition("/")
    if size not in SIZES or not patch.isdigit():
        raise ValueError(f"encoder variant {variant!r} is not SIZE/PATCH; sizes: {', '.join(SIZES)}")
    return Sizes(*SIZES[size], int(patch))


class ViT(nnx.Module):
    """CLIP's vision transformer: patches -> class token, learned positions, norm -> blocks -> norm of the class token.

    The projection into the space of captions belongs to the contrastive objective.
    Source: openai/CLIP and FaRL's VisualTransformer (2112.03109), initialised as the latter.

    Args:
        variant: size and patch, such as "B/16"; sizes are those of `SIZES`.
        image_size: pixels of a side for which positions are learnt; other sizes are served by resizing positions.
        width, depth, heads: override the variant's.
        drop_path: rate of the last block, growing linearly from 0 over depth.
        mean, std: normalisation of RGB in [0, 1].
    """

    def __init__(
        self,
        *,
        variant: str = "B/16",
        image_size: int = 224,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        drop_path: float = 0.0,
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        size = sizes_of(variant)
        self.patch = size.patch
        self.width, self.depth, self.heads = width or size.width, depth or size.depth, heads or size.heads
        self.image_size, self.mean, self.std = image_size, tuple(mean), tuple(std)
        self.dtype, self.remat, self.drop_path = dtype, remat, drop_path
        rows, columns = self.grid((image_size, image_size))

        normal = nnx.initializers.normal(self.width**-0.5)
        linear_init = trunc_normal(0.02)
        self.embed = Linear(3 * self.patch**2, self.width, init=linear_init, use_bias=False, dtype=dtype, rngs=rngs)
        self.class_token = nnx.Param(normal(rngs.params(), (self.width,)))
        self.positions = nnx.Param(normal(rngs.params(), (1 + rows * columns, self.width)))
        self.norm_in = LayerNorm(self.width)
        self.blocks = stack(partial(make_block, self.width, self.heads, dtype), self.depth, rngs)
        self.norm_out = LayerNorm(self.width)

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (self.width,) * len(taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (self.patch,) * len(taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches; ValueError where patches do not tile an image of (height, width)."""
        h, w = image_size
        if min(h, w) < self.patch or h % self.patch or w % self.patch:
            raise ValueError(f"an image of {h} x {w} pixels is no grid of patches of {self.patch} x {self.patch}")
        return h // self.patch, w // self.patch

    def __call__(
        self, view: View, *, taps: tuple[int, ...] = (), train: bool = False, rng: Key[Array, "b"] | None = None
    ) -> Features:
        """Taps are indices of blocks, from 0; a tap gives the block's output as a map. See `typing.Encoder`."""
        if taps and view.keep is not None:
            raise ValueError("maps exist of whole images only, not of views with kept patches")
        if any(not 0 <= tap < self.depth for tap in taps):
            raise ValueError(f"taps {taps} are not blocks of an encoder that has {self.depth}, 0 to {self.depth - 1}")
        rows, columns = self.grid((view.image.shape[1], view.image.shape[2]))
        x = self.embed(patches(self.normalise(view.image), self.patch))
        if view.masked is not None and view.fill is not None:
            x = jnp.where(view.masked[..., None], view.fill.astype(x.dtype)[None, None], x)
        position = self.positions_for(rows, columns).astype(x.dtype)
        x = x + position[None, 1:]
        if view.keep is not None:
            x = jnp.take_along_axis(x, view.keep[..., None], axis=1)
        cls = jnp.broadcast_to(self.class_token[...].astype(x.dtype) + position[0], (len(x), 1, self.width))
        x = self.norm_in(pin(jnp.concatenate([cls, x], axis=1)))
        x, layers = scan(
            self.blocks,
            x,
            remat=self.remat,
            drop_path=self.drop_path,
            rng=rng if train else None,
            collect=bool(taps),
        )
        maps: tuple[Array, ...] = ()
        if layers is not None:
            maps = tuple(layers[tap][:, 1:].reshape(len(x), rows, columns, self.width) for tap in taps)
        return Features(pooled=self.norm_out(x[:, 0]), tokens=x[:, 1:], maps=maps, cls=x[:, 0])

    def normalise(self, image: Array) -> Float[Array, "b h w 3"]:
        """A uint8 image normalised by mean and standard deviation; a float image as it is."""
        if image.dtype != jnp.uint8:
            return image
        mean, std = jnp.asarray(self.mean) * 255, jnp.asarray(self.std) * 255
        return (image.astype(jnp.float32) - mean.reshape(1, 1, 1, 3)) / std.reshape(1, 1, 1, 3)

    def positions_for(self, rows: int, columns: int) -> Float[Array, "{1+rows*columns} d"]:
        """Positions of the class token and a grid of patches, resized as torch would where the grid is another."""
        side = self.image_size // self.patch
        position = self.positions[...]
        if (rows, columns) == (side, side):
            return position
        grid = position[1:].reshape(side, side, -1)
        grid = jnp.einsum("hi,wj,ijd->hwd", cubic_matrix(side, rows), cubic_matrix(side, columns), grid)
        return jnp.concatenate([position[:1], grid.reshape(rows * columns, -1)])


def make_block(width: int, heads: int, dtype: str, rngs: nnx.Rngs) -> Block:
    """One block of CLIP's vision transformer, initialised as FaRL's."""
    return Block(width, heads, dtype=dtype, rngs=rngs)


def patches(image: Float[Array, "b h w 3"], patch: int) -> Float[Array, "b n p"]:
    """Non-overlapping square patches in row-major order, each flattened by row, column and colour."""
    b, h, w, c = image.shape
    x = image.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, -1, patch * patch * c)
