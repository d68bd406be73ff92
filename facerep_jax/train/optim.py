"""Optimizers: optax chains that select parameters by path, never by rank."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from facerep_jax import schedules
from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.train.state import path_of
from facerep_jax.typing import Tree

DECAYED = r"(kernel|projection|token_embedding)$"  # stacked biases have two axes, so "ndim > 1" would decay them
COSINE = plain(spec(schedules.warmup_cosine))  # spec of the default schedule

Freeze = tuple[tuple[str, int], ...]  # (regex on a path, number of steps; -1 for the whole run)


class Optimizer(NamedTuple):
    """A gradient transformation and the schedule that it follows."""

    transform: optax.GradientTransformation
    schedule: optax.Schedule


def adamw(
    *,
    learning_rate: float = 1e-3,
    schedule: Spec = COSINE,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.05,
    decayed: str = DECAYED,
    clip_norm: float = 0.0,
    multipliers: tuple[tuple[str, float], ...] = (),
    freeze: Freeze = (),
    steps: int,
) -> Optimizer:
    """AdamW with a schedule of its learning rate.

    Args:
        learning_rate: the schedule's peak.
        schedule: spec of a schedule that takes a `peak`, see `facerep_jax.schedules`.
        decayed: regex; weight decay applies to parameters whose path matches.
        clip_norm: largest global norm of the gradient; 0 does not clip.
        multipliers: (regex, factor) pairs; the learning rate of parameters whose path matches is multiplied.
        freeze: (regex, steps) pairs, see `frozen_at_first`.
        steps: length of the whole run.
    """
    rates = build(schedule, peak=learning_rate, steps=steps)
    transform = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.adamw(rates, b1, b2, weight_decay=weight_decay, mask=lambda params: matching(params, decayed)),
        *[
            optax.masked(optax.scale(factor), lambda params, p=pattern: matching(params, p))
            for pattern, factor in multipliers
        ],
    )
    return Optimizer(frozen_at_first(transform, freeze), rates)


class FreezeState(NamedTuple):
    """The state of `frozen_at_first`."""

    steps: Int[Array, ""]  # number of steps done
    inner: Any


def frozen_at_first(transform: optax.GradientTransformation, freeze: Freeze) -> optax.GradientTransformation:
    """A transformation that freezes some parameters, and their momentum, for the first steps.

    A frozen parameter and its gradient count as 0, so that no momentum builds up from either gradient or decay, and its
    update is 0. Source: SwAV (2006.09882), whose prototypes have no gradient in the first iterations.

    Args:
        freeze: (regex on a path, steps) pairs; -1 steps freeze for the whole run. If empty, `transform` is returned.
    """
    if not freeze:
        return transform

    def masked(tree: Tree, count: Array) -> Tree:
        for pattern, steps in freeze:
            free = jnp.asarray(False) if steps < 0 else count >= steps
            hit = matching(tree, pattern)
            tree = jax.tree.map(lambda x, hit, free=free: jnp.where(free, x, 0) if hit else x, tree, hit)
        return tree

    def init(params: Tree) -> FreezeState:
        return FreezeState(jnp.zeros((), jnp.int32), transform.init(params))

    def update(updates: Tree, state: FreezeState, params: Tree | None = None) -> tuple[Tree, FreezeState]:
        params = None if params is None else masked(params, state.steps)
        updates, inner = transform.update(masked(updates, state.steps), state.inner, params)
        return masked(updates, state.steps), FreezeState(state.steps + 1, inner)

    return optax.GradientTransformation(init, update)


def matching(tree: Tree, pattern: str) -> Tree:
    """A tree of booleans: whether each leaf's path matches a regex."""
    return jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(pattern, path_of(path))), tree)
