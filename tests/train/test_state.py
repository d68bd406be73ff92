import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.teachers import teacher_of
from facerep_jax.train import state
from facerep_jax.train.state import (
    Model,
    abstract,
    averaged,
    flat,
    initial,
    merge,
    replaced,
    same_paths,
    split,
    state_of,
)
from facerep_jax.typing import Carried, Frozen, Statistics


class Part(nnx.Module):
    def __init__(self, width):
        self.kernel = nnx.Param(jnp.arange(float(width)))
        self.queue = Carried(jnp.full(width, 3.0))
        self.count = Carried(jnp.int32(7))
        self.mean = Statistics(jnp.full(width, 4.0))
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
    assert set(flat(variables)) == {f"{path}/{name}" for path in PATHS for name in ("queue", "count", "mean")}
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


def test_the_average_starts_at_params_and_running_statistics_as_copies():
    """tried: queues and teachers averaged too."""
    start = jax.jit(lambda: initial(make, lambda params: {"seen": params}, ema=True))()
    assert start.step == 0
    assert start.step.dtype == jnp.int32
    assert set(flat(start.ema)) == {f"params/{p}/kernel" for p in PATHS} | {f"variables/{p}/mean" for p in PATHS}
    for path, leaf in flat(start.params).items():
        np.testing.assert_array_equal(flat(start.ema)[f"params/{path}"], leaf)
        assert flat(start.ema)[f"params/{path}"] is not leaf  # both are donated
    np.testing.assert_array_equal(flat(start.opt_state["seen"])["encoder/kernel"], [0, 1])
    assert initial(make, lambda params: None, ema=False).ema is None


def test_an_average_without_statistics_is_one_of_params():
    start = state_of(Model(None, nnx.Dict(a=nnx.Param(jnp.ones(2)), b=Carried(jnp.ones(3)))), lambda _: None, ema=True)
    assert start.ema["variables"] == {}
    kept = averaged(start.params, start.variables, start.ema)
    assert jax.tree.structure(kept) == jax.tree.structure(start.ema)
    assert replaced(start.variables, kept["variables"]).keys() == start.variables.keys()


def test_averaged_leaves_out_what_is_no_statistic(model):
    _, params, variables, _ = split(model)
    like = state_of(model, lambda params: None, ema=True).ema
    moved = jax.tree.map(lambda x: x + 1, variables)
    kept = averaged(params, moved, like)
    assert kept["params"] is params
    assert set(flat(kept["variables"])) == {f"{path}/mean" for path in PATHS}
    assert jax.tree.structure(kept) == jax.tree.structure(like)
    np.testing.assert_array_equal(kept["variables"]["encoder"]["mean"], np.full(2, 5.0))


def test_a_teachers_statistics_are_not_averaged_and_a_students_are():
    """tried: kinds told by the name of a variable."""
    student = Part(2)
    start = state_of(Model(student, nnx.Dict(teacher=teacher_of(student))), lambda _: None, ema=True)
    assert set(flat(start.ema)) == {"params/encoder/kernel", "variables/encoder/mean"}


def test_replaced_puts_an_average_in_the_place_of_what_it_is_of(model):
    _, _, variables, _ = split(model)
    by = {"objective": {"inner": {"mean": np.full(3, 9.0)}}}
    result = replaced(variables, by)
    for path, leaf in flat(result).items():
        expected = 9.0 if path == "objective/inner/mean" else np.asarray(flat(variables)[path])
        np.testing.assert_array_equal(leaf, expected)
    assert flat(variables)["objective/inner/mean"][0] == 4  # the given tree is as it was
    assert set(flat(same_paths(variables, by))) == {"objective/inner/mean"}
    assert replaced(variables, {}) == variables


def test_flat_names_leaves_by_their_path():
    tree = {"b": {"c": 1, "a": [2, 3]}, "a": (4,)}
    assert flat(tree) == {"a/0": 4, "b/a/0": 2, "b/a/1": 3, "b/c": 1}


def test_count_adds_up_the_numbers_of_all_leaves():
    assert state.count({"a": np.zeros((2, 3)), "b": jax.ShapeDtypeStruct((4, 5), jnp.float32), "c": np.zeros(())}) == 27
