import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import Linear
from facerep_jax.models.teachers import follow, teacher_of
from facerep_jax.train.state import Model, flat, split
from facerep_jax.typing import Carried, Frozen, Statistics


class Student(nnx.Module):
    """Layers with weights and running statistics, and given weights."""

    def __init__(self, seed):
        rngs = nnx.Rngs(params=seed)
        self.layers = nnx.List([Linear(3, 3, init=nnx.initializers.normal(1.0), rngs=rngs) for _ in range(2)])
        self.norm, self.codes = BatchNorm(3), Frozen(jnp.full(2, float(seed)))

    def __call__(self, x, *, train):
        return self.norm(self.layers[1](self.layers[0](x)), train=train)


def state_of(module):
    return {"/".join(map(str, path)): np.asarray(x[...]) for path, x in nnx.to_flat_state(nnx.state(module))}


WEIGHTS = {f"layers/{i}/{name}" for i in range(2) for name in ("kernel", "bias")} | {"norm/scale", "norm/bias"}
KEPT = {"norm/mean", "norm/variance", "codes"}


def test_a_teacher_starts_as_a_copy_and_nothing_of_it_is_learnt():
    """tried: a teacher that shares the student's memory; one whose statistics are an average's."""
    student = Student(1)
    student.norm.mean.set_value(jnp.full(3, 5.0))
    model = Model(student, teacher_of(student))
    _, params, variables, frozen = split(model)
    assert set(flat(params["encoder"])) == WEIGHTS
    assert "objective" not in params
    assert "objective" not in frozen
    assert set(flat(variables["objective"])) == WEIGHTS | KEPT
    assert set(flat(nnx.to_pure_dict(nnx.state(model, Statistics)))) == {"encoder/norm/mean", "encoder/norm/variance"}
    assert all(type(x) is Carried for _, x in nnx.to_flat_state(nnx.state(model.objective)))
    for path, value in state_of(student).items():
        np.testing.assert_array_equal(state_of(model.objective)[path], value)
    own = dict(nnx.to_flat_state(nnx.state(model.objective)))
    for path, variable in nnx.to_flat_state(nnx.state(student)):  # a step is given both to write to
        assert own[path][...].unsafe_buffer_pointer() != variable[...].unsafe_buffer_pointer()


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.996, 1.0])
def test_following_is_the_definition_and_leaves_statistics(momentum):
    """tried: the momentum on the student's side; statistics that follow too."""
    teacher, student = teacher_of(Student(1)), Student(2)
    for module, place in ((teacher, 3.0), (student, 8.0)):
        module.norm.mean.set_value(jnp.full(3, place))
        module.norm.variance.set_value(jnp.full(3, place + 1))
    start, given = state_of(teacher), state_of(student)
    expected = start
    for _ in range(2):
        expected = {
            path: momentum * x + (1 - momentum) * given[path] if path in WEIGHTS else x for path, x in expected.items()
        }
        follow(teacher, student, momentum)
    for path, value in state_of(teacher).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-6, atol=1e-7, err_msg=path)
        assert path in WEIGHTS or (value == start[path]).all()
    for path, value in state_of(student).items():
        np.testing.assert_array_equal(value, given[path])
    assert all(type(x) is Carried for _, x in nnx.to_flat_state(nnx.state(teacher)))


def test_a_teacher_moves_its_statistics_by_its_own_passes():
    teacher, student = teacher_of(Student(1)), Student(2)
    x = jnp.asarray(np.random.default_rng(0).normal(4, 2, (6, 3)), jnp.float32)
    teacher(x, train=True)
    y = np.asarray(teacher.layers[1](teacher.layers[0](x)), np.float64)
    np.testing.assert_allclose(teacher.norm.mean[...], 0.1 * y.mean(0), rtol=1e-5)
    np.testing.assert_array_equal(student.norm.mean[...], np.zeros(3))


def test_a_momentum_may_be_a_scheduled_number_under_jit():
    teacher, student = teacher_of(Student(1)), Student(2)

    @jax.jit
    def followed(teacher, student, momentum):
        follow(teacher, student, momentum)
        return nnx.state(teacher)

    after = followed(teacher, student, jnp.float32(0.5))
    expected = (state_of(teacher)["layers/0/kernel"] + state_of(student)["layers/0/kernel"]) / 2
    np.testing.assert_allclose(after["layers"][0]["kernel"][...], expected, rtol=1e-6)
