"""Schedules: numbers that change as a run goes on. Each is built with the length of the run and called with a step.

A duration is given in steps or as a share of the run; of the two, the one that is not 0 counts. A duration as a share
follows the run if `--config.steps` makes it longer or shorter.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Schedule = Callable[[Int[Array, ""] | int], Float[Array, ""]]


def constant(*, value: float, steps: int) -> Schedule:
    """The same number at each step."""
    return lambda step: jnp.asarray(value, jnp.float32)


def cosine(*, first: float, last: float, duration_steps: int = 0, duration_share: float = 0.0, steps: int) -> Schedule:
    """From `first` to `last` by half a cosine, then `last`; over the whole run if no duration is given.

    A share of less than half a step counts as one step.
    """
    duration = max(1, duration_of(duration_steps, duration_share, steps)) if duration_steps or duration_share else steps

    def value(step: Int[Array, ""] | int) -> Float[Array, ""]:
        share = jnp.clip(jnp.asarray(step) / duration, 0, 1)
        return last + (first - last) * (1 + jnp.cos(jnp.pi * share)) / 2

    return value


def warmup_cosine(
    *,
    peak: float,
    first: float = 1e-6,
    last: float = 1e-6,
    warmup_steps: int = 0,
    warmup_share: float = 0.0,
    steps: int,
) -> optax.Schedule:
    """A schedule from `first` to `peak` in a straight line, then to `last` by half a cosine."""
    warmup = min(duration_of(warmup_steps, warmup_share, steps), steps - 1)
    return optax.warmup_cosine_decay_schedule(first, peak, warmup, steps, last)


def warmup_steps_down(
    *,
    peak: float,
    first: float = 1e-6,
    warmup_steps: int = 0,
    warmup_share: float = 0.0,
    milestones: tuple[float, ...] = (),
    steps: int,
) -> optax.Schedule:
    """A schedule from `first` to `peak` in a straight line, then divided by ten at each milestone.

    Source: torch's MultiStepLR with its default factor.

    Args:
        milestones: shares of the run, in order.
    """
    warmup = min(duration_of(warmup_steps, warmup_share, steps), steps - 1)
    falls = {round(share * steps) - warmup: 0.1 for share in milestones}
    rise, stairs = optax.linear_schedule(first, peak, warmup), optax.piecewise_constant_schedule(peak, falls)
    return optax.join_schedules([rise, stairs], [warmup])


def duration_of(duration_steps: int, share: float, steps: int) -> int:
    """A duration in steps. Raises ValueError if it is given both in steps and as a share, or is out of range."""
    if duration_steps and share:
        raise ValueError(
            f"a duration is given in steps ({duration_steps}) or as a share ({share}) of the run, not both"
        )
    if not 0 <= share <= 1 or duration_steps < 0:
        raise ValueError(f"a duration is a number of steps or a share from 0 to 1, not {duration_steps} or {share}")
    return duration_steps or round(share * steps)
