"""Stochastic gradient descent with momentum, as torch has it."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import optax

from facerep_jax import schedules
from facerep_jax.config import Spec
from facerep_jax.train.optim import COSINE, Freeze, Optimizer, chosen, frozen_at_first, rates_of
from facerep_jax.train.state import flat, path_of, require_match
from facerep_jax.typing import Tree


def straight(*, peak: float, last: float = 0.0, steps: int) -> schedules.Schedule:
    """From `peak` to `last` in a straight line over the whole run. Source: insightface's PolynomialLRWarmup."""
    return optax.linear_schedule(peak, last, steps)


def sgd(
    *,
    learning_rate: float = 0.1,
    schedule: Spec = COSINE,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    decayed: str = ".",
    clip_norm: float = 0.0,
    steady: str = "",
    freeze: Freeze = (),
    steps: int,
) -> Optimizer:
    """SGD with momentum and weight decay; the learning rate multiplies behind the momentum.

    Source: torch.optim.SGD without Nesterov's momentum.

    Args:
        learning_rate: the schedule's peak.
        schedule: spec of a schedule, see `optim.rates_of`.
        weight_decay: added to the gradient of parameters whose path matches the regex `decayed`; as published, all.
        clip_norm: largest global norm of the gradient, before the decay; 0 does not clip.
        steady: regex; parameters whose path matches keep the peak of the learning rate all along. Empty for none.
        freeze: (regex, steps) pairs, see `optim.frozen_at_first`.
        steps: length of the whole run.
    """
    rates = rates_of(schedule, learning_rate, steps)

    def stepped(updates: Tree, state: optax.ScaleByScheduleState, params: Tree | None = None) -> tuple:
        rate = rates(state.count)

        def one(path: tuple, x: jax.Array) -> jax.Array:
            return -x * (learning_rate if steady and re.search(steady, path_of(path)) else rate)

        return jax.tree_util.tree_map_with_path(one, updates), optax.ScaleByScheduleState(state.count + 1)

    def init(params: Tree) -> optax.ScaleByScheduleState:
        if steady:
            require_match(steady, flat(params), "optimizer.steady")
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    decays = partial(chosen, pattern=decayed, place="optimizer.decayed")
    transform = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.add_decayed_weights(weight_decay, mask=decays),
        optax.trace(momentum),
        optax.GradientTransformation(init, stepped),
    )
    return Optimizer(frozen_at_first(transform, freeze), rates)
