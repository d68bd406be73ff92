"""Text towers: CLIP's, and settings in which SigLIP's differs."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from facerep_jax.config import pick
from facerep_jax.models.layers import ACTIVATIONS, Block, LayerNorm, Linear, scan, stack
from facerep_jax.typing import pin

VOCABULARY = 49_408  # size of CLIP's byte-pair encoding, including its two special tokens
END, LAST = "end", "last"
POOLS = dict.fromkeys((END, LAST))


class TextTransformer(nnx.Module):
    """A transformer over tokens; its feature is the normalised output at one of them.

    Source: openai/CLIP model.py, which FaRL uses; initialised as there. Other settings than the defaults are for SigLIP
    (2303.15343), as modeling_siglip.py of transformers has it.

    Args:
        context: the longest text, in tokens.
        hidden: units of the MLPs; by default four times the width.
        activation: of the MLPs, see `layers.ACTIVATIONS`.
        eps: of the norms.
        causal: whether a token sees only itself and those before it.
        pool: "end", the end-of-text token, which is the largest id, with zeros behind; or "last", the last one, so that
            all texts are as long as the context.
        head: units of a linear layer behind the norm, which then is the feature; None has no such layer.
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
        hidden: int | None = None,
        activation: str = "quick_gelu",
        eps: float = 1e-5,
        causal: bool = True,
        pool: str = END,
        head: int | None = None,
        unroll: int = 1,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        pick("pool of the text tower", pool, POOLS)
        act = pick("activation of the text tower", activation, ACTIVATIONS)
        normal = nnx.initializers.normal
        residual = width**-0.5 * (2 * depth) ** -0.5  # standard deviation of layers that write to the residual stream

        def block(rngs: nnx.Rngs) -> Block:
            return Block(
                width,
                heads,
                activation=act,
                eps=eps,
                causal=causal,
                hidden=hidden,
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
        self.norm_out = LayerNorm(width, eps=eps)
        self.head = Linear(width, head, init=normal(width**-0.5), dtype=dtype, rngs=rngs) if head else None
        self.width, self.context, self.pool = head or width, context, pool
        self.dtype, self.remat, self.unroll = dtype, remat, unroll

    def __call__(self, text: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Features of texts, given as token ids."""
        if self.pool == LAST and text.shape[1] != self.context:
            raise ValueError(f"texts of {text.shape[1]} tokens are not padded to the context of {self.context}")
        if text.shape[1] > self.context:
            raise ValueError(f"texts of {text.shape[1]} tokens do not fit a context of {self.context}")
        x = self.token_embedding[...].astype(self.dtype)[text]
        x = pin(x + self.positions[...].astype(self.dtype)[None, : text.shape[1]])
        x, _ = scan(self.blocks, x, remat=self.remat, unroll=self.unroll)
        at = jnp.full(len(text), self.context - 1) if self.pool == LAST else text.argmax(axis=1)
        x = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
        x = self.norm_out(x)
        return x if self.head is None else self.head(x)
