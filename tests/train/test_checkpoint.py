import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.train import checkpoint, sharding
from facerep_jax.train.state import TrainState


def state_of(value: float, ema: bool = True) -> TrainState:
    params = {"encoder": {"blocks": {"up": {"kernel": jnp.full((2, 8, 4), value)}}, "scale": jnp.full(3, value)}}
    return TrainState(
        step=jnp.asarray(5, jnp.int32),
        params=params,
        variables={"count": jnp.arange(4, dtype=jnp.uint32)},
        opt_state=({"mu": params},),
        ema={"params": jax.tree.map(lambda x: x / 2, params), "variables": {}} if ema else None,
    )


def layout_of(state: TrainState, mesh: jax.sharding.Mesh, rules: str) -> TrainState:
    return sharding.shardings(state, mesh, sharding.rules_by_name(rules))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state_of(float(step)), {"data": {"next": step * 64}})
    checkpoints.wait()
    checkpoints.close()
    return workdir


def test_what_was_saved_comes_back_bit_for_bit_on_another_layout(saved):
    mesh, like = sharding.make_mesh({"fsdp": -1}), state_of(0.0)
    checkpoints = checkpoint.Checkpoints(saved / "checkpoints")
    state, meta = checkpoints.restore(checkpoints.latest(), like, layout_of(like, mesh, "fsdp"))
    checkpoints.close()
    assert meta == {"data": {"next": 192}}
    assert jax.tree.structure(state) == jax.tree.structure(like)
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(state_of(3.0)), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    kernel = state.params["encoder"]["blocks"]["up"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 1, 4)}


def test_only_the_newest_are_kept(saved):
    assert checkpoint.steps_in(saved) == [2, 3]


def test_a_state_without_average_is_restored_without(tmp_path):
    like = state_of(1.0, ema=False)
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, like, {})
    checkpoints.wait()
    mesh = sharding.make_mesh({"fsdp": -1})
    state, _ = checkpoints.restore(1, like, layout_of(like, mesh, "replicated"))
    checkpoints.close()
    assert state.ema is None


def test_names_of_checkpoints(saved):
    assert checkpoint.find(str(saved)) == (saved, 3)
    assert checkpoint.find(f"{saved}@2") == (saved, 2)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 .* there are 2, 3"):
        checkpoint.find(f"{saved}@7")
    with pytest.raises(FileNotFoundError, match="no checkpoint in nowhere"):
        checkpoint.find("nowhere")


def test_one_part_is_loaded_without_the_rest(saved):
    like = jax.eval_shape(lambda: state_of(0.0).params["encoder"])
    params = checkpoint.load_part(saved, 3, ("params", "encoder"), like)
    np.testing.assert_array_equal(params["scale"], np.full(3, 3.0))
    average = checkpoint.load_part(saved, 3, ("ema", "params", "encoder"), like)
    np.testing.assert_array_equal(average["scale"], np.full(3, 1.5))


def test_another_architecture_is_named_by_its_first_parameter_and_both_shapes(saved):
    like = {
        "blocks": {"up": {"kernel": jax.ShapeDtypeStruct((4, 8, 4), jnp.float32)}},
        "scale": jax.ShapeDtypeStruct((3,), jnp.float32),
    }
    with pytest.raises(ValueError, match=r"encoder/blocks/up/kernel is \(2, 8, 4\) there and \(4, 8, 4\)"):
        checkpoint.load_part(saved, 3, ("params", "encoder"), like)
    with pytest.raises(ValueError, match=r"encoder/bias is missing there and \(3,\)"):
        checkpoint.load_part(saved, 3, ("params", "encoder"), {**like, "bias": jax.ShapeDtypeStruct((3,), jnp.float32)})


def test_a_part_that_was_not_saved_is_named(saved):
    with pytest.raises(ValueError, match="holds no teacher"):
        checkpoint.load_part(saved, 3, ("teacher", "encoder"), {})
