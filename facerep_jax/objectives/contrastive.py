"""Contrastive learning of images and captions."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build, pick
from facerep_jax.models import pairs
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Tree, View, Views, loss_at_once

SOFTMAX = {"gather": pairs.softmax_gather, "ring": pairs.softmax_ring}
SIGMOID = {"gather": pairs.sigmoid_gather, "ring": pairs.sigmoid_ring}


class Contrastive(nnx.Module):
    """Images and captions that belong together, told from all other pairs of the global batch.

    By default InfoNCE in both directions, as in CLIP; with `sigmoid`, each pair is a decision of its own, as in SigLIP.
    It owns what zero-shot tasks load later: the text tower, both projections and the temperature.
    Source: CLIP (2103.00020); FaRL (2112.03109), image-text contrast; SigLIP (2303.15343), whose first bias is -10 and
    first temperature 0.1, which is not bounded.
    Changed: CLIP clips the log scale after each update, this class before each step, so that the optimizer needs no
    special case; the last update of a run may leave it a little above.

    Args:
        text_encoder: spec of the text tower.
        embedding: width of the common space; None takes both towers' features as they are, without projections, as
            SigLIP does, whose text tower has a head.
        temperature: initial value of the temperature, which is learnt.
        max_scale: the largest inverse temperature; without effect on a sigmoid.
        loss: how the global batch is compared, which changes nothing of the result: "gather" or "ring", see
            `models.pairs`.
        sigmoid: whether the loss is SigLIP's.
        bias: initial value of the sigmoid's bias, which is learnt.
    """

    needs = ("image", "text")
    offers = (("text_tower", ""),)
    loss = loss_at_once

    def __init__(
        self,
        encoder: Encoder,
        *,
        text_encoder: Spec,
        embedding: int | None = 512,
        temperature: float = 0.07,
        max_scale: float = 100.0,
        loss: str = "gather",
        sigmoid: bool = False,
        bias: float = -10.0,
        rngs: nnx.Rngs,
    ):
        normal = nnx.initializers.normal
        self.text_encoder = build(text_encoder, dtype=encoder.dtype, remat=encoder.remat, rngs=rngs)
        self.widths = encoder.width, self.text_encoder.width
        if embedding is None and len(set(self.widths)) == 2:
            raise ValueError("without projections both towers have one width, not {} and {}".format(*self.widths))
        self.image_projection, self.text_projection = (
            nnx.Param(normal(width**-0.5)(rngs.params(), (width, embedding))) if embedding else None
            for width in self.widths
        )
        self.log_scale = nnx.Param(jnp.log(1 / jnp.float32(temperature)))
        self.bias = nnx.Param(jnp.float32(bias)) if sigmoid else None
        self.max_scale = max_scale
        self.compare = pick("loss", loss, SIGMOID if sigmoid else SOFTMAX)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Clamp the learnt temperature, as open_clip does, so that no gradient pushes it beyond where it counts."""
        if self.bias is None:
            self.log_scale.set_value(jnp.minimum(self.log_scale[...], jnp.log(self.max_scale)))

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
        return {"image": self.embed_image(seen["image"].pooled), "text": self.embed_text(batch["text"])}

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        images, texts, scale = representations["image"], representations["text"], self.scale()
        if self.bias is None:
            loss, hits = self.compare(images, texts, scale)
            more = {"chance": jnp.log(jnp.float32(len(images)))}
        else:
            loss, hits = self.compare(images, texts, scale, self.bias[...])
            more = {"bias": self.bias[...]}
        return loss, {"loss": loss, "accuracy": hits.mean(), "temperature": 1 / scale, **more}

    def embed_image(self, pooled: Float[Array, "b d"]) -> Float[Array, "b e"]:
        """Embeddings of images in the common space, of length one."""
        return normalised(projected(pooled.astype(jnp.float32), self.image_projection))

    def embed_text(self, text: Int[Array, "b l"]) -> Float[Array, "b e"]:
        """Embeddings of captions in the common space, of length one."""
        return normalised(projected(self.text_encoder(text).astype(jnp.float32), self.text_projection))

    def scale(self) -> Float[Array, ""]:
        """The inverse temperature; `begin` keeps it at `max_scale` or below."""
        return jnp.exp(self.log_scale[...])


def projected(x: Float[Array, "b d"], matrix: nnx.Param | None) -> Float[Array, "b e"]:
    """`x` times a matrix; without one, as it is."""
    return x if matrix is None else x @ matrix[...]


def normalised(x: Float[Array, "b e"]) -> Float[Array, "b e"]:
    """The rows of `x`, scaled to length one."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
