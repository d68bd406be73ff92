import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import tree

from facerep_jax.models import layers
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import Block, LayerNorm, Linear, applied, cubic_matrix, scan, stack
from facerep_jax.train.state import merge, split
from facerep_jax.typing import Carried

WIDTH, HEADS, DEPTH = 16, 2, 3
REMAT = "dots_with_no_batch_dims_saveable"


def make_blocks(**settings):
    return stack(lambda rngs: Block(WIDTH, HEADS, rngs=rngs, **settings), DEPTH, nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, WIDTH)), jnp.float32)


def test_layer_norm_has_float32_statistics(reference):
    norm = reference.randomised(LayerNorm(64))
    x = jnp.asarray(100 + np.random.default_rng(1).normal(size=(2, 3, 64)), jnp.float32)
    reference.assert_equal(norm(x), reference.norm(reference.params(norm), np.asarray(x, np.float64)))
    half = x.astype(jnp.bfloat16)
    assert norm(half).dtype == jnp.bfloat16
    expected = reference.norm(reference.params(norm), np.asarray(half, np.float64))
    np.testing.assert_allclose(np.asarray(norm(half), np.float64), expected, rtol=1e-2, atol=1e-2)


def test_linear_multiplies_in_its_dtype_and_keeps_float32_parameters():
    linear = Linear(4, 3, init=nnx.initializers.normal(1.0), dtype="bfloat16", rngs=nnx.Rngs(params=0))
    assert linear.kernel.dtype == linear.bias.dtype == jnp.float32
    assert linear(jnp.ones((2, 4))).dtype == jnp.bfloat16
    bare = Linear(4, 3, init=nnx.initializers.normal(1.0), use_bias=False, rngs=nnx.Rngs(params=0))
    assert bare.bias is None
    np.testing.assert_allclose(bare(jnp.ones(4)), np.asarray(bare.kernel[...]).sum(0), rtol=1e-6)


def test_activations():
    x = jnp.linspace(-3, 3, 13)
    np.testing.assert_allclose(layers.quick_gelu(x), x / (1 + np.exp(-1.702 * x)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layers.gelu(jnp.float32(1.0)), 0.8413447, rtol=1e-6)  # the normal distribution at 1


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_equal_numpy(reference, x, causal):
    blocks = reference.randomised(nnx.eval_shape(lambda: make_blocks(causal=causal)))
    y, each = jax.jit(lambda blocks, x: scan(blocks, x, remat=REMAT, collect=True))(blocks, x)
    expected = reference.blocks(reference.params(blocks), np.asarray(x, np.float64), HEADS, causal)
    reference.assert_equal(each, np.stack(expected))
    np.testing.assert_array_equal(y, each[-1])


def test_remat_changes_no_value_and_no_gradient(x, reference):
    blocks = reference.randomised(nnx.eval_shape(make_blocks))
    key = jax.random.split(jax.random.key(0), len(x))

    def gradient(remat):
        def loss(blocks, x):
            return jnp.square(scan(blocks, x, remat=remat, drop_path=0.5, rng=key)[0]).mean()

        return jax.jit(jax.value_and_grad(loss))(blocks, x)

    ours, plain = gradient(REMAT), gradient("none")
    largest = max(np.abs(leaf).max() for leaf in tree.leaves(plain[1]))  # the gradient of the key's bias is 0
    for a, b in zip(tree.leaves(ours), tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * largest)


def test_stacked_blocks_are_independent_draws():
    blocks = jax.jit(make_blocks)()
    kernel = np.asarray(blocks.up.kernel[...])
    assert kernel.shape == (DEPTH, WIDTH, 4 * WIDTH)
    assert blocks.up.bias.shape == (DEPTH, 4 * WIDTH)
    assert np.abs(np.corrcoef(kernel.reshape(DEPTH, -1)) - np.eye(DEPTH)).max() < 0.15
    assert np.abs(np.asarray(blocks.query.kernel[...]) - np.asarray(blocks.key.kernel[...])).max() > 0.1


def test_initial_values_are_those_of_farl():
    width = 64
    block = jax.jit(lambda: stack(lambda rngs: Block(width, 2, rngs=rngs), 4, nnx.Rngs(params=1)))()
    limit = (6 / (width + 3 * width)) ** 0.5  # torch's xavier-uniform of in_proj_weight (3 d, d)
    for projection in (block.query, block.key, block.value):
        kernel = np.asarray(projection.kernel[...])
        assert 0.98 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.03)
    for linear in (block.out, block.up, block.down):
        np.testing.assert_allclose(np.asarray(linear.kernel[...]).std(), 0.02, rtol=0.03)
        assert not np.asarray(linear.bias[...]).any()


