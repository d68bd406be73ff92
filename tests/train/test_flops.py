"""Operations counted on a trace, against the formulas, and in compiled programs, against the trace."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from facerep_jax.models import pairs
from facerep_jax.models.layers import Block, applied, scan, stack
from facerep_jax.models.vit import ViT
from facerep_jax.train import sharding
from facerep_jax.train.flops import flops, of_program
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

    met = 4 * 3 - 1  # along each side, one of the taps meets padding
    assert flops(convolved, image, kernel) == 2 * (2 * 10) * (met * met) * 3

    x = jnp.ones((4, 4))
    one = 2 * 4**3
    assert flops(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=7)[0], x) == 7 * one
    assert flops(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x), x) == 2 * one
    assert flops(jax.vmap(lambda x: x @ x), jnp.ones((5, 4, 4))) == 5 * one


def strided(image, kernel):
    return jax.lax.conv_general_dilated(image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x: x @ x, [(16, 16)]),
        (lambda x, y: jnp.einsum("bik,bjk->bij", x, y), [(3, 8, 16), (3, 5, 16)]),
        (lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c @ c), None), x, length=7)[0], [(16, 16)]),
        (strided, [(2, 8, 8, 6), (3, 3, 6, 10)]),
    ],
)
def test_a_compiled_program_holds_what_its_trace_does(function, shapes):
    """Tried: a loop's body counted once, the kernel's features taken for its inputs."""
    arrays = [jnp.ones(shape) for shape in shapes]
    assert of_program(jax.jit(function).lower(*arrays).compile().as_text()) == flops(function, *arrays)


def test_gradients_of_a_strided_convolution_count_as_much_as_it_does():
    """The zeros between pixels, with which the image's gradient is written, are no operations."""
    arrays = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 10))
    step = jax.grad(lambda *x: jnp.square(strided(*x)).sum(), argnums=(0, 1))
    assert flops(step, *arrays) == 3 * flops(strided, *arrays)
    assert of_program(jax.jit(step).lower(*arrays).compile().as_text()) == flops(step, *arrays)


def test_what_a_compiled_program_computes_again_counts():
    @functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.nothing_saveable)
    def layer(x, kernel):
        return jnp.sin(x @ kernel), None

    step = jax.grad(lambda x, kernels: jax.lax.scan(layer, x, kernels)[0].sum(), argnums=(0, 1))
    arrays = jnp.ones((16, 16)), jnp.ones((5, 16, 16))
    assert flops(step, *arrays) == 5 * 3 * 2 * 16**3
    assert of_program(jax.jit(step).lower(*arrays).compile().as_text()) == 5 * 4 * 2 * 16**3


# As libtpu 0.0.42 writes a product, shortened: it makes convolutions of them.
TPU = """\
%fused (p.1: bf16[64,512], p.2: bf16[512,128]) -> bf16[64,128] {
  %p.1 = bf16[64,512]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %p.2 = bf16[512,128]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.3 = bf16[64,128]{1,0:T(8,128)(2,1)} convolution(%p.1, %p.2), dim_labels=bf_io->bf
}
ENTRY %main (p: bf16[64,512], q: bf16[512,128]) -> bf16[64,128] {
  ROOT %fusion = bf16[64,128]{1,0:T(8,128)(2,1)} fusion(%p, %q), kind=kOutput, calls=%fused
}
"""


# A batched product is a convolution whose window meets one entry of the batch, and zeros.
BATCHED = """\
ENTRY %main (p: bf16[8,3,37,32], q: bf16[8,3,37,32]) -> f32[8,3,37,37] {
  %p = bf16[8,3,37,32]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %q = bf16[8,3,37,32]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution-base-dilated.29 = f32[8,3,37,37]{2,3,1,0:T(8,128)} convolution(%p, %q), window={size=8x3 \
stride=7x2 lhs_dilate=8x3}, dim_labels=01bf_01oi->01bf
}
"""


# One whose result is divided into heads has a window that meets its only input once for each output, else padding.
DIVIDED = """\
ENTRY %main (p: bf16[40,197,768,1], q: bf16[12,64,768,1]) -> bf16[40,197,12,64] {
  %p = bf16[40,197,768,1]{2,1,3,0:T(8,128)(2,1)} parameter(0)
  %q = bf16[12,64,768,1]{2,1,0,3:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.187 = bf16[40,197,12,64]{1,3,2,0:T(8,128)(2,1)} convolution(%p, %q), window={size=1x12 \
pad=0_0x11_11 rhs_reversal=0x1}, dim_labels=0bf1_1oi0->0b1f
}
"""


def test_of_a_tpus_products():
    assert of_program(TPU) == 2 * 64 * 512 * 128
    assert of_program(BATCHED) == 2 * (8 * 3) * 37 * 37 * 32
    assert of_program(DIVIDED) == 2 * (40 * 197) * 768 * (12 * 64)
