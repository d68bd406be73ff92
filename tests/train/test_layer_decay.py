"""Reference: the formula of MAE's util/lr_decay.py, written out.

Planted and seen red: blocks counted from 1, one factor for a whole stack, lists sorted as text (10 before 2), the
factor before Adam, which forgets it.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax import schedules
from facerep_jax.config import spec
from facerep_jax.models.resnet import ResNet
from facerep_jax.models.vit import ViT
from facerep_jax.train.layer_decay import factors
from facerep_jax.train.optim import adamw
from facerep_jax.train.state import flat
from facerep_jax.typing import View

DECAY, DEPTH, RATE = 0.6, 3, 1e-3


def layer_id_for_vit(name, num_layers):
    """facebookresearch/mae, util/lr_decay.py, of torch's names of parameters."""
    if name in ["cls_token", "pos_embed"]:
        return 0
    if name.startswith("patch_embed"):
        return 0
    if name.startswith("blocks"):
        return int(name.split(".")[1]) + 1
    return num_layers


def scale(name, depth):
    """The same file's layer_scales, at the layer of a parameter."""
    num_layers = depth + 1
    layer_scales = [DECAY ** (num_layers - i) for i in range(num_layers + 1)]
    return layer_scales[layer_id_for_vit(name, num_layers)]


