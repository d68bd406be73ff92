"""Prediction of the codes of masked patches."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from facerep_jax.config import Spec, build
from facerep_jax.models.layers import Block, LayerNorm, Linear, scan, stack, trunc_normal
from facerep_jax.typing import FROZEN_NETWORK, Batch, Encoder, Features, Metrics, Tree, View, Views, loss_at_once


class MaskedTokens(nnx.Module):
    """Masked image modelling: some patches are replaced by a learnt token, and their codes are predicted.

    The mask token replaces patch embeddings before positions are added, and the encoder sees the full sequence. Its
    output, class token included, passes through `depth` more blocks, a norm and a linear layer. Only masked positions
    count in the loss.
    Source: FaRL's forward_mim (2112.03109); block-wise masks and codes as in BEiT (2106.08254).

    Args:
        tokenizer: spec of the frozen network that gives each patch its code; its patches are those of the encoder.
        count: the largest number of masked patches in an image; logits are computed for as many positions.
        depth, heads: number and heads of the blocks behind the encoder.
    """

    needs = ("image", "masked")
    offers = ()
    loss = loss_at_once

    def __init__(
        self, encoder: Encoder, *, tokenizer: Spec, count: int = 75, depth: int = 1, heads: int = 12, rngs: nnx.Rngs
    ):
        width = encoder.width
        self.tokenizer = build(tokenizer, rngs=rngs)
        (patch,) = encoder.tap_strides((encoder.stages - 1,))
        if self.tokenizer.patch != patch:
            raise ValueError(
                f"the tokenizer's patches of {self.tokenizer.patch} pixels are not the encoder's of {patch}: "
                f"give the tokenizer patch={patch}"
            )
        self.mask_token = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (width,)))
        self.blocks = stack(lambda rngs: Block(width, heads, dtype=encoder.dtype, rngs=rngs), depth, rngs)
        self.norm = LayerNorm(width)
        self.head = Linear(width, self.tokenizer.codes, init=trunc_normal(0.02), dtype=encoder.dtype, rngs=rngs)
        self.count = count

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Do nothing: no state is carried from step to step."""

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return {"masked": View(batch["image"], masked=batch["masked"], fill=self.mask_token[...])}

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
        with jax.named_scope(FROZEN_NETWORK):
            codes = self.tokenizer(batch["image"])
        if codes.shape[1] != batch["masked"].shape[1]:
            raise ValueError(
                f"the tokenizer gives {codes.shape[1]} codes for the {batch['masked'].shape[1]} patches of a mask: "
                "masks need the grid of the image's patches"
            )
        where, weight = masked_positions(batch["masked"], self.count)
        logits = self.logits(seen["masked"], where, remat=encoder.remat)
        targets = jnp.take_along_axis(codes, where, axis=1)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        unigram = -jnp.log(self.tokenizer.frequency[...])[targets]

        hits = (logits.argmax(-1) == targets).astype(jnp.float32)
        sums = {"loss": entropy, "accuracy": hits, "unigram": unigram, "count": jnp.ones_like(weight)}
        return {name: (x * weight).sum(1) for name, x in sums.items()}

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        # On a small grid, a whole batch can be without a mask; then the sums are 0 and must not be divided by 0.
        count = jnp.maximum(representations["count"].sum(), 1)
        means = {name: representations[name].sum() / count for name in ("loss", "accuracy", "unigram")}
        return means["loss"], {**means, "share": batch["masked"].mean(dtype=jnp.float32)}

    def logits(self, seen: Features, where: Int[Array, "b m"], *, remat: str) -> Float[Array, "b m k"]:
        """Logits of the codes at the positions `where`, in float32."""
        if seen.cls is None:
            raise ValueError("masked tokens need an encoder with a class token")
        x, _ = scan(self.blocks, jnp.concatenate([seen.cls[:, None], seen.tokens], axis=1), remat=remat)
        x = jnp.take_along_axis(x[:, 1:], where[..., None], axis=1)
        return self.head(self.norm(x)).astype(jnp.float32)


def masked_positions(masked: Bool[Array, "b n"], count: int) -> tuple[Int[Array, "b m"], Float[Array, "b m"]]:
    """The first `count` masked positions of each row; if a row has fewer, the rest have weight 0, others weight 1."""
    # A stable sort of "not masked" puts the masked positions first, in order, and keeps the shape static for XLA.
    where = jnp.argsort(~masked, axis=1, stable=True)[:, :count]
    return where, jnp.take_along_axis(masked, where, axis=1).astype(jnp.float32)
