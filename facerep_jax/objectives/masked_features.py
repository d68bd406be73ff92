"""MCF's masked image modelling: what a frozen network sees in a predicted image, and in the true one."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build, pick, plain, spec
from facerep_jax.models.decoder import Decoder, image_of, kept_patches, masked_share
from facerep_jax.models.projector import unit
from facerep_jax.models.vit import patches
from facerep_jax.typing import (
    FROZEN_NETWORK,
    Batch,
    Features,
    Frozen,
    Metrics,
    Tree,
    View,
    Views,
    as_kind,
    loss_at_once,
)

DECODER = plain(spec(Decoder))
AXES = {"token": 2, "channel": 3}  # of "taps b n d", along which features have length one
REGIONS = dict.fromkeys(("all", "masked"))


class MaskedFeatures(nnx.Module):
    """A decoder predicts an image from kept patches, and a frozen network compares it with the true one.

    The decoder, M0 in the paper, emits the pixels of all patches; none of the visible pixels is put back. The frozen
    network, M1, reads this pseudo-image and the true image, both normalised. Its tokens after some blocks, the class
    token included and no norm applied, are scaled to length one and compared: the loss is the mean squared error,
    summed over these blocks. The gradient passes through M1 into the decoder and the encoder.
    Source: MCF (2309.03575), figure 2; what it is exactly is the released code's (nomewang/MCF, models_mcf.py sslp_loss
    and models_moco.py CPLoss), with each channel scaled over the tokens, all patches counted and no loss of pixels.

    Args:
        network: spec of the frozen encoder M1.
        weights: of M1: FILE[@LAYOUT], WORKDIR[@STEP] or `random`, see `train.frozen.Given`.
        view: name of the shared view that the encoder sees, of patches that are kept.
        decoder: spec of a `models.decoder.Decoder`.
        taps: blocks of M1 that are compared, from 0.
        norm_axis: along which features have length one: "token", for each channel over all tokens, or "channel", for
            each token.
        region: "all" tokens count, or those of "masked" patches alone.
        pixel_weight: weight of the mean squared error of the normalised image's pixels in the same region.
    """

    needs = ("image",)
    offers = ()
    loss = loss_at_once

    def __init__(
        self,
        encoder: Any,
        *,
        network: Spec,
        weights: str,
        view: str = "kept",
        decoder: Spec = DECODER,
        taps: tuple[int, ...] = (2, 5, 8, 11),
        norm_axis: str = "token",
        region: str = "all",
        pixel_weight: float = 0.0,
        rngs: nnx.Rngs,
    ):
        self.decoder = build(decoder, encoder, rngs=rngs)
        self.network = as_kind(build(network, dtype=encoder.dtype, remat=encoder.remat, rngs=rngs), Frozen)
        self.weights, self.view, self.taps = weights, view, tuple(taps)
        self.axis = pick("norm_axis", norm_axis, AXES)
        pick("region", region, REGIONS)
        self.masked_only, self.pixel_weight = region == "masked", pixel_weight
        stages = self.network.stages
        if not self.taps or any(not 0 <= tap < stages for tap in self.taps):
            raise ValueError(f"taps {self.taps} are not blocks of the frozen network, which has 0 to {stages - 1}")
        (patch,) = self.network.tap_strides((stages - 1,))
        if patch != self.decoder.patch:
            raise ValueError(
                f"the frozen network's patches of {patch} pixels are not the encoder's of {self.decoder.patch}"
            )

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
        predicted = self.decoder(seen[self.view], keep, encoder=encoder, grid=grid)
        image = self.network.normalise(view.image)
        targets = jax.lax.stop_gradient(self.tokens(image))
        found = self.tokens(image_of(predicted, grid))
        weight = masked_share(keep, count) if self.masked_only else jnp.ones((len(keep), count))
        errors = jnp.square(found - targets).mean(-1)
        of_class = jnp.full((len(keep), 1), 0.0 if self.masked_only else 1.0)
        of_tokens = jnp.concatenate([of_class, weight], 1)
        pixels = jnp.square(predicted - patches(image, self.decoder.patch)).mean(-1)
        return {
            "features": (errors.sum(0) * of_tokens).sum(1),
            "tokens": of_tokens.sum(1),
            "pixels": (pixels * weight).sum(1),
            "patches": weight.sum(1),
            "similarity": (found * targets).sum(self.axis).mean((0, 2)),
        }

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        rows = representations
        features = rows["features"].sum() / rows["tokens"].sum()
        pixels = rows["pixels"].sum() / rows["patches"].sum()
        loss = features + self.pixel_weight * pixels
        similarity = rows["similarity"].mean()
        return loss, {"loss": loss, "features": features, "pixels": pixels, "similarity": similarity}

    def tokens(self, image: Float[Array, "b h w 3"]) -> Float[Array, "taps b n d"]:
        """M1's tokens of a normalised image after each of the taps, the class token first, scaled to length one."""
        with jax.named_scope(FROZEN_NETWORK):
            seen = self.network(View(image, taps=self.taps))
        if not seen.cls_at:
            raise ValueError("the frozen network has no class token")
        maps = [seen.maps[tap].reshape(len(image), -1, self.network.width) for tap in self.taps]
        cls = [seen.cls_at[tap][:, None] for tap in self.taps]
        stages = jnp.stack([jnp.concatenate(pair, 1) for pair in zip(cls, maps, strict=True)])
        return unit(stages.astype(jnp.float32), self.axis)
