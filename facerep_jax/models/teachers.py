"""Teachers: copies of a network that follow it at a distance and are not trained."""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.typing import Carried, as_kind


def teacher_of(student: Any) -> Any:
    """A teacher that starts as a copy of the student, statistics included, and is carried from step to step."""
    return as_kind(student, Carried)


def follow(teacher: nnx.Module, student: Any, momentum: float | Float[Array, ""]) -> None:
    """Move a teacher's weights towards the student's: momentum * its own + (1 - momentum) * the student's.

    Running statistics are left alone: the teacher's own passes update them.
    Source: MoCo (1911.05722), equation 2.
    """
    own = dict(nnx.to_flat_state(nnx.state(teacher)))
    for path, weight in nnx.to_flat_state(nnx.state(student, nnx.Param)):
        own[path].set_value(momentum * own[path][...] + (1 - momentum) * weight[...])
