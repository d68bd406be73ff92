"""The model that a config describes: an encoder and the objective that trains it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import build, build_with
from facerep_jax.models.layers import remat_policy
from facerep_jax.train.hardware import compute_dtype
from facerep_jax.train.state import Model, mismatch

Arrays = Mapping[str, Any]  # path within a module -> array


def model_maker(config: Mapping[str, Any] | ConfigDict) -> Callable[..., Model]:
    """A function that builds a config's encoder and objective, with the same weights at each call.

    Its optional argument holds all arrays of the encoder by path, which replace the encoder's random start.
    """
    dtype = compute_dtype(config["dtype"])
    remat_policy(config["remat"])  # raises for a wrong name here, before anything is written

    def make(given: Arrays | None = None) -> Model:
        rngs = nnx.Rngs(params=config["seed"])
        encoder = build(config["encoder"], dtype=dtype, remat=config["remat"], rngs=rngs)
        if given is not None:
            encoder = filled(encoder, given, "the start")
        return Model(encoder, build_with(config["objective"], {"steps": config["steps"]}, encoder, rngs=rngs))

    return make


def filled(module: Any, arrays: Arrays, name: str) -> Any:
    """A module like `module` with the given arrays in its variables of all kinds.

    Raises ValueError if a path is missing on either side, or a shape or type differs. The message calls the source of
    the arrays `name`.
    """
    graph, state = nnx.split(module)
    wanted = {path_of_variable(path): variable for path, variable in nnx.to_flat_state(state)}
    if problem := mismatch(arrays, wanted):
        raise ValueError(f"{name} is of another architecture: {problem}")
    flat = [(path, variable.replace(jnp.asarray(arrays[path_of_variable(path)]))) for path, variable in
            nnx.to_flat_state(state)]  # fmt: skip
    return nnx.merge(graph, nnx.from_flat_state(flat))


def arrays_of(module: Any) -> dict[str, Any]:
    """The arrays of a module's variables of all kinds, by path."""
    return {path_of_variable(path): variable.get_value() for path, variable in nnx.to_flat_state(nnx.state(module))}


def path_of_variable(path: tuple) -> str:
    """An nnx path as text, with its parts joined by slashes."""
    return "/".join(map(str, path))
