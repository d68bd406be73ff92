"""Programs of attention compute the same, whole or with the batch split over devices.

Planted and seen red: tokens that fill up a block and are seen by the others, queries that are not divided by sqrt(e),
a causal mask that is left out, and a kernel that each device runs on the whole batch.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models import attention
from facerep_jax.models.vit import ViT
from facerep_jax.train import sharding

HEADS, E = 2, 16
kernel = partial(attention.splash_kernel, interpret=True)


def given(batch, tokens):
    """Query, key, value and a cotangent."""
    return jax.random.normal(jax.random.key(0), (4, batch, tokens, HEADS, E))


def both(program, causal, q, k, v, cotangent):
    """What a program computes, and the gradients of query, key and value."""
    y, back = jax.vjp(partial(program, causal=causal), q, k, v)
    return y, *back(cotangent)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [5, 128, 197])
def test_the_kernel_of_tpus_equals_einsum_in_values_and_gradients(tokens, causal):
    data = given(2, tokens)
    for ours, theirs in zip(both(kernel, causal, *data), both(attention.einsum, causal, *data), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_more_tokens_than_fit_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(attention, "WHOLE", 128)
    monkeypatch.setattr(attention, "PART", 128)
    data = given(1, 300)
    for ours, theirs in zip(both(kernel, False, *data), both(attention.einsum, False, *data), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_each_device_runs_the_kernel_on_its_part_of_the_batch():
    data = given(8, 20)
    expected = both(attention.einsum, False, *data)
    with jax.set_mesh(sharding.make_mesh(dict(replica=2, fsdp=4))):
        program = jax.jit(partial(both, kernel, False))
        found = program(*jax.device_put(data, jax.sharding.PartitionSpec(None, sharding.BATCH_AXES)))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert ours.sharding.shard_shape(ours.shape)[0] == 1


def test_only_tpus_get_the_kernel():
    data = given(2, 20)
    program = jax.jit(partial(both, attention.splash, False))
    for ours, theirs in zip(program(*data), jax.jit(partial(both, attention.einsum, False))(*data), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    lowered = {platform: program.trace(*data).lower(lowering_platforms=(platform,)) for platform in ("tpu", "cuda")}
    assert {platform: "tpu_custom_call" in each.as_text() for platform, each in lowered.items()} == dict(
        tpu=True, cuda=False
    )


def test_bad_choices_are_refused(monkeypatch):
    vit = partial(ViT, variant="Nano/8", image_size=16, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="attention of the encoder is einsum or splash or cudnn, not 'flash'"):
        vit(attention="flash")
    q, k, v, _ = given(1, 4)
    with pytest.raises(ValueError, match="attention=cudnn needs a GPU, and here is a cpu"):
        attention.cudnn(q, k, v, causal=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match=r"needs bfloat16 or float16, not float32: --config\.dtype=bfloat16"):
        attention.cudnn(q, k, v, causal=False)
    q, k, v = (x.astype(jnp.bfloat16) for x in (q, k, v))
    seen = {}
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *x, **how: seen.update(how) or x[0])
    attention.cudnn(q, k, v, causal=True)
    assert seen == dict(is_causal=True, implementation="cudnn")
