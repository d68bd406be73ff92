import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import typing
from facerep_jax.config import spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train.sharding import make_mesh
from facerep_jax.typing import Features, View, pin


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
        both = Combined(vit, terms=dict(contrastive=text, masked_tokens=tokens), rngs=nnx.Rngs(params=0))
        assert isinstance(vit, typing.Encoder)
        for objective in (both, *both.terms.values()):
            assert isinstance(objective, typing.Objective)
            assert not isinstance(objective, typing.Task | typing.Encoder)
        return vit

    nnx.eval_shape(make)


def test_views_and_features_pass_through_transformations():
    view = View(jnp.zeros((2, 4, 4, 3)))
    assert (view.keep, view.masked, view.fill) == (None, None, None)
    assert len(jax.tree.leaves(view)) == 1
    seen = jax.jit(lambda v: Features(v.image[:, 0, 0], v.image[:, 0], (v.image,)))(view)
    assert isinstance(seen, Features)
    assert isinstance(seen.maps, tuple)
    assert seen.cls is None


def test_carried_and_frozen_are_kinds_of_their_own():
    assert not issubclass(typing.Carried, nnx.Param | typing.Frozen)
    assert not issubclass(typing.Frozen, nnx.Param | typing.Carried)
