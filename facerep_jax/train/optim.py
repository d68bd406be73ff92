"""Optimizers: optax chains whose rules go by a parameter's path, never by its rank."""

import re
from typing import NamedTuple

import jax
import optax

from facerep_jax.config import pick
from facerep_jax.train.state import path_of
from facerep_jax.typing import Tree

DECAYED = r"(kernel|projection|token_embedding)$"  # stacked biases have two axes, so "ndim > 1" would decay them


class Optimizer(NamedTuple):
    """A gradient transformation and the schedule that it follows."""

    transform: optax.GradientTransformation
    schedule: optax.Schedule


def adamw(
    *,
    learning_rate: float = 1e-3,
    warmup_steps: int = 0,
    initial_learning_rate: float = 1e-6,
    final_learning_rate: float = 1e-6,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.05,
    decayed: str = DECAYED,
    clip_norm: float = 0.0,
    multipliers: tuple[tuple[str, float], ...] = (),
    schedule: str = "cosine",
    milestones: tuple[float, ...] = (),
    steps: int,
) -> Optimizer:
    """AdamW with linear warm-up, then half a cosine or steps.

    Args:
        schedule: of the learning rate after the warm-up: `cosine` falls to the final one, `steps` keeps it and divides
            it by 10 at each milestone, as torch's MultiStepLR.
        milestones: shares of the run, in order.
        decayed: regex; parameters whose path matches are decayed.
        clip_norm: largest global norm of the gradient; 0 leaves it as it is.
        multipliers: (regex, factor) pairs; the learning rate of parameters whose path matches is multiplied.
        steps: of the whole run.
    """
    warmup_steps = min(warmup_steps, steps - 1)
    rates = pick(
        "schedule",
        schedule,
        dict(
            cosine=optax.warmup_cosine_decay_schedule(
                initial_learning_rate, learning_rate, warmup_steps, steps, final_learning_rate
            ),
            steps=optax.join_schedules(
                [
                    optax.linear_schedule(initial_learning_rate, learning_rate, warmup_steps),
                    optax.piecewise_constant_schedule(
                        learning_rate, {round(share * steps) - warmup_steps: 0.1 for share in milestones}
                    ),
                ],
                [warmup_steps],
            ),
        ),
    )
    transforms = [
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.adamw(rates, b1, b2, weight_decay=weight_decay, mask=lambda params: matching(params, decayed)),
        *[
            optax.masked(optax.scale(factor), lambda params, p=pattern: matching(params, p))
            for pattern, factor in multipliers
        ],
    ]
    return Optimizer(optax.chain(*transforms), rates)


def matching(tree: Tree, pattern: str) -> Tree:
    """A tree of booleans: whether a leaf's path matches a regex."""
    return jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(pattern, path_of(path))), tree)
