"""The training state, and the line between modules and pure trees of arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from facerep_jax.typing import Frozen, Tree


class Model(nnx.Module):
    """An encoder and the objective that trains it; without the encoder where features are given."""

    def __init__(self, encoder: Any, objective: Any):
        self.encoder, self.objective = encoder, objective


class TrainState(NamedTuple):
    """All that a step reads and writes; what a checkpoint holds."""

    step: Int[Array, ""]  # steps done
    params: Tree  # what is learnt
    variables: Tree  # what is carried: batch statistics, queues, teachers
    opt_state: Tree
    ema: Tree | None  # average of params, and of variables that are floats


def split(model: Any) -> tuple[Any, Tree, Tree, Tree]:
    """A module as (graph, params, variables, frozen), each of the three a nested dict of arrays."""
    graph, params, frozen, variables = nnx.split(model, nnx.Param, Frozen, ...)  # type: ignore[misc]
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(variables), nnx.to_pure_dict(frozen)


def merge(graph: Any, params: Tree, variables: Tree, frozen: Tree) -> Any:
    """The module that `split` took apart."""
    return nnx.merge(graph, params, variables, frozen)


def abstract(make: Callable[[], Any]) -> tuple[Any, Tree, Tree, Tree]:
    """`split(make())` with shapes for arrays; nothing is computed."""
    return split(nnx.eval_shape(make))


def initial(make: Callable[[], Any], init_optimizer: Callable[[Tree], Tree], *, ema: bool) -> TrainState:
    """The state before the first step; pure, to be jitted with the shardings of its result."""
    _, params, variables, _ = split(make())
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        variables=variables,
        opt_state=init_optimizer(params),
        ema=jax.tree.map(jnp.copy, averaged(params, variables)) if ema else None,
    )


def averaged(params: Tree, variables: Tree) -> Tree:
    """What an average is kept of: params and the variables that are floats."""
    floats = {path: x for path, x in flat(variables).items() if jnp.issubdtype(x.dtype, jnp.floating)}
    return {"params": params, "variables": floats}


def flat(tree: Tree) -> dict[str, Any]:
    """A tree as {path: leaf}; a path reads `encoder/blocks/query/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_of(path): leaf for path, leaf in leaves}


def path_of(path: tuple) -> str:
    """A key path of jax as text, its parts joined by slashes."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def count(tree: Tree) -> int:
    """Numbers held by the leaves of a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
