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
        activation: of the MLPs, see `layers.ACTIVATIONS`; by default quick GELU.
        eps: of the norms; by default 1e-5.
        causal: whether a token sees only itself and those before it; by default it does.
        pool: "end", the end-of-text token, which is the largest id, with zeros behind, by default; or "last", the last
            one, so that all texts are as long as the context.
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
        activation: str | None = None,
        eps: float | None = None,
        causal: bool | None = None,
        pool: str | None = None,
        head: int | None = None,
        unroll: int = 1,
        dtype: str,
        remat: str,
        rngs: nnx.Rngs,
    ):
        # Settings that came later are None by default, which a run's config that lacks them says too: it goes on.
        pool, eps = pool or END, 1e-5 if eps is None else eps
        pick("pool of the text tower", pool, POOLS)
        act = pick("activation of the text tower", activation or "quick_gelu", ACTIVATIONS)
        normal = nnx.initializers.normal
        residual = width**-0.5 * (2 * depth) ** -0.5  # standard deviation of layers that write to the residual stream

        def block(rngs: nnx.Rngs) -> Block:
            return Block(
                width,
                heads,
                activation=act,
                eps=eps,
                causal=causal is not False,
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
        end = text.argmax(axis=1)[:, None, None]
        x = self.norm_out(x[:, -1] if self.pool == LAST else jnp.take_along_axis(x, end, axis=1)[:, 0])
        return x if self.head is None else self.head(x)
