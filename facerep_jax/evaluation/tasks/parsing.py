"""Parsing: which part of a face each pixel belongs to."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, UInt8
from PIL import Image

from facerep_jax.config import Spec, build, spec
from facerep_jax.data.arrays import in_parts
from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.evaluation.boundaries import SHARE
from facerep_jax.evaluation.metrics import F1
from facerep_jax.evaluation.original_masks import OriginalF1, enlarged
from facerep_jax.models.heads import LINEAR, resized
from facerep_jax.models.taps import stages_at
from facerep_jax.pictures import CLASS_COLOURS
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views

LEAST_LOG = -6e4  # of a probability, as far as half precision reaches
TURN_BYTES = 2**27  # of logits as large as images, at a time


class Parsing(nnx.Module):
    """A class for each pixel, by a dense head whose logits are resized bilinearly to the image.

    The loss is the mean cross-entropy over pixels. FaRL's parsing (2112.03109) is that with the head
    `spec(uper.UPerHead)`, whose logits have four times the resolution of the patches.
    Changed: pixels of class 255, those outside of the image among them, do not count; FaRL has none and counts the
    outside as background. Predictions are scored on the image that the encoder saw, where faces weigh equally; FaRL
    scores original images, as `OriginalParsing` does.

    Args:
        taps: stages of the encoder, as shares of its depth.
        head: spec of a dense head, see `models.heads`.
        image_size: pixels of a side of the images.
        meta: of the data set; `classes` are its names of classes.
    """

    needs = ("image", "mask")
    offers = ()
    title = "Parsing"
    drawn = "image, truth, prediction"
    label = "mask"
    splits = ("train", "validation", "test")
    tables = ()
    drawn_by = "id"

    def __init__(
        self,
        encoder: Encoder,
        *,
        taps: tuple[float, ...],
        head: Spec = LINEAR,
        image_size: int,
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps, self.image_size = stages_at(taps, encoder.stages), image_size
        self.head = build(head, encoder, len(class_names(meta)), taps=self.taps, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"].at(self.taps))

    def views(self, batch: Batch, *, encoder: Encoder | None, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"], taps=self.taps)}

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder | None,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        logits, mask = self.head(seen["image"].at(self.taps), rng=rng), batch["mask"]
        known = mask != MISSING_CLASS
        loss = entropy_in_turns(logits, mask) / jnp.maximum(known.sum(), 1)
        return loss, {"loss": loss, "known": known.mean()}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> UInt8[Array, "b H W"]:
        """The likeliest class of each pixel of the image that the encoder saw."""
        size = (self.image_size, self.image_size)
        return resized(self.head(seen["image"].at(self.taps)), size, antialias=False).argmax(-1).astype(jnp.uint8)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(F1, classes=class_names(meta), boundary=SHARE)

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Predictions without an encoder: the most frequent class of each pixel."""
        counts, classes = np.zeros(1), range(len(class_names(meta)))
        for masks in in_parts(train["mask"]):
            counts = counts + np.stack([(masks == index).sum(0) for index in classes])
        return {"most_frequent_class": np.broadcast_to(counts.argmax(0).astype(np.uint8), test["mask"].shape)}

    @staticmethod
    def draw(image: UInt8[np.ndarray, "h w 3"], label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image, its true classes and the predicted ones side by side, enlarged."""
        overlays = [image] + [
            0.45 * image + 0.55 * CLASS_COLOURS[classes % len(CLASS_COLOURS)] for classes in (label, prediction)
        ]
        strip = np.concatenate(overlays, axis=1).astype(np.uint8)
        return Image.fromarray(strip).resize((strip.shape[1] * scale, strip.shape[0] * scale), Image.Resampling.NEAREST)


class OriginalParsing(Parsing):
    """Parsing of warped faces that is scored on the original images, as FaRL's is; see `original_masks.OriginalF1`.

    It learns as `Parsing` does, on the images that the encoder sees: those of `data.tanh_warp.AlignAndWarp`.
    """

    title = "Parsing, on original images"

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b h w k"]:
        """The logarithm of each class's probability at the head's own resolution, in half precision.

        They differ from logits by a number for each place, which changes no order of classes however places are mixed,
        and those of likely classes are near 0, where half precision is finest.
        """
        logits = self.head(seen["image"].at(self.taps)).astype(jnp.float32)
        return jnp.maximum(jax.nn.log_softmax(logits), LEAST_LOG).astype(jnp.float16)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(OriginalF1, classes=class_names(meta))

    @staticmethod
    def draw(image: UInt8[np.ndarray, "h w 3"], label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image that the encoder saw, its true classes and the predicted ones side by side, enlarged."""
        if prediction.ndim == 3:
            prediction = np.asarray(enlarged(prediction, label.shape[0])).argmax(-1)
        return Parsing.draw(image, label, prediction, scale)


def entropy_in_turns(logits: Float[Array, "b h w k"], mask: UInt8[Array, "b H W"]) -> Float[Array, ""]:
    """The sum over known pixels of the cross-entropy of logits that are resized to the mask.

    Large logits are resized for some images at a time, in the gradient anew: those of 64 images of 448 pixels would
    take 0.6 GB, and what their gradient needs three times that.
    """

    def entropy(part: tuple[Array, Array]) -> Float[Array, ""]:
        logits, mask = resized(part[0], mask_size, antialias=False), part[1].astype(jnp.int32)
        known = mask != MISSING_CLASS
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, mask, 0))
        return jnp.where(known, each, 0).sum()

    count, mask_size = len(mask), (mask.shape[1], mask.shape[2])
    most = max(1, TURN_BYTES // (4 * mask[0].size * logits.shape[-1]))  # images of a turn
    turns = next(turns for turns in range(1, count + 1) if count % turns == 0 and count // turns <= most)
    if turns == 1:
        return entropy((logits, mask))
    # Every turn has rows of all devices, over which the first axis is spread.
    parts = [jnp.moveaxis(x.reshape(-1, turns, *x.shape[1:]), 1, 0) for x in (logits, mask)]
    return jax.lax.map(jax.checkpoint(entropy), tuple(parts)).sum()


def class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a data set's classes; ValueError where its meta does not give them."""
    if not meta.get("classes"):
        raise ValueError("parsing needs the names of the classes: put `classes` into faces.meta.json and prepare again")
    return tuple(meta["classes"])