def vit(**settings):
    sizes = dict(variant="Nano/8", image_size=16, width=12, depth=DEPTH, heads=2)
    return ViT(**sizes, **settings, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


def model(encoder):
    """The parameters of an encoder below a head, and of an objective with blocks of its own."""
    params = nnx.to_pure_dict(nnx.state(encoder, nnx.Param))
    return {"encoder": params, "objective": {"kernel": jnp.ones(2), "decoder": {"blocks": {"bias": jnp.ones((4, 2))}}}}


def optimizer(**settings):
    """AdamW without decay, whose first step is the learning rate, up to its epsilon, whatever the gradient."""
    constant = spec(schedules.constant)
    return adamw(learning_rate=RATE, schedule=constant, weight_decay=0.0, steps=9, **settings).transform


def steps(transform, params, count=1):
    """What each of some steps adds, by path: all gradients are 1."""
    state, found = transform.init(params), []
    for _ in range(count):
        given, state = jax.jit(transform.update)(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, given)
        found.append(flat(given))
    return found


def expected(path, depth=DEPTH):
    """The factors of a ViT's array along its first axis: MAE's, under torch's names; no other array is decayed."""
    if path.startswith("encoder/blocks/"):
        return [scale(f"blocks.{i}.", depth) for i in range(depth)]
    first = {"embed": "patch_embed.", "class_token": "cls_token", "positions": "pos_embed", "registers": "pos_embed"}
    below = first | {"norm_in": "patch_embed."}
    hit = re.match(r"encoder/(\w+)", path)
    return scale(below.get(hit[1], "norm.") if hit else "head.", depth)


def test_adams_first_step_moves_each_layer_by_maes_factor():
    params = model(vit(registers=2, layer_scale=0.1, pool="attention"))
    (moved,) = steps(optimizer(layer_decay=DECAY), params)
    below = {"embed", "class_token", "positions", "registers", "norm_in"}
    assert {f"encoder/{name}" for name in below} <= {"/".join(path.split("/")[:2]) for path in moved}
    for path, x in moved.items():
        wanted = np.broadcast_to(np.reshape(expected(path), (-1,) + (1,) * (x.ndim - 1)), x.shape)
        np.testing.assert_allclose(x, -RATE * wanted, rtol=1e-5, err_msg=path)
    assert expected("encoder/blocks/up/kernel") == pytest.approx([DECAY**3, DECAY**2, DECAY])
    assert expected("encoder/embed/kernel") == pytest.approx(DECAY**4)
    assert expected("encoder/norm_out/scale") == expected("objective/kernel") == 1


def test_without_it_the_state_of_the_optimizer_is_as_it_was():
    params = model(vit())
    plain, none, whole = (optimizer(**each) for each in ({}, dict(layer_decay=None), dict(layer_decay=1.0)))
    trees = [jax.tree.structure(jax.eval_shape(each.init, params)) for each in (plain, none)]
    assert trees[0] == trees[1]
    for path, x in steps(whole, params)[0].items():
        np.testing.assert_array_equal(x, steps(plain, params)[0][path], err_msg=path)


def test_it_goes_with_multipliers_freezing_clipping_and_decay():
    """As in a pre-training: the embedding is frozen at first, weight decay is a part of the rate that is multiplied."""
    params = model(vit())
    settings = dict(multipliers=(("^encoder/", 0.1),), freeze=(("^encoder/embed/", 1),), clip_norm=1.0)
    moved = steps(optimizer(layer_decay=DECAY, **settings), params, count=2)
    assert not moved[0]["encoder/embed/kernel"].any()
    without = steps(optimizer(**settings), params, count=2)
    for step in range(2):
        for path, x in without[step].items():
            wanted = np.reshape(expected(path), (-1,) + (1,) * (x.ndim - 1)) * x
            np.testing.assert_allclose(moved[step][path], wanted, rtol=1e-5, err_msg=path)
    decayed = adamw(learning_rate=RATE, schedule=spec(schedules.constant), weight_decay=0.3, layer_decay=DECAY, steps=9)
    (first,) = steps(decayed.transform, params)
    kernel = params["encoder"]["blocks"]["up"]["kernel"]
    wanted = -RATE * np.reshape(expected("encoder/blocks/"), (-1, 1, 1)) * (1 + 0.3 * kernel)
    np.testing.assert_allclose(first["encoder/blocks/up/kernel"], wanted, rtol=1e-5)


def test_the_layers_of_a_residual_network_are_its_blocks_in_order():
    encoder = ResNet(
        variant="18", channels=2, blocks=(1, 2, 11, 1), dtype="float32", remat="none", rngs=nnx.Rngs(params=0)
    )
    found = flat(factors(model(encoder), DECAY))
    assert found["encoder/stem/kernel"] == pytest.approx(DECAY**16)
    assert found["encoder/groups/0/0/convs/0/kernel"] == pytest.approx(DECAY**15)
    assert found["encoder/groups/1/1/convs/0/norm/scale"] == pytest.approx(DECAY**13)
    assert found["encoder/groups/2/2/convs/1/kernel"] == pytest.approx(DECAY**10)
    assert found["encoder/groups/2/10/convs/1/kernel"] == pytest.approx(DECAY**2)
    assert found["encoder/groups/3/0/shortcut/kernel"] == pytest.approx(DECAY)
    assert found["objective/kernel"] == found["objective/decoder/blocks/bias"] == 1


def test_by_true_gradients_the_lowest_layers_move_least():
    graph, params = nnx.split(vit(), nnx.Param)[:2]
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)

    def loss(params):
        return 1e4 * jnp.square(nnx.merge(graph, params)(View(images)).pooled).sum()

    gradient = {"encoder": nnx.to_pure_dict(jax.jit(jax.grad(loss))(params))}
    pure = {"encoder": nnx.to_pure_dict(params)}
    transform = optimizer(layer_decay=DECAY)
    given, _ = transform.update(gradient, transform.init(pure), pure)
    moved = flat(given)
    sizes = np.abs(np.asarray(moved["encoder/blocks/up/kernel"])).max((1, 2))
    np.testing.assert_allclose(sizes, RATE * np.array([DECAY**3, DECAY**2, DECAY]), rtol=1e-3)
    assert np.abs(moved["encoder/embed/kernel"]).max() == pytest.approx(RATE * DECAY**4, rel=1e-3)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_what_is_no_decay_is_refused(decay):
    with pytest.raises(ValueError, match=r"optimizer\.layer_decay is above 0 and at most 1, not"):
        optimizer(layer_decay=decay)


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": {"trunk": {"kernel": jnp.ones(2)}}},
        {"objective": {"blocks": {"bias": jnp.ones((4, 2))}}},
        {"encoder": {"blocks": {"a": jnp.ones((4, 2)), "b": jnp.ones((3, 2))}}},
        {"encoder": {"blocks": {"a": jnp.ones((4, 2)), "0": {"b": jnp.ones(4)}}}},
    ],
)
def test_an_encoder_whose_layers_cannot_be_told_is_refused(params):
    with pytest.raises(ValueError, match="needs an encoder with blocks that are stacked or listed as `blocks` or"):
        optimizer(layer_decay=0.9).init(params)
