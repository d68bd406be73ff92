"""MAE's decoder: from the tokens of kept patches to the pixels of all patches."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from facerep_jax.models.layers import Block, LayerNorm, Linear, gelu, scan, stack
from facerep_jax.models.positions import sincos
from facerep_jax.typing import Encoder, Features, View, pin


class Decoder(nnx.Module):
    """Predicts the pixel values of all patches from what an encoder made of those that were kept.

    The class token and the kept patches' tokens, after the encoder's last norm, are mapped to the decoder's width. A
    learnt token stands for each patch that is missing. Fixed sin-cos positions are added, blocks, a norm and a linear
    layer follow, and the class token is dropped.
    Source: facebookresearch/mae, models_mae.py (2111.06377); initialised as there. In MCF (2309.03575) it is M0.

    Args:
        encoder: with a norm `norm_out` that its last block's tokens are to pass, such as `vit.ViT`.
        width, depth, heads: of its blocks.
    """

    def __init__(self, encoder: Encoder, *, width: int = 512, depth: int = 8, heads: int = 16, rngs: nnx.Rngs):
        if not hasattr(encoder, "norm_out"):
            raise ValueError(
                f"a decoder reads an encoder of kept patches, such as vit.ViT, not {type(encoder).__name__}"
            )
        init = nnx.initializers.xavier_uniform()
        (self.patch,) = encoder.tap_strides((encoder.stages - 1,))
        self.width, self.dtype = width, encoder.dtype
        sincos(1, 1, width)  # raises now, not in the first step, if the width cannot be split
        self.embed = Linear(encoder.width, width, init=init, dtype=self.dtype, rngs=rngs)
        self.mask_token = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (width,)))
        make = partial(Block, width, heads, activation=gelu, eps=1e-6, out_init=init, up_init=init, down_init=init)
        self.blocks = stack(lambda rngs: make(dtype=self.dtype, rngs=rngs), depth, rngs)
        self.norm = LayerNorm(width, eps=1e-6)
        self.head = Linear(width, 3 * self.patch**2, init=init, dtype=self.dtype, rngs=rngs)

    def __call__(
        self, seen: Features, keep: Int[Array, "b m"], *, encoder: Any, grid: tuple[int, int]
    ) -> Float[Array, "b n p"]:
        """The values of all patches of a grid of (rows, columns), ordered as `vit.patches` has them, in float32.

        Args:
            seen: features of a view with kept patches.
            keep: the patches that were kept.
            encoder: that made the features.
        """
        if seen.cls is None:
            raise ValueError("a decoder needs an encoder with a class token")
        rows, columns = grid
        positions = jnp.asarray(sincos(rows, columns, self.width), self.dtype)[None]
        tokens = encoder.norm_out(jnp.concatenate([seen.cls[:, None], seen.tokens], axis=1))
        x = self.embed(tokens).astype(self.dtype)
        missing = jnp.broadcast_to(self.mask_token[...].astype(x.dtype), (len(x), rows * columns, self.width))
        everywhere = jax.vmap(lambda all_of_one, where, known: all_of_one.at[where].set(known))(missing, keep, x[:, 1:])
        x = pin(jnp.concatenate([x[:, :1], everywhere], axis=1) + positions)
        x, _ = scan(self.blocks, x, remat=encoder.remat)
        return self.head(self.norm(x)[:, 1:]).astype(jnp.float32)


def image_of(patches: Float[Array, "b n p"], grid: tuple[int, int]) -> Float[Array, "b h w 3"]:
    """The image whose `vit.patches` these are, on a grid of (rows, columns)."""
    rows, columns = grid
    b, _, values = patches.shape
    patch = round((values // 3) ** 0.5)
    x = patches.reshape(b, rows, columns, patch, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, rows * patch, columns * patch, 3)


def kept_patches(view: View, name: str, count: int) -> Int[Array, "b m"]:
    """The patches that a view keeps. Raises ValueError, which calls the view `name`, if it keeps all of `count`."""
    if view.keep is None or view.keep.shape[1] == count:
        raise ValueError(f"the view {name!r} keeps all {count} patches, so that none is left to predict")
    return view.keep


def masked_share(keep: Int[Array, "b m"], count: int) -> Float[Array, "b n"]:
    """1 for each of `count` patches that is not kept, 0 for the others."""
    return jax.vmap(lambda where: jnp.ones(count).at[where].set(0))(keep)
