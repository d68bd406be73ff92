from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import typing
from facerep_jax.config import spec
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.dvae import DVAEEncoder
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train.sharding import make_mesh
from facerep_jax.typing import Carried, Features, View, as_kind, pin


def test_pin_gives_back_its_argument_without_a_mesh():
    x = jnp.ones((4, 2))
    assert pin(x) is x


def test_pin_gives_back_its_argument_under_a_mesh_without_batch_axes():
    x = jnp.ones((4, 2))
    with jax.set_mesh(jax.make_mesh((8,), ("other",), axis_types=(jax.sharding.AxisType.Auto,))):
        assert pin(x) is x


@pytest.mark.parametrize("sizes", [dict(replica=8), dict(replica=2, fsdp=4), dict(replica=2, fsdp=2, model=2)])
@pytest.mark.parametrize("ndim", [1, 3])
def test_pin_splits_axis_0_over_the_batch_axes(sizes, ndim):
    """tried: only the replica axis."""
    mesh = make_mesh(sizes)
    x = np.arange(8 * 2 ** (ndim - 1), dtype=np.float32).reshape(8, *(2,) * (ndim - 1))
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: pin(2 * x))(x)
    np.testing.assert_array_equal(y, 2 * x)
    parts = 8 // sizes.get("model", 1)
    assert {shard.data.shape[0] for shard in y.addressable_shards} == {8 // parts}
    assert len({shard.index[0].start for shard in y.addressable_shards}) == parts


def test_what_is_built_keeps_the_contracts():
    def make():
        vit = ViT(variant="Nano/8", image_size=16, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        text = spec(Contrastive, text_encoder=spec(TextTransformer, width=8, depth=1, heads=1))
        tokens = spec(MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=8, codes=4), heads=3)
        both = Combined(vit, terms=dict(contrastive=text, masked_tokens=tokens), steps=1, rngs=nnx.Rngs(params=0))
        dvae = DVAEEncoder(variant="Nano", dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        assert isinstance(vit, typing.Encoder)
        assert isinstance(dvae, typing.Encoder)
        assert (vit.stages, dvae.stages) == (4, 4)
        assert "drop_path" in vit.no_matter
        for objective in (both, *both.terms.values()):
            assert isinstance(objective, typing.Objective)
            assert not isinstance(objective, typing.Task | typing.Encoder)
        return vit

    nnx.eval_shape(make)


def test_views_and_features_pass_through_transformations():
    view = View(jnp.zeros((2, 4, 4, 3)))
    assert (view.keep, view.masked, view.fill) == (None, None, None)
    assert (view.taps, view.apart) == ((), False)
    assert len(jax.tree.leaves(view)) == 1
    seen = jax.jit(lambda v: Features(v.image[:, 0, 0], v.image[:, 0], {1: v.image}))(view)
    assert isinstance(seen, Features)
    assert isinstance(seen.maps, Mapping)
    assert seen.cls is None


def test_taps_of_a_view_are_static_and_nothing_of_it_can_be_written():
    view = View(jnp.zeros((2, 4, 4, 3)), taps=(2, 0), apart=True)
    again = jax.jit(lambda view: replace(view, image=view.image + view.taps[0]))(view)
    assert (again.taps, again.apart) == ((2, 0), True)
    np.testing.assert_array_equal(again.image, view.image + 2)
    assert jax.tree.structure(view) != jax.tree.structure(replace(view, taps=()))
    with pytest.raises(FrozenInstanceError):
        view.taps = ()


def test_maps_are_found_by_their_tap():
    """tried: maps in the order of the mapping."""
    maps = {tap: jnp.full((1, 2, 2, 3), float(tap)) for tap in (1, 4, 9)}
    features = jax.jit(lambda maps: Features(jnp.zeros((1, 3)), jnp.zeros((1, 4, 3)), maps))(maps)
    assert [float(x.mean()) for x in features.at((9, 1))] == [9, 1]
    (pooled,) = features._replace(pooled=jnp.arange(3.0)[None]).at(())
    np.testing.assert_array_equal(pooled, np.arange(3.0).reshape(1, 1, 1, 3))
    with pytest.raises(KeyError):
        features.at((2,))


def test_carried_and_frozen_are_kinds_of_their_own():
    assert not issubclass(typing.Carried, nnx.Param | typing.Frozen)
    assert not issubclass(typing.Frozen, nnx.Param | typing.Carried)
    assert issubclass(typing.Statistics, typing.Carried)


class Network(nnx.Module):
    """Weights, running statistics, a queue, and a part within."""

    def __init__(self):
        self.kernel, self.queue = nnx.Param(jnp.arange(3.0)), Carried(jnp.full(2, 7.0))
        self.norms = nnx.List([BatchNorm(2), BatchNorm(2)])

    def __call__(self, x, *, train):
        return self.norms[1](x, train=train) * self.kernel[...].sum() + self.queue[...][None]


@pytest.mark.parametrize("kind", [typing.Frozen, typing.Carried])
def test_all_variables_of_a_module_take_one_kind_and_keep_their_values(kind):
    """tried: parameters alone, so that statistics of a frozen network would still move."""
    network = Network()
    turned = as_kind(network, kind)
    state, before = dict(nnx.to_flat_state(nnx.state(turned))), dict(nnx.to_flat_state(nnx.state(network)))
    assert set(state) == set(before)
    assert len(before) == 10
    for path, variable in state.items():
        assert type(variable) is kind
        np.testing.assert_array_equal(variable[...], before[path][...])
    assert [type(before[path]) for path in (("kernel",), ("queue",), ("norms", 1, "mean"))] == [
        nnx.Param,
        Carried,
        typing.Statistics,
    ]  # the module that was given is as it was
    x = jnp.ones((4, 2))
    np.testing.assert_array_equal(turned(x, train=False), network(x, train=False))


def test_a_frozen_network_shares_memory_and_a_carried_one_does_not():
    """tried: copies for both; a teacher that shares, whose memory a step would be given twice."""
    network = Network()
    where = {path: x[...].unsafe_buffer_pointer() for path, x in nnx.to_flat_state(nnx.state(network))}
    frozen, carried = as_kind(network, typing.Frozen), as_kind(network, Carried)
    for path, variable in nnx.to_flat_state(nnx.state(frozen)):
        assert variable[...].unsafe_buffer_pointer() == where[path]
    for path, variable in nnx.to_flat_state(nnx.state(carried)):
        assert variable[...].unsafe_buffer_pointer() != where[path]
