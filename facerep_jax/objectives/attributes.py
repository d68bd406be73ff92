"""Supervised pre-training by attributes: which of them does a face have?"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.models.projector import torch_linear
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Tree, View, Views, loss_at_once


class Attributes(nnx.Module):
    """Binary cross-entropy of each attribute by a linear layer, mean over those that are known.

    A missing attribute, NaN, does not count; neither does its example, if it has none. Source: 1411.7766, section 3,
    whose attributes are told by classifiers that do not know each other; multi-label classification as usual.

    Args:
        count: of the attributes.
        label: key of the batch that holds them, 0 or 1 each.
    """

    offers = ()
    loss = loss_at_once

    def __init__(self, encoder: Encoder, *, count: int, label: str = "attributes", rngs: nnx.Rngs):
        self.needs = ("image", label)
        self.head = torch_linear(encoder.width, count, rngs=rngs)
        self.label = label

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
        return self.head(seen["image"].pooled.astype(jnp.float32))

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        logits, truth = representations, batch[self.label]
        if truth.shape != logits.shape:
            there = truth.shape[1] if truth.ndim == 2 else 0
            raise ValueError(f"the head has {logits.shape[1]} attributes, the data set {there}: set `count` to that")
        known = jnp.isfinite(truth)
        truth = jnp.where(known, truth, 0)
        losses = jax.nn.softplus(logits) - truth * logits
        count = jnp.maximum(known.sum(), 1)
        loss = jnp.where(known, losses, 0).sum() / count
        hits = jnp.where(known, (logits > 0) == (truth > 0.5), False)
        return loss, {"loss": loss, "chance": jnp.log(jnp.float32(2)), "accuracy": hits.sum() / count}
