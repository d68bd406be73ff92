"""Masked autoencoding: the pixels of masked patches are predicted from the others."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.models.decoder import Decoder, kept_patches, masked_share
from facerep_jax.models.vit import patches
from facerep_jax.typing import Batch, Features, Metrics, Tree, Views, loss_at_once

DECODER = plain(spec(Decoder))


class MaskedPixels(nnx.Module):
    """MAE: the encoder sees some patches, and a decoder predicts the pixels of all; only masked patches count.

    Pixels are those of the encoder's normalised image. The loss is the mean squared error.
    Source: facebookresearch/mae, forward_loss (2111.06377).

    Args:
        view: name of the shared view that the encoder sees, of patches that are kept.
        decoder: spec of a `models.decoder.Decoder`.
        normalised: whether each patch's pixels lose their mean and are divided by their standard deviation, which the
            published code calls norm_pix_loss.
    """

    needs = ("image",)
    offers = ()
    loss = loss_at_once

    def __init__(
        self, encoder: Any, *, view: str = "kept", decoder: Spec = DECODER, normalised: bool = True, rngs: nnx.Rngs
    ):
        self.decoder = build(decoder, encoder, rngs=rngs)
        self.view, self.normalised = view, normalised

    def begin(self, encoder: Any, step: Int[Array, ""]) -> None:
        """Do nothing: no state is carried from step to step."""

    def views(self, batch: Batch, *, encoder: Any, rng: Key[Array, "b"]) -> Views:
        return {}

    def representations(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Any,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> Tree:
        view = views[self.view]
        grid = encoder.grid(view.image.shape[1:3])
        count = grid[0] * grid[1]
        keep = kept_patches(view, self.view, count)
        targets = patches(encoder.normalise(view.image), self.decoder.patch)
        if self.normalised:
            mean, variance = targets.mean(-1, keepdims=True), targets.var(-1, keepdims=True, ddof=1)
            targets = (targets - mean) / jnp.sqrt(variance + 1e-6)
        predicted = self.decoder(seen[self.view], keep, encoder=encoder, grid=grid)
        masked = masked_share(keep, count)
        errors = jnp.square(predicted - targets).mean(-1) * masked
        return {"errors": errors.sum(1), "masked": masked}

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        masked = representations["masked"]
        loss = representations["errors"].sum() / masked.sum()
        return loss, {"loss": loss, "masked": masked.mean()}
