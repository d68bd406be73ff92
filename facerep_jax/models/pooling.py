"""Pooling of tokens by attention."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.models.attention import einsum
from facerep_jax.models.layers import Activation, LayerNorm, Linear, split_heads, xavier_uniform_fused


class AttentionPool(nnx.Module):
    """One vector from all tokens: a learnt query attends to them, and an MLP is added to what it finds.

    Source: SigLIP (2303.15343), MAPHead of big_vision's models/vit.py; 2106.04560, section 3.

    Args:
        hidden: units of the MLP.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int,
        activation: Activation,
        eps: float,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        xavier = nnx.initializers.xavier_uniform()
        linear = partial(Linear, dtype=dtype, rngs=rngs)
        self.probe = nnx.Param(xavier(rngs.params(), (1, width))[0])
        self.query, self.key, self.value = (linear(width, width, init=xavier_uniform_fused(3)) for _ in range(3))
        self.out = linear(width, width, init=xavier)
        self.norm = LayerNorm(width, eps=eps)
        self.up = linear(width, hidden, init=xavier)
        self.down = linear(hidden, width, init=xavier)
        self.heads, self.activation = heads, activation

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        probe = jnp.broadcast_to(self.probe[...].astype(tokens.dtype), (tokens.shape[0], 1, tokens.shape[2]))
        given = ((self.query, probe), (self.key, tokens), (self.value, tokens))
        q, k, v = (split_heads(project(x), self.heads) for project, x in given)
        x = self.out(einsum(q, k, v, causal=False).reshape(probe.shape))[:, 0]
        return x + self.down(self.activation(self.up(self.norm(x))))
