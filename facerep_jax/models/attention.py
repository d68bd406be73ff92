"""Attention, softmax(query key^T / sqrt(e)) value for each head, by programs that compute the same."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from facerep_jax.typing import BATCH_AXES, on_batch_axes

LANES = 128  # tokens that a TPU handles at once
WHOLE = 1152  # tokens up to which a TPU keeps all scores of a head in its vector memory
PART = 512  # tokens of the blocks that more are cut into


def einsum(
    query: Float[Array, "b n k e"], key: Float[Array, "b m k e"], value: Float[Array, "b m k e"], *, causal: bool
) -> Float[Array, "b n k e"]:
    """Attention as two products, with the softmax in float32 between them.

    The same as jax.nn.dot_product_attention, except for the order of axes in memory.
    """
    # Heads go before tokens, so that each head is a contiguous matrix. With the heads behind the tokens, as
    # jax.nn.dot_product_attention leaves them, a CPU takes up to four times as long for the second product.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    # Scores are accumulated and kept in float32: in bfloat16 the softmax would see them rounded to three digits.
    scores = jnp.einsum("bkne,bkme->bknm", query, key, preferred_element_type=jnp.float32) * query.shape[-1] ** -0.5
    if causal:  # each token sees itself and the tokens before it
        scores = jnp.where(jnp.tri(scores.shape[-1], dtype=bool), scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    return jnp.einsum("bknm,bkme->bkne", weights, value).swapaxes(1, 2)


def splash(
    query: Float[Array, "b n k e"], key: Float[Array, "b n k e"], value: Float[Array, "b n k e"], *, causal: bool
) -> Float[Array, "b n k e"]:
    """Attention on TPUs by a kernel that never writes scores to memory; elsewhere `einsum`.

    Source: jax.experimental.pallas.ops.tpu.splash_attention.
    """
    return jax.lax.platform_dependent(
        query, key, value, tpu=partial(splash_kernel, causal=causal), default=partial(einsum, causal=causal)
    )


def splash_kernel(
    query: Float[Array, "b n k e"],
    key: Float[Array, "b n k e"],
    value: Float[Array, "b n k e"],
    *,
    causal: bool,
    interpret: bool = False,
) -> Float[Array, "b n k e"]:
    """The kernel on each device's part of the batch; `interpret` runs it where there is no TPU, slowly."""
    # Imported here since it takes a second, and JAX without TPUs need not be able to.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    tokens, heads = query.shape[1:3]
    whole = -(-tokens // LANES) * LANES
    block, padded = (whole, whole) if whole <= WHOLE else (PART, -(-tokens // PART) * PART)
    mask = (masks.CausalMask if causal else masks.FullMask)((padded, padded))
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute")
    sizes: dict[str, Any] = {f"block_{name}": block for name in names}
    attend = kernel.make_splash_mha(
        masks.MultiHeadMask([mask] * heads),
        block_sizes=kernel.BlockSizes(**sizes, use_fused_bwd_kernel=True),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    # Tokens attend to those of their own segment: those that fill up the last block, to each other.
    filling = (jnp.arange(padded) >= tokens).astype(jnp.int32)
    segments = kernel.SegmentIds(filling, filling)

    def local(query: Array, key: Array, value: Array) -> Array:
        filled = (
            jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, padded - tokens), (0, 0)))
            for x in (query * query.shape[-1] ** -0.5, key, value)
        )
        return jax.vmap(partial(attend, segment_ids=segments))(*filled)[:, :, :tokens].swapaxes(1, 2)

    if not on_batch_axes():
        return local(query, key, value)
    # The compiler cannot split a kernel by itself.
    split = PartitionSpec(BATCH_AXES)
    return jax.shard_map(local, in_specs=split, out_specs=split, check_vma=False)(query, key, value)


def cudnn(
    query: Float[Array, "b n k e"], key: Float[Array, "b n k e"], value: Float[Array, "b n k e"], *, causal: bool
) -> Float[Array, "b n k e"]:
    """Attention on GPUs by cuDNN, in bfloat16 or float16; raises ValueError elsewhere, or in another type."""
    if jax.default_backend() != "gpu":
        raise ValueError(f"attention=cudnn needs a GPU, and here is a {jax.default_backend()}")
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        raise ValueError(f"attention=cudnn needs bfloat16 or float16, not {query.dtype}: --config.dtype=bfloat16")
    return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation="cudnn")


EINSUM = "einsum"
PROGRAMS = {EINSUM: einsum, "splash": splash, "cudnn": cudnn}
