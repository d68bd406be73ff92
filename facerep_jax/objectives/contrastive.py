"""Contrastive learning of images and captions."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views


class Contrastive(nnx.Module):
    """InfoNCE between images and captions in both directions; negatives are all other pairs of the global batch.

    It owns what zero-shot tasks load later: the text tower, both projections and the temperature.
    Source: CLIP; FaRL (2112.03109), image-text contrast.
    Changed: CLIP clips the log scale after each update, this class before each step, so that the optimizer needs no
    special case; the last update of a run may leave it a little above.

    Args:
        text_encoder: spec of the text tower.
        embedding: width of the common space.
        temperature: initial value of the temperature, which is learnt.
        max_scale: the largest inverse temperature.
    """

    needs = ("image", "text")
    offers = (("text_tower", ""),)

    def __init__(
        self,
        encoder: Encoder,
        *,
        text_encoder: Spec,
        embedding: int = 512,
        temperature: float = 0.07,
        max_scale: float = 100.0,
        rngs: nnx.Rngs,
    ):
        normal = nnx.initializers.normal
        self.text_encoder = build(text_encoder, dtype=encoder.dtype, remat=encoder.remat, rngs=rngs)
        shapes = {"image": (encoder.width, embedding), "text": (self.text_encoder.width, embedding)}
        self.image_projection = nnx.Param(normal(encoder.width**-0.5)(rngs.params(), shapes["image"]))
        self.text_projection = nnx.Param(normal(self.text_encoder.width**-0.5)(rngs.params(), shapes["text"]))
        self.log_scale = nnx.Param(jnp.log(1 / jnp.float32(temperature)))
        self.max_scale = max_scale

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Clamp the learnt temperature, as open_clip does, so that no gradient pushes it beyond where it counts."""
        self.log_scale.set_value(jnp.minimum(self.log_scale[...], jnp.log(self.max_scale)))

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"])}

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        images = self.embed_image(seen["image"].pooled)
        texts = self.embed_text(batch["text"])
        scale = self.scale()
        logits = scale * images @ texts.T
        loss = (cross_entropy_of_pairs(logits) + cross_entropy_of_pairs(logits.T)) / 2
        hits = (logits.argmax(-1) == jnp.arange(len(logits))).mean()
        return loss, {
            "loss": loss,
            "chance": jnp.log(jnp.float32(len(logits))),
            "accuracy": hits,
            "temperature": 1 / scale,
        }

    def embed_image(self, pooled: Float[Array, "b d"]) -> Float[Array, "b e"]:
        """Embeddings of images in the common space, of length one."""
        return normalised(pooled.astype(jnp.float32) @ self.image_projection[...])

    def embed_text(self, text: Int[Array, "b l"]) -> Float[Array, "b e"]:
        """Embeddings of captions in the common space, of length one."""
        return normalised(self.text_encoder(text).astype(jnp.float32) @ self.text_projection[...])

    def scale(self) -> Float[Array, ""]:
        """The inverse temperature; `begin` keeps it at `max_scale` or below."""
        return jnp.exp(self.log_scale[...])


def normalised(x: Float[Array, "b e"]) -> Float[Array, "b e"]:
    """The rows of `x`, scaled to length one."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def cross_entropy_of_pairs(logits: Float[Array, "b b"]) -> Float[Array, ""]:
    """Mean cross-entropy if row i belongs to column i."""
    return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits)))
