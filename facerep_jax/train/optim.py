"""Optimizers: optax chains that select parameters by path, never by rank."""

import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from facerep_jax import schedules
from facerep_jax.config import Spec, build_with, parameters_of, plain, spec
from facerep_jax.train.layer_decay import layer_decay as by_layer
from facerep_jax.train.state import flat, path_of, require_match
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
    layer_decay: float | None = None,
    freeze: Freeze = (),
    steps: int,
) -> Optimizer:
    """AdamW with a schedule of its learning rate.

    Args:
        learning_rate: the schedule's peak.
        schedule: spec of a schedule, see `rates_of`.
        decayed: regex; weight decay applies to parameters whose path matches.
        clip_norm: largest global norm of the gradient; 0 does not clip.
        multipliers: (regex, factor) pairs; the learning rate of parameters whose path matches is multiplied.
        layer_decay: factor of the learning rate from each layer of the encoder to the one below, see
            `layer_decay.factors`; None for one rate. Those of `multipliers` come on top.
        freeze: (regex, steps) pairs, see `frozen_at_first`.
        steps: length of the whole run.

    Its `init` raises ValueError if a pattern is no regex, or matches no parameter; the default of `decayed` need not.
    """
    rates = rates_of(schedule, learning_rate, steps)
    decays = matching if decayed == DECAYED else partial(chosen, place="optimizer.decayed")
    transform = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.adamw(rates, b1, b2, weight_decay=weight_decay, mask=lambda params: decays(params, decayed)),
        *[
            optax.masked(optax.scale(factor), lambda params, p=pattern: chosen(params, p, "optimizer.multipliers"))
            for pattern, factor in multipliers
        ],
        *([] if layer_decay is None else [by_layer(layer_decay)]),
    )
    return Optimizer(frozen_at_first(transform, freeze), rates)


def rates_of(schedule: Spec, learning_rate: float, steps: int) -> schedules.Schedule:
    """The schedule of a spec, whose `peak` is the learning rate; without a peak its `value`, or else its `first`.

    Raises ValueError if the schedule has none of them, or the spec says it too, or the learning rate is negative.
    """
    if not learning_rate >= 0:
        raise ValueError(f"optimizer.learning_rate is at least 0, not {learning_rate}")
    taken = [name for name in ("peak", "value", "first") if name in parameters_of(schedule)]
    if not taken:
        raise ValueError(f"{schedule['call']} is no schedule of a learning rate: it has no peak, value or first")
    if taken[0] in schedule:
        said = f"{taken[0]}={schedule[taken[0]]}"
        raise ValueError(
            f"optimizer.schedule says {said}, which optimizer.learning_rate={learning_rate} says: leave it out"
        )
    return build_with(schedule, {taken[0]: learning_rate}, steps=steps)


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
        for pattern, _ in freeze:
            require_match(pattern, flat(params), "optimizer.freeze")
        return FreezeState(jnp.zeros((), jnp.int32), transform.init(params))

    def update(updates: Tree, state: FreezeState, params: Tree | None = None) -> tuple[Tree, FreezeState]:
        params = None if params is None else masked(params, state.steps)
        updates, inner = transform.update(masked(updates, state.steps), state.inner, params)
        return masked(updates, state.steps), FreezeState(state.steps + 1, inner)

    return optax.GradientTransformation(init, update)


def chosen(tree: Tree, pattern: str, place: str) -> Tree:
    """`matching` by a regex that a config has at a place; raises ValueError if it matches nothing."""
    require_match(pattern, flat(tree), place)
    return matching(tree, pattern)


def matching(tree: Tree, pattern: str) -> Tree:
    """A tree of booleans: whether each leaf's path matches a regex."""
    return jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(pattern, path_of(path))), tree)
