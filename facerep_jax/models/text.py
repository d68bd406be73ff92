"""CLIP's text tower."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from facerep_jax.models.layers import Block, LayerNorm, scan, stack
from facerep_jax.typing import pin

VOCABULARY = 49_408  # size of CLIP's byte-pair encoding, including its two special tokens


class TextTransformer(nnx.Module):
    """A causal transformer over tokens; its feature is the normalised output at the end-of-text token.

    Source: openai/CLIP model.py, which FaRL uses; initialised as there.

    Args:
        context: the longest text, in tokens.
        unroll: how many blocks each iteration of the loop over blocks lays out, see `layers.scan`.
    """

    def __init__(
        self,
        *,
        vocabulary: int = VOCABULARY,
        context: int = 77,
        width: int = 512,
        depth: int = 12,
        heads: int = 8,
        unroll: int = 1,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        normal = nnx.initializers.normal
        residual = width**-0.5 * (2 * depth) ** -0.5  # standard deviation of layers that write to the residual stream

        def block(rngs: nnx.Rngs) -> Block:
            return Block(
                width,
                heads,
                causal=True,
                qkv_init=normal(width**-0.5),
                out_init=normal(residual),
                up_init=normal((2 * width) ** -0.5),
                down_init=normal(residual),
                dtype=dtype,
                rngs=rngs,
            )

        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (vocabulary, width)))
        self.positions = nnx.Param(normal(0.01)(rngs.params(), (context, width)))
        self.blocks = stack(block, depth, rngs)
        self.norm_out = LayerNorm(width)
        self.width, self.context, self.dtype, self.remat, self.unroll = width, context, dtype, remat, unroll

    def __call__(self, text: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Features of texts, given as token ids: the end-of-text token is the largest id, and zeros pad behind it."""
        if text.shape[1] > self.context:
            raise ValueError(f"texts of {text.shape[1]} tokens do not fit a context of {self.context}")
        x = self.token_embedding[...].astype(self.dtype)[text]
        x = pin(x + self.positions[...].astype(self.dtype)[None, : text.shape[1]])
        x, _ = scan(self.blocks, x, remat=self.remat, unroll=self.unroll)
        end = text.argmax(axis=1)
        return self.norm_out(jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0])
