"""The training state, and how modules become pure trees of arrays and back."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from facerep_jax.suggestions import examples
from facerep_jax.typing import Frozen, Statistics, Tree


class Model(nnx.Module):
    """An encoder and the objective that trains it; the encoder is None if features are given instead."""

    def __init__(self, encoder: Any, objective: Any):
        self.encoder, self.objective = encoder, objective


class TrainState(NamedTuple):
    """Everything that a step reads and writes, and that a checkpoint holds."""

    step: Int[Array, ""]  # number of steps done
    params: Tree  # learnt by gradient
    variables: Tree  # carried from step to step but not learnt: batch statistics, queues, teachers
    opt_state: Tree
    ema: Tree | None  # moving average of parameters and running statistics: {"params": ..., "variables": ...}


def split(model: Any) -> tuple[Any, Tree, Tree, Tree]:
    """A module as (graph, params, variables, frozen), the last three of which are nested dicts of arrays."""
    graph, params, frozen, variables = nnx.split(model, nnx.Param, Frozen, ...)  # type: ignore[misc]
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(variables), nnx.to_pure_dict(frozen)


def merge(graph: Any, params: Tree, variables: Tree, frozen: Tree) -> Any:
    """The module that `split` took apart."""
    return nnx.merge(graph, params, variables, frozen)


def abstract(make: Callable[[], Any]) -> tuple[Any, Tree, Tree, Tree]:
    """`split(make())` with shapes in place of arrays; nothing is computed."""
    return split(nnx.eval_shape(make))


def initial(make: Callable[[], Any], init_optimizer: Callable[[Tree], Tree], *, ema: bool) -> TrainState:
    """The state of `make()` before its first step; pure, so that it can be jitted with the shardings of its result."""
    return state_of(make(), init_optimizer, ema=ema)


def state_of(model: Any, init_optimizer: Callable[[Tree], Tree], *, ema: bool) -> TrainState:
    """The state of a model before its first step; its average starts as a copy of the weights."""
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
    """The part of a state that is averaged: all parameters, and those variables that the average `like` holds."""
    return {"params": params, "variables": same_paths(variables, like["variables"])}


def same_paths(tree: Tree, like: Tree) -> Tree:
    """The part of a nested dict that has the paths of `like`."""
    if not isinstance(like, Mapping):
        return tree
    return {name: same_paths(tree[name], below) for name, below in like.items()}


def replaced(tree: Tree, by: Tree) -> Tree:
    """A nested dict in which the leaves of `by` replace those at the same paths."""
    if not isinstance(tree, Mapping):
        return by
    return {name: replaced(below, by[name]) if name in by else below for name, below in tree.items()}


def flat(tree: Tree) -> dict[str, Any]:
    """A tree as {path: leaf}, with paths such as `encoder/blocks/query/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_of(path): leaf for path, leaf in leaves}


def path_of(path: tuple) -> str:
    """A jax key path as text, with its parts joined by slashes."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def require_match(pattern: str, paths: Iterable[str], place: str) -> None:
    """Check that a regex of a config matches a path; `place` says where the config has it.

    Raises ValueError if it is no regex, or matches none.
    """
    paths = list(paths)
    try:
        found = any(re.search(pattern, path) for path in paths)
    except re.error as error:
        raise ValueError(f"{place} has {pattern!r}, which is no regular expression: {error}") from None
    if not found:
        there = examples(pattern, paths)
        raise ValueError(f"{place} has {pattern!r}, which matches no parameter; there are, for example, {there}")


def described(leaf: Any) -> str:
    """An array's shape and type as text."""
    return f"{tuple(leaf.shape)} {np.dtype(leaf.dtype).name}"


def mismatch(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first of the arrays by path that are not alike there and in the config, in words; empty if all are.

    Arrays are alike if they have the same path, shape and type.
    """
    for path in sorted({*there, *here}):
        found, wanted = (described(arrays[path]) if path in arrays else "missing" for arrays in (there, here))
        if found != wanted:
            return f"{path} is {found} there and {wanted} in the config"
    return ""


def count(tree: Tree) -> int:
    """How many numbers the leaves of a tree hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
