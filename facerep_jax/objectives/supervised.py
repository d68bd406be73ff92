"""Supervised pre-training: who is it? A classifier of identities, whose classes can be split over devices."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from facerep_jax.config import Spec, build
from facerep_jax.models.projector import bounded, torch_linear, unit
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Tree, View, Views, loss_at_once, pin


class Supervised(nnx.Module):
    """Cross-entropy of identities, by a linear layer or by cosines with a margin (`models.margins`).

    With a margin, logits are `scale` times the cosine between an example's vector and each class's, and that of the own
    class is changed by the margin. Without one they are linear with a bias. Examples whose label is missing, -1, do not
    count.

    Classes lie in `parts` of equal length, the last of which may not be filled. A part is what a device holds: with as
    many parts as devices or a multiple, and the config's `sharding_rules=((r"classes$", ("fsdp", None, None)),)`,
    weights, momentum and logits are split, so that of eight devices each holds an eighth of them. Every device compares
    the whole batch with its own classes.

    With `share`, each step compares with the classes of the batch and with others, drawn anew, such that so many of
    each part take part. The draw depends on the step alone.

    Source: softmax, CosFace (1801.09414), ArcFace (1801.07698), AdaFace (2204.00964); partial FC (2010.05222), with
    classes split and drawn as there. FRL (2103.16554) compares with supervised pre-training; its loss is not known.
    Changed: momentum and weight decay go on for classes that are not drawn.

    Args:
        classes: how many identities there are; labels are below it.
        margin: spec of a margin; None for a linear classifier.
        embedding: width of a linear layer behind the pooled feature; 0 takes the feature itself.
        parts: of the classes.
        share: of the classes of each part that take part in a step, above 0 and at most 1.
        label: key of the batch that holds the class of each example.
    """

    loss = loss_at_once

    def __init__(
        self,
        encoder: Encoder,
        *,
        classes: int,
        margin: Spec | None = None,
        embedding: int = 0,
        parts: int = 1,
        share: float = 1.0,
        label: str = "identity",
        rngs: nnx.Rngs,
    ):
        if classes < 2 or not 1 <= parts <= classes:
            raise ValueError(f"a classifier has at least 2 classes, in 1 to as many parts, not {classes} in {parts}")
        if not 0 < share <= 1:
            raise ValueError(f"the share of classes that take part is above 0 and at most 1, not {share}")
        width = embedding or encoder.width
        self.needs, self.offers = ("image", label), ()
        self.embed = torch_linear(encoder.width, embedding, rngs=rngs) if embedding else None
        self.margin = build(margin) if margin else None
        init = nnx.initializers.normal(0.01) if margin else bounded(width**-0.5)
        each = -(-classes // parts)
        self.classes = nnx.Param(init(rngs.params(), (parts, each, width), jnp.float32))
        self.bias = None if margin else nnx.Param(jnp.zeros((parts, each)))
        self.count, self.share, self.label = classes, share, label

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step but the running statistics of a margin."""

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
        return self.vectors(seen["image"])

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        vectors, labels = representations, batch[self.label]
        numbers = jnp.arange(self.classes.shape[0] * self.classes.shape[1]).reshape(self.classes.shape[:2])
        weights, bias = self.classes[...], None if self.bias is None else self.bias[...]
        if self.share < 1:
            places = self.drawn(labels, step)
            numbers = jnp.take_along_axis(numbers, places, axis=1)
            weights = jnp.take_along_axis(weights, places[..., None], axis=1)
            bias = None if bias is None else jnp.take_along_axis(bias, places, axis=1)
        logits = self.logits(vectors, weights, bias)
        own, there = numbers[..., None] == labels[None, None], (numbers < self.count)[..., None]
        target = jnp.where(own, logits, 0).sum((0, 1))
        known = (labels >= 0) & (labels < self.count)
        hits = target >= jnp.where(there, logits, -jnp.inf).max((0, 1))
        if self.margin is not None:
            target = self.margin(target, jnp.linalg.norm(vectors, axis=-1))
            logits = self.margin.scale * jnp.where(own, target[None, None], logits)
            target = self.margin.scale * target
        losses = jax.nn.logsumexp(logits, axis=(0, 1), where=there) - target
        loss = mean_of(losses, known)
        metrics = {"loss": loss, "accuracy": mean_of(hits.astype(jnp.float32), known), "labelled": known.mean()}
        if self.margin is None:  # with a margin, even good vectors have a larger loss than that
            metrics["chance"] = jnp.log(there.sum().astype(jnp.float32))
        return loss, metrics

    def vectors(self, features: Features) -> Float[Array, "b d"]:
        """What is compared with the classes."""
        pooled = features.pooled.astype(jnp.float32)
        return pooled if self.embed is None else self.embed(pooled)

    def logits(
        self, vectors: Float[Array, "b d"], weights: Float[Array, "p k d"], bias: Float[Array, "p k"] | None
    ) -> Float[Array, "p k b"]:
        """Logits, or cosines if there is a margin, with the classes in front, which are what devices share out."""
        if self.margin is not None:
            vectors, weights = unit(vectors), unit(weights)
        logits = jnp.einsum("pkd,bd->pkb", self.split(weights), vectors)
        return self.split(logits if bias is None else logits + bias[..., None])

    def split(self, x: Array) -> Array:
        """`x` with its parts on the devices, if there are several."""
        return pin(x) if x.shape[0] > 1 else x

    def drawn(self, labels: Int[Array, "b"], step: Int[Array, ""]) -> Int[Array, "p n"]:
        """The places in each part of the classes that take part in a step: those of the batch, and others at random.

        Raises ValueError if the classes of a batch might not find room.
        """
        parts, each = self.classes.shape[:2]
        count = max(1, int(each * self.share))
        if count < (most := min(len(labels), each)):
            raise ValueError(
                f"a share of {self.share} leaves {count} of {each} classes in a part, but a batch may have {most} of "
                f"them: share is at least {-(-most * 1000 // each) / 1000}"
            )
        labels = jnp.where(labels < 0, parts * each, labels)  # beyond the end, where it is dropped
        wanted = jnp.zeros(parts * each, bool).at[labels].set(True, mode="drop").reshape(parts, each)
        draws = jax.random.uniform(jax.random.fold_in(jax.random.key(0), step), (parts, each))
        return jax.lax.top_k(self.split(jnp.where(wanted, 2.0, draws)), count)[1]


def mean_of(values: Float[Array, "b"], known: Bool[Array, "b"]) -> Float[Array, ""]:
    """The mean of those values that are known; 0 if none is."""
    return jnp.where(known, values, 0).sum() / jnp.maximum(known.sum(), 1)
