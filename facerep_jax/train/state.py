"""The training state, and the line between modules and pure trees of arrays."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from facerep_jax.typing import Frozen, Statistics, Tree


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
    ema: Tree | None  # average of params and of running statistics: {"params": ..., "variables": ...}


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
    return state_of(make(), init_optimizer, ema=ema)


def state_of(model: Any, init_optimizer: Callable[[Tree], Tree], *, ema: bool) -> TrainState:
    """The state of a model before its first step; the average begins as a copy."""
    _, params, variables, _ = split(model)
    average = {"params": params, "variables": nnx.to_pure_dict(nnx.state(model, Statistics))}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        variables=variables,
        opt_state=init_optimizer(params),
        ema=jax.tree.map(jnp.copy, average) if ema else None,
    )


def averaged(params: Tree, variables: Tree, like: Tree) -> Tree:
    """What an average is kept of: all params, and of the variables those statistics that `like`, an average, holds."""
    return {"params": params, "variables": same_paths(variables, like["variables"])}


def same_paths(tree: Tree, like: Tree) -> Tree:
    """The leaves of a nested dict at the paths that `like` has."""
    if not isinstance(like, Mapping):
        return tree
    return {name: same_paths(tree[name], below) for name, below in like.items()}


def replaced(tree: Tree, by: Tree) -> Tree:
    """A nested dict with the leaves that `by` has in place of its own."""
    if not isinstance(tree, Mapping):
        return by
    return {name: replaced(below, by[name]) if name in by else below for name, below in tree.items()}


def flat(tree: Tree) -> dict[str, Any]:
    """A tree as {path: leaf}; a path reads `encoder/blocks/query/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_of(path): leaf for path, leaf in leaves}


def path_of(path: tuple) -> str:
    """A key path of jax as text, its parts joined by slashes."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def described(leaf: Any) -> str:
    """An array's shape and type."""
    return f"{tuple(leaf.shape)} {np.dtype(leaf.dtype).name}"


def count(tree: Tree) -> int:
    """Numbers held by the leaves of a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
