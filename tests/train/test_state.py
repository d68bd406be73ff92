import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.train import state
from facerep_jax.train.state import Model, abstract, averaged, flat, initial, merge, split
from facerep_jax.typing import Carried, Frozen


class Part(nnx.Module):
    def __init__(self, width):
        self.kernel = nnx.Param(jnp.arange(float(width)))
        self.queue = Carried(jnp.full(width, 3.0))
        self.count = Carried(jnp.int32(7))
        self.codes = Frozen(jnp.full(width, 5.0))
        self.width = width


def make():
    return Model(Part(2), nnx.Dict(inner=Part(3)))


@pytest.fixture(scope="module")
def model():
    return make()


def test_split_sorts_what_is_learnt_carried_and_given(model):
    _, params, variables, frozen = split(model)
    assert set(flat(params)) == {"encoder/kernel", "objective/inner/kernel"}
    assert set(flat(variables)) == {f"{path}/{name}" for path in PATHS for name in ("queue", "count")}
    assert set(flat(frozen)) == {f"{path}/codes" for path in PATHS}
    assert all(type(leaf) is not nnx.Param for leaf in jax.tree.leaves(params))


PATHS = ("encoder", "objective/inner")


def test_merge_gives_back_the_module_with_the_values_it_is_given(model):
    graph, params, variables, frozen = split(model)
    doubled = merge(graph, jax.tree.map(lambda x: 2 * x, params), variables, frozen)
    np.testing.assert_array_equal(doubled.objective["inner"].kernel[...], [0, 2, 4])
    np.testing.assert_array_equal(doubled.encoder.queue[...], model.encoder.queue[...])
    np.testing.assert_array_equal(doubled.encoder.codes[...], model.encoder.codes[...])
    assert isinstance(doubled.encoder.codes, Frozen)
    assert doubled.encoder.width == 2
    again = split(doubled)
    assert again[0] == graph
    assert jax.tree.structure(again[1:]) == jax.tree.structure((params, variables, frozen))


def test_abstract_has_shapes_in_place_of_arrays(model):
    graph, *shapes = abstract(make)
    _, *trees = split(model)
    assert graph == split(model)[0]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(lambda x: (x.shape, x.dtype), trees)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
    _, params, _, _ = abstract(lambda: Part(2**40))  # would not fit in memory
    assert state.count(params) == 2**40


def test_the_average_starts_at_params_and_float_variables_as_copies():
    start = jax.jit(lambda: initial(make, lambda params: {"seen": params}, ema=True))()
    assert start.step == 0
    assert start.step.dtype == jnp.int32
    assert set(flat(start.ema)) == {f"params/{p}/kernel" for p in PATHS} | {f"variables/{p}/queue" for p in PATHS}
    for path, leaf in flat(start.params).items():
        np.testing.assert_array_equal(flat(start.ema)[f"params/{path}"], leaf)
        assert flat(start.ema)[f"params/{path}"] is not leaf  # both are donated
    np.testing.assert_array_equal(flat(start.opt_state["seen"])["encoder/kernel"], [0, 1])
    assert initial(make, lambda params: None, ema=False).ema is None


def test_averaged_leaves_out_integers(model):
    _, params, variables, _ = split(model)
    kept = averaged(params, variables)
    assert kept["params"] is params
    assert set(kept["variables"]) == {f"{path}/queue" for path in PATHS}


def test_flat_names_leaves_by_their_path():
    tree = {"b": {"c": 1, "a": [2, 3]}, "a": (4,)}
    assert flat(tree) == {"a/0": 4, "b/a/0": 2, "b/a/1": 3, "b/c": 1}


def test_count_adds_up_the_numbers_of_all_leaves():
    assert state.count({"a": np.zeros((2, 3)), "b": jax.ShapeDtypeStruct((4, 5), jnp.float32), "c": np.zeros(())}) == 27
