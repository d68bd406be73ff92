"""Operations counted on a trace, against the formulas."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from facerep_jax.models import pairs
from facerep_jax.models.layers import Block, applied, scan, stack
from facerep_jax.models.vit import ViT
from facerep_jax.train import sharding
from facerep_jax.train.flops import flops
from facerep_jax.train.state import merge, split
from facerep_jax.typing import View


def test_a_transformer_is_counted_as_the_formula_says():
    graph, *trees = split(nnx.eval_shape(lambda: ViT(variant="B/16", dtype="float32", remat="none", rngs=nnx.Rngs(0))))

    def forward(params, image):
        return merge(graph, params, *trees[1:])(View(image)).pooled.sum()

    image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.uint8)
    n, d, depth = 197, 768, 12
    patches = 2 * (n - 1) * 768 * d
    once = 2 * (patches + depth * (2 * n * 12 * d * d + 4 * n * n * d))
    assert flops(forward, trees[0], image) == once
    # Backwards each product gives two, but for the patches, whose pixels need no gradient.
    assert flops(jax.grad(forward), trees[0], image) == 3 * once - 2 * patches


@pytest.mark.parametrize("remat", ["none", "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable"])
def test_what_is_computed_again_counts_once(remat):
    """Blocks of a transformer, scanned and on their own. Tried: what jax marks as computed again is not left out."""
    n, d, depth = 5, 8, 3
    graph, params, *_ = split(nnx.eval_shape(lambda: stack(lambda rngs: Block(d, 2, rngs=rngs), depth, nnx.Rngs(0))))

    def total(params, x):
        return scan(merge(graph, params, {}, {}), x, remat=remat)[0].sum()

    alone, one, *_ = split(nnx.eval_shape(lambda: Block(d, 2, rngs=nnx.Rngs(0))))

    def once(params, x):
        return applied(merge(alone, params, {}, {}), x, remat).sum()

    x = jax.ShapeDtypeStruct((2, n, d), jnp.float32)
    work = 2 * (2 * n * 12 * d * d + 4 * n * n * d)
    assert flops(jax.grad(total, argnums=(0, 1)), params, x) == 3 * depth * work
    assert flops(jax.grad(once, argnums=(0, 1)), one, x) == 3 * work


def test_what_devices_do_on_their_parts_counts_for_all():
    """The ring computes logits again in the backward pass; of the others it has as many."""
    rows, scale = jax.ShapeDtypeStruct((16, 8), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    gather, ring = (jax.grad(lambda *x, f=f: f(*x)[0], (0, 1)) for f in (pairs.softmax_gather, pairs.softmax_ring))
    once = 2 * 16 * 16 * 8
    assert flops(gather, rows, rows, scale) == 3 * once
    with jax.set_mesh(sharding.make_mesh(dict(replica=2, fsdp=2, model=2))):
        assert flops(ring, rows, rows, scale) == 4 * once


def test_convolutions_loops_and_branches():
    image, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 3, 10))

    def convolved(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    assert flops(convolved, image, kernel) == 2 * (2 * 4 * 4 * 10) * (3 * 3 * 3)

    x = jnp.ones((4, 4))
    one = 2 * 4**3
    assert flops(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=7)[0], x) == 7 * one
    assert flops(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x), x) == 2 * one
    assert flops(jax.vmap(lambda x: x @ x), jnp.ones((5, 4, 4))) == 5 * one
