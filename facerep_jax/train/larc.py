"""SGD with momentum whose steps are as long as each array's own norm asks for: LARC, with which SwAV is trained."""

import re

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from facerep_jax import schedules
from facerep_jax.config import Spec, plain, spec
from facerep_jax.train.optim import Freeze, Optimizer, frozen_at_first, rates_of
from facerep_jax.train.state import path_of
from facerep_jax.typing import Tree

STACKED = r"(^|/)blocks/"  # paths of arrays with a leading axis of depth, each layer of which has a norm of its own


def warmup_cosine(
    *, peak: float, first: float = 0.3, last: float, warmup_steps: int = 0, warmup_share: float = 0.0, steps: int
) -> schedules.Schedule:
    """A straight line from `first` to `peak`, both included, then half a cosine from `peak` to `last`.

    So the peak comes twice, and the last step is one short of `last`. Source: facebookresearch/swav, main_swav.py, a
    table of numpy.linspace and of a cosine. `schedules.warmup_cosine` has the peak once, a step later.
    """
    warmup = schedules.duration_of(warmup_steps, warmup_share, steps)
    if warmup >= steps:
        raise ValueError(f"a warm-up of {warmup} steps leaves nothing of {steps}")

    def value(step: Int[Array, ""] | int) -> Float[Array, ""]:
        step = jnp.asarray(step, jnp.float32)
        rise = first + (peak - first) * step / max(warmup - 1, 1)
        fall = last + (peak - last) * (1 + jnp.cos(jnp.pi * (step - warmup) / (steps - warmup))) / 2
        return jnp.where(step < warmup, rise, fall)

    return value


COSINE = plain(spec(warmup_cosine, last=0.0))


def larc(
    *,
    learning_rate: float = 4.8,
    schedule: Spec = COSINE,
    momentum: float = 0.9,
    weight_decay: float = 1e-6,
    trust: float = 1e-3,
    freeze: Freeze = (),
    steps: int,
) -> Optimizer:
    """LARC and SGD with momentum, for all parameters alike, biases and norms included.

    The learning rate multiplies behind the momentum, as torch's SGD has it: optax.lars, which also divides by another
    norm, has it before. Weights of norm 0, such as biases at first, take the plain gradient: a step as long as it is.

    Source: 1708.03888, without its clipping; NVIDIA/apex, apex/parallel/LARC.py with clip=False.
    Changed: the layers of stacked blocks each have their norm; query, key and value, one array in torch's
    transformers, have one each.

    Args:
        learning_rate: the schedule's peak.
        schedule: spec of a schedule, see `optim.rates_of`.
        momentum: of the scaled gradients.
        weight_decay: of all parameters whose norm and gradient are not 0.
        trust: length of a step as a share of the array's norm, at a learning rate of 1.
        freeze: (regex, steps) pairs, see `optim.frozen_at_first`.
        steps: length of the whole run.
    """
    rates = rates_of(schedule, learning_rate, steps)
    chain = optax.chain(
        scaled_by_norms(trust, weight_decay), optax.trace(momentum), optax.scale_by_learning_rate(rates)
    )
    return Optimizer(frozen_at_first(chain, freeze), rates)


def scaled_by_norms(trust: float, weight_decay: float, *, epsilon: float = 1e-8) -> optax.GradientTransformation:
    """A gradient g of weights w as (g + decay w) trust |w| / (|g| + decay |w| + epsilon); as it is if a norm is 0."""

    def scaled(path: tuple, g: Array, w: Array) -> Array:
        axes = tuple(range(1, w.ndim)) if re.search(STACKED, path_of(path)) else None
        weight, gradient = norm(w, axes), norm(g, axes)
        ratio = trust * weight / (gradient + weight_decay * weight + epsilon)
        return jnp.where((weight > 0) & (gradient > 0), ratio * (g + weight_decay * w), g)

    def update(updates: Tree, state: optax.EmptyState, params: Tree | None = None) -> tuple[Tree, optax.EmptyState]:
        return jax.tree_util.tree_map_with_path(scaled, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def norm(x: Array, axes: tuple[int, ...] | None) -> Array:
    """The Euclidean norm over some axes, or over all, of a shape that `x` can be multiplied by."""
    return jnp.sqrt(jnp.square(x).sum(axes, keepdims=True))
