"""Supervised pre-training by numbers, such as age."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.models.projector import torch_linear
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Tree, View, Views, loss_at_once


class Regression(nnx.Module):
    """Mean absolute error of one number of each face, in units of `unit`, by a linear layer that starts at `mean`.

    A missing number, NaN or a negative integer, does not count. Source: 1804.03487 takes the absolute error for age.

    Args:
        label: key of the batch that holds the number.
        mean, unit: of the number, such as 35 and 20 years.
    """

    offers = ()
    loss = loss_at_once

    def __init__(self, encoder: Encoder, *, label: str, mean: float = 0.0, unit: float = 1.0, rngs: nnx.Rngs):
        if not unit > 0:
            raise ValueError(f"the unit of {label} is above 0, not {unit}")
        self.needs = ("image", label)
        self.head = torch_linear(encoder.width, 1, rngs=rngs)
        self.label, self.mean, self.unit = label, mean, unit

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"])}

    def representations(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> Tree:
        return self.mean + self.unit * self.head(seen["image"].pooled.astype(jnp.float32))[:, 0]

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        found, truth = representations, batch[self.label]
        known = jnp.isfinite(truth) if jnp.issubdtype(truth.dtype, jnp.floating) else truth >= 0
        errors = jnp.where(known, jnp.abs(found - jnp.where(known, truth, 0)), 0)
        error = errors.sum() / jnp.maximum(known.sum(), 1)
        return error / self.unit, {"loss": error / self.unit, "mean_absolute_error": error, "labelled": known.mean()}
