import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.train.model import arrays_of, filled, model_maker
from facerep_jax.typing import Carried, Statistics, as_kind
from tests.train.tiny import TinyEncoder, TinyObjective

CONFIG = dict(seed=3, steps=2, dtype="float32", remat="none", encoder=spec(TinyEncoder), objective=spec(TinyObjective))


def equal(a, b):
    """Whether two modules hold the same arrays."""
    a, b = arrays_of(a), arrays_of(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


@pytest.fixture(scope="module")
def model():
    return model_maker(CONFIG)()


@pytest.fixture(scope="module")
def given(model):
    """All arrays of an encoder, statistics included, each with values of its own."""
    return {
        path: np.full(x.shape, 2 + index, x.dtype) for index, (path, x) in enumerate(arrays_of(model.encoder).items())
    }


def test_a_model_is_the_same_each_time_and_another_for_another_seed(model):
    assert equal(model_maker(ConfigDict(CONFIG))(), model)
    assert not equal(model_maker({**CONFIG, "seed": 4})(), model)


def test_arrays_are_those_of_all_kinds_by_path(model):
    assert set(arrays_of(model.encoder)) == {"kernel", "norm/scale", "norm/bias", "norm/mean", "norm/variance"}
    assert arrays_of(model)["objective/teacher/norm/mean"].shape == (4,)


def test_a_given_start_takes_the_place_of_the_encoders_and_no_other_draw_changes(model, given):
    """The teacher is a copy of what is given. Tried: the objective built before."""
    started = model_maker(CONFIG)(given)
    found = arrays_of(started.encoder)
    for path, x in given.items():
        np.testing.assert_array_equal(found[path], x)
    assert equal(started.objective.teacher, started.encoder)
    np.testing.assert_array_equal(started.objective.scale[...], model.objective.scale[...])


def test_a_given_start_may_be_traced(given):
    started = jax.jit(lambda given: arrays_of(model_maker(CONFIG)(given).encoder))(given)
    np.testing.assert_array_equal(started["norm/variance"], given["norm/variance"])


def test_filling_keeps_kinds_and_leaves_the_module_as_it_was(model, given):
    before = arrays_of(model.encoder)
    full = filled(model.encoder, given, "the file")
    assert type(full.norm.mean) is Statistics
    assert type(full.kernel) is nnx.Param
    assert all(np.array_equal(x, before[path]) for path, x in arrays_of(model.encoder).items())
    teacher = filled(as_kind(model.encoder, Carried), given, "the file")
    assert type(teacher.norm.mean) is type(teacher.kernel) is Carried
    assert equal(teacher, full)


def test_shapes_alone_can_be_filled(given):
    empty = nnx.eval_shape(lambda: TinyEncoder(dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    np.testing.assert_array_equal(filled(empty, given, "the file").kernel[...], given["kernel"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("norm/mean"), r"norm/mean is missing there and \(4,\) float32 in the config"),
        (lambda x: x.update(more=np.zeros(3)), r"more is \(3,\) float64 there and missing in the config"),
        (
            lambda x: x.update(kernel=np.zeros((3, 5), np.float32)),
            r"kernel is \(3, 5\) float32 there and \(3, 4\) float",
        ),
        (
            lambda x: x.update(kernel=np.zeros((3, 4), np.float16)),
            r"kernel is \(3, 4\) float16 there and \(3, 4\) float",
        ),
    ],
)
def test_what_does_not_fit_is_named(model, given, change, message):
    changed = dict(given)
    change(changed)
    with pytest.raises(ValueError, match=f"the file is of another architecture: {message}"):
        filled(model.encoder, changed, "the file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [(dict(dtype="half"), "dtype is auto"), (dict(remat="all"), "remat is 'none' or one of")],
)
def test_wrong_names_are_found_before_a_model_is_built(changes, message):
    with pytest.raises(ValueError, match=message):
        model_maker({**CONFIG, **changes})


def test_an_objective_that_takes_the_length_of_the_run_is_given_it():
    def steps_of(config):
        return model_maker(config)().objective.steps

    config = {**CONFIG, "objective": {"call": "tests.train.test_model:Scheduled"}}
    assert steps_of(config) == 2
    assert steps_of({**config, "objective": {**config["objective"], "steps": 9}}) == 9


class Scheduled(nnx.Module):
    def __init__(self, encoder, *, steps, rngs):
        self.steps = steps