def test_drop_path_drops_whole_branches_at_a_rate_that_grows_linearly():
    """tried: not dividing by 1 - rate; the last rate for all; keys folded from the row; keys that ignore the block; one
    draw for both branches of a block.
    """
    blocks = jax.jit(make_blocks)()
    for name, value in (("out", 1), ("down", 10)):  # what the branches give, whatever they get
        linear = getattr(blocks, name)
        linear.kernel.set_value(jnp.zeros_like(linear.kernel[...]))
        linear.bias.set_value(jnp.full_like(linear.bias[...], value))
    count = 2000
    keys = jax.random.split(jax.random.key(0), count)
    x = jnp.zeros((count, 1, WIDTH))
    run = jax.jit(lambda keys: scan(blocks, x, remat="none", drop_path=0.5, rng=keys, collect=True))
    each = np.asarray(run(keys)[1])[..., 0, 0]
    drawn = []
    for rate, added in zip((0, 0.25, 0.5), np.diff(each, axis=0, prepend=0), strict=True):
        whole = added * (1 - rate)
        np.testing.assert_allclose(whole, whole.round(), atol=1e-4)
        for branch in (whole.round() % 10, whole.round() // 10):
            assert {*np.unique(branch)} == ({1} if rate == 0 else {0, 1})
            assert abs(branch.mean() - (1 - rate)) <= 4 * (rate * (1 - rate) / count) ** 0.5
            drawn += [branch] if rate else []
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.1  # blocks and branches draw independently
    order = np.random.default_rng(0).permutation(count)
    np.testing.assert_array_equal(np.asarray(run(keys[order])[1])[..., 0, 0], each[:, order])


def test_nothing_is_dropped_without_keys(x):
    blocks = jax.jit(make_blocks)()
    dropped = scan(blocks, x, remat="none", drop_path=0.9)[0]
    np.testing.assert_array_equal(dropped, scan(blocks, x, remat="none")[0])


def torch_bicubic(size_in, size_out):
    """torch's upsample_bicubic2d along one axis: get_cubic_upsample_coefficients with A = -0.75."""
    A = -0.75

    def near(x):
        return ((A + 2) * x - (A + 3)) * x * x + 1

    def far(x):
        return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A

    matrix = np.zeros((size_out, size_in))
    for o in range(size_out):
        real = (o + 0.5) * size_in / size_out - 0.5
        i = int(np.floor(real))
        t = real - i
        for k, weight in enumerate((far(t + 1), near(t), near(1 - t), far(2 - t))):
            matrix[o, min(max(i - 1 + k, 0), size_in - 1)] += weight
    return matrix


@pytest.mark.parametrize(("size_in", "size_out"), [(14, 28), (14, 10), (14, 7), (3, 5), (2, 7), (1, 4), (28, 14)])
def test_cubic_matrix_is_torchs(size_in, size_out):
    matrix = cubic_matrix(size_in, size_out)
    np.testing.assert_allclose(matrix, torch_bicubic(size_in, size_out), atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)


def test_cubic_matrix_has_torchs_known_weights_and_is_the_identity_where_sizes_are_equal():
    # what torch prints for scale factor 2
    np.testing.assert_allclose(cubic_matrix(8, 16)[6, 1:5], [-0.03515625, 0.26171875, 0.87890625, -0.10546875])
    for size in (1, 2, 14):
        np.testing.assert_array_equal(cubic_matrix(size, size), np.eye(size))


class Normed(nnx.Module):
    """A block that writes: weights, a normalisation with running statistics, and a count."""

    def __init__(self):
        rngs = nnx.Rngs(params=3)
        self.linear = Linear(WIDTH, WIDTH, init=nnx.initializers.normal(0.5), rngs=rngs)
        self.norm, self.count = BatchNorm(WIDTH), Carried(jnp.int32(0))

    def __call__(self, x, *, train=False, factor=1.0):
        if train:
            self.count.set_value(self.count[...] + 1)
        return factor * jnp.tanh(self.norm(self.linear(x), train=train))


def test_remat_of_a_block_changes_no_value_no_gradient_and_nothing_that_it_writes(x):
    """In training, by jit as in a step. tried: statistics of the recomputed block thrown away; keywords left out."""

    def run(remat):
        @jax.jit
        def step(block, x):
            graph, params, variables, _ = split(block)

            def loss(params, x):
                inside = merge(graph, params, variables, {})
                y = applied(inside, x, remat, train=True, factor=3.0)
                y = applied(inside, y, remat, train=True, factor=3.0)
                return jnp.square(y).mean() + y.sum(), split(inside)[2]

            return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

        return step(Normed(), x)

    (value, written), gradients = run(REMAT)
    (plain_value, plain_written), plain_gradients = run("none")
    np.testing.assert_allclose(value, plain_value, rtol=1e-6)
    for ours, theirs in zip(tree.leaves(gradients), tree.leaves(plain_gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * max(np.abs(theirs).max(), 1))
    assert written["count"] == 2
    for ours, theirs in zip(tree.leaves(written), tree.leaves(plain_written), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.abs(written["norm"]["mean"]).max() > 1e-3
    largest = [np.abs(np.asarray(leaf)).max() for leaf in tree.leaves(gradients)]
    assert sum(size > 1e-4 for size in largest) >= len(largest) - 1  # but for the bias before the normalisation


@pytest.mark.parametrize("remat", ["none", REMAT])
def test_a_block_that_is_applied_is_the_block(x, remat):
    block = Normed()
    np.testing.assert_allclose(applied(block, x, remat), block(x), rtol=1e-6, atol=1e-6)
    assert block.count[...] == 0
    applied(block, x, remat, train=True)
    again = Normed()
    again(x, train=True)
    assert block.count[...] == 1
    np.testing.assert_allclose(block.norm.mean[...], again.norm.mean[...], rtol=1e-5, atol=1e-6)


def test_an_unknown_remat_policy_is_named():
    with pytest.raises(ValueError, match=r"remat is 'none' or one of .*dots_saveable.*, not 'dots'"):
        layers.remat_policy("dots")
