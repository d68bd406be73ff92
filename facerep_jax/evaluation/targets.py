"""What outputs of a head should be for the labels of images, losses of these, and outputs that pixels give.

Labels that are not known, NaN or below 0 where no label can be, are in no loss.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from facerep_jax.evaluation import pixels
from facerep_jax.models.pooled import Encode, Targets


def numbers(labels: Float[Array, "b *o"], outputs: int) -> Targets:
    """Numbers as they are; NaN is not known."""
    labels = labels.reshape(len(labels), outputs)
    known = jnp.isfinite(labels)
    return Targets(jnp.where(known, labels, 0), known)


def yes_or_no(labels: Float[Array, "b o"], outputs: int) -> Targets:
    """1 for yes, above 0.5, and -1 for no, from 0 on; NaN and what is below 0 is not known."""
    known = labels >= 0  # not so for NaN
    return Targets(jnp.where(labels > 0.5, 1.0, -1.0), known)


def one_of(labels: Int[Array, "b"], outputs: int) -> Targets:
    """1 for the class that a label names, and -1 for all others; a label below 0 is not known."""
    values = jnp.where(labels[:, None] == jnp.arange(outputs)[None], 1.0, -1.0)
    return Targets(values, jnp.broadcast_to((labels >= 0)[:, None], values.shape))


def squared(outputs: Float[Array, "b o"], targets: Targets, deviation: Float[Array, "o"]) -> Float[Array, ""]:
    """Mean squared error over known targets, in units of a deviation of each output."""
    return mean_known(jnp.square((outputs - targets.values) / deviation[None]), targets.known)


def binary_entropy(outputs: Float[Array, "b o"], targets: Targets) -> Float[Array, ""]:
    """Mean cross-entropy of logits with yes or no, over known targets."""
    return mean_known(optax.sigmoid_binary_cross_entropy(outputs, (targets.values + 1) / 2), targets.known)


def entropy(outputs: Float[Array, "b o"], targets: Targets) -> Float[Array, ""]:
    """Mean cross-entropy of logits with one of several classes, over examples whose class is known."""
    surprise = -(jax.nn.log_softmax(outputs) * (targets.values + 1) / 2).sum(1)
    return mean_known(surprise, targets.known[:, 0])


def discordance(outputs: Float[Array, "b o"], targets: Targets) -> Float[Array, ""]:
    """One less the concordance correlation (CCC) of each output over known targets of the batch, mean over outputs."""
    known = targets.known
    share = known / jnp.maximum(known.sum(0), 1)[None]
    x, y = jnp.where(known, outputs, 0), jnp.where(known, targets.values, 0)
    mean_x, mean_y = (share * x).sum(0), (share * y).sum(0)
    off_x, off_y = x - mean_x[None], y - mean_y[None]
    spread = (share * (jnp.square(off_x) + jnp.square(off_y))).sum(0) + jnp.square(mean_x - mean_y)
    return (1 - 2 * (share * off_x * off_y).sum(0) / (spread + 1e-8)).mean()


def mean_known(x: Float[Array, "..."], known: Array) -> Float[Array, ""]:
    """The mean of what is known; 0 if nothing is."""
    return jnp.where(known, x, 0).sum() / jnp.maximum(known.sum(), 1)


def of_pixels(
    train: Mapping[str, Any],
    validation: Mapping[str, Any],
    test: Mapping[str, Any],
    label: str,
    encode: Encode,
    outputs: int,
) -> Float[np.ndarray, "m o"]:
    """Outputs that ridge regression on small pixels gives for test images."""

    def wanted(split: Mapping[str, Any]) -> np.ndarray:
        targets = encode(jnp.asarray(split[label]), outputs)
        return np.where(targets.known, targets.values, np.nan)

    return pixels.regressed(train, validation, test, wanted)
