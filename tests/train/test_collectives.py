"""Bytes of collectives: of programs compiled for eight CPU devices, and of the text that libtpu gives for a loop."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from facerep_jax.train.collectives import collective_bytes

# As libtpu 0.0.42 writes a loop of 12 over an all-gather that is taken apart, shortened.
TPU = """\
%start.1 (p: bf16[64,512]) -> (bf16[64,512], bf16[512,512]) {
  %all-gather.1 = bf16[1,512,512]{2,1,0:T(8,128)(2,1)} all-gather(%p), channel_id=8, dimensions={1}
}
%done.1 (p: bf16[64,512]) -> bf16[512,512] {
  %all-gather.2 = bf16[1,512,512]{2,1,0:T(8,128)(2,1)} all-gather(%p), channel_id=8, dimensions={1}
}
%body (p: (s32[], bf16[64,512])) -> (s32[], bf16[64,512]) {
  %async-collective-start = (bf16[64,512], bf16[512,512]) fusion(%x), kind=kCustom, calls=%start.1
  %async-collective-done = bf16[1,512,512]{2,1,0} fusion(%x), kind=kCustom, calls=%done.1
  %all-reduce.3 = (bf16[32,4]{1,0:T(8,128)(2,1)S(1)}, f32[]) all-reduce(%y, %z), channel_id=6, to_apply=%add.1.clone
}
%condition (p: (s32[], bf16[64,512])) -> pred[] {
  %constant.53.clone.1 = s32[]{:T(128)} constant(12)
  ROOT %lt.10 = pred[]{:T(512)} compare(%get-tuple-element.219, %constant.53.clone.1), direction=LT
}
ENTRY %main (p: bf16[64,512]) -> bf16[64,512] {
  %while.31 = (s32[]{:T(128)}, bf16[64,512]) while(%tuple.58), condition=%condition, body=%body
}
"""


def test_of_a_tpus_loop():
    assert collective_bytes(TPU) == {"all-gather": 12 * 2 * 512 * 512, "all-reduce": 12 * (2 * 32 * 4 + 4)}


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def compiled(function, mesh, shape, split, out=None):
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, split))
    return jax.jit(function, out_shardings=NamedSharding(mesh, out or PartitionSpec())).lower(x).compile().as_text()


def test_of_a_sum_over_devices(mesh):
    text = compiled(lambda x: x.sum(0), mesh, (16, 100), PartitionSpec("data"))
    assert collective_bytes(text) == {"all-reduce": 4 * 100}


def test_of_a_gather(mesh):
    text = compiled(lambda x: x * 2, mesh, (16, 100), PartitionSpec("data"))
    assert collective_bytes(text) == {"all-gather": 4 * 1600}


@pytest.mark.parametrize("length", [1, 5])
def test_a_loop_counts_as_often_as_it_runs(mesh, length):
    def step(x):
        total = jax.lax.with_sharding_constraint((x @ x.T).sum(), NamedSharding(mesh, PartitionSpec()))
        return x + total / 100

    def function(x):
        return jax.lax.scan(lambda x, _: (step(x), None), x, None, length=length)[0]

    split = PartitionSpec(None, "data")
    text = compiled(function, mesh, (16, 64), split, split)
    assert collective_bytes(text) in ({"all-reduce": 4 * length}, {"all-reduce": 4 * 16 * 16 * length})


def test_those_of_a_shard_map_share_a_channel_and_all_count(mesh):
    ring = [(i, (i + 1) % 8) for i in range(8)]

    @partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
    def function(x):
        def body(pair, _):
            return tuple(jax.lax.ppermute(part + 1, "data", ring) for part in pair), None

        return sum(jax.lax.scan(body, (x, x.sum(0, keepdims=True)), None, length=5)[0])

    text = compiled(function, mesh, (16, 100), PartitionSpec("data"), PartitionSpec("data"))
    assert collective_bytes(text) == {"collective-permute": 5 * 4 * (200 + 100)}


def test_of_one_device():
    assert collective_bytes(jax.jit(lambda x: x + 1).lower(jnp.ones(3)).compile().as_text()) == {}
