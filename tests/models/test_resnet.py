"""Outputs and gradients: tests/parity/test_resnet.py; the way of a whole run: tests/objectives/test_swav.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.resnet import ResNet, pooled_by_three
from facerep_jax.train.state import abstract, flat
from facerep_jax.typing import Encoder, View


def make(**settings):
    sizes = dict(variant="18", channels=4, dtype="float32", remat="none")
    return ResNet(**{**sizes, **settings}, rngs=nnx.Rngs(params=0))


def test_it_is_an_encoder_whose_stages_are_maps():
    encoder = nnx.eval_shape(lambda: make(variant="50"))
    assert isinstance(encoder, Encoder)
    assert (encoder.width, encoder.stages) == (128, 4)
    assert encoder.tap_widths((0, 3)) == (16, 128)
    assert encoder.tap_strides((0, 3)) == (4, 32)
    image = jax.ShapeDtypeStruct((2, 40, 72, 3), np.uint8)
    seen = jax.eval_shape(lambda image: make(variant="50")(View(image, taps=(0, 1, 2, 3))), image)
    assert {tap: x.shape for tap, x in seen.maps.items()} == {
        0: (2, 10, 18, 16),
        1: (2, 5, 9, 32),
        2: (2, 3, 5, 64),
        3: (2, 2, 3, 128),
    }
    assert encoder.grid((40, 72)) == (2, 3)
    assert seen.tokens.shape == (2, 6, 128)
    assert seen.cls is None


def test_the_first_distribution_is_torchs():
    """Kaiming's normal over outputs, 1 and 0 for normalisation; with `zero_init`, blocks are their shortcut."""
    arrays = flat(nnx.to_pure_dict(nnx.state(make(channels=16))))
    kernel = arrays["groups/2/1/convs/1/kernel"]
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert arrays["groups/2/1/convs/1/norm/scale"].min() == 1
    block = make(zero_init=True).groups[0][1]
    x = jax.random.uniform(jax.random.key(0), (2, 5, 5, 4))
    np.testing.assert_array_equal(block(x, train=True), x)


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_of_a_batch_share_statistics(groups):
    """Of two groups, the first half of the images sees what it sees alone."""
    graph, state = nnx.split(make(blocks=(1, 1, 1, 1), norm_groups=groups))
    run = jax.jit(lambda state, image: nnx.merge(graph, state)(View(image), train=True).pooled)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8))
    whole, other = run(state, images), run(state, jnp.concatenate([images[:4], images[4:] // 2]))
    same = np.abs(np.asarray(whole - other))[:4].max() < 1e-5
    assert same == (groups == 2)


def test_the_maximum_is_that_of_nine_values():
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 1)).astype(np.float32)
    framed = np.pad(x[0, ..., 0], 1, constant_values=-np.inf)
    expected = [[framed[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(3)] for i in range(3)]
    np.testing.assert_array_equal(pooled_by_three(jnp.asarray(x))[0, ..., 0], expected)


def test_its_kernels_can_be_split_over_devices():
    assert [pattern for pattern, _ in ResNet.rules["fsdp"]] == ["kernel$"]
    assert any(path.endswith("kernel") for path in flat(abstract(make)[1]))


def test_what_it_cannot_be_or_see_is_named():
    with pytest.raises(ValueError, match="no residual network '51'"):
        make(variant="51")
    with pytest.raises(ValueError, match=r"four stages of at least one block, not \(1, 2\)"):
        make(blocks=(1, 2))
    encoder = nnx.eval_shape(make)
    with pytest.raises(ValueError, match="without kept or masked patches; take a ViT"):
        encoder(View(jnp.zeros((1, 8, 8, 3)), keep=jnp.zeros((1, 1), jnp.int32)))
    with pytest.raises(ValueError, match=r"taps \(4,\) are not stages"):
        encoder(View(jnp.zeros((1, 8, 8, 3)), taps=(4,)))
