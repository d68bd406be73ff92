"""Attributes: which of some yes-or-no properties a face has."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.config import Spec, build, spec
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.targets import binary_entropy, of_pixels, yes_or_no
from facerep_jax.models.pooled import LINEAR
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views


class Attributes(nnx.Module):
    """A score for each attribute, above 0 for yes, from one vector of the image.

    The loss is the mean binary cross-entropy over attributes that are known. An attribute above 0.5 is a yes, one from
    0 to 0.5 a no; NaN and what is below 0 is not known.

    Source: facer (github.com/FacePerceiver/facer), whose head is `spec(pooled.Layers)`; FaRL (2112.03109) for the task.
    No code that trains it was given out: the loss is what an independent sigmoid for each attribute suggests.

    Args:
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled`.
        image_size: pixels of a side of the images.
        label_shape: how many attributes there are.
        meta: of the data set; `attributes` are their names.
    """

    needs = ("image", "attributes")
    offers = ()
    title = "Attributes"
    drawn = "yes or no of each attribute, truth green, prediction red"
    label = "attributes"
    splits = ("train", "validation", "test")
    tables = ()
    drawn_by = "id"

    def __init__(
        self,
        encoder: Encoder,
        *,
        taps: tuple[float, ...] = (),
        head: Spec = LINEAR,
        image_size: int,
        label_shape: tuple[int, ...],
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps = stages_at(taps, encoder.stages)
        self.head = build(head, encoder, label_shape[0], yes_or_no, scaled=False, taps=self.taps, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"], batch["attributes"])

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
        scores, targets = self.head(seen["image"], rng), yes_or_no(batch["attributes"], self.head.outputs)
        loss = binary_entropy(scores, targets)
        return loss, {"loss": loss, "known": targets.known.mean()}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k"]:
        """A score for each attribute, above 0 for yes."""
        return self.head(seen["image"])

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(MultiLabel, labels=names_of(meta), key="attributes", headline="accuracy_mean")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Scores without an encoder: what most training faces have, and ridge regression on 32 x 32 RGB pixels."""
        count = len(names_of(meta))
        values, known = (np.asarray(x) for x in yes_or_no(jnp.asarray(train["attributes"]), count))
        frequent = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
        return {
            "most_frequent": np.broadcast_to(frequent, (len(test["image"]), count)),
            "linear_pixels": of_pixels(train, validation, test, "attributes", yes_or_no, count),
        }

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, and below it a pair of bars for each attribute: high for yes, low for no."""
        true = np.where(label >= 0, (label > 0.5) * 1.0, np.nan)
        return drawing.with_bars(image, true, (prediction > 0) * 1.0, (0.0, 1.0), scale)


def names_of(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a data set's attributes; ValueError where its meta does not give them."""
    if not meta.get("attributes"):
        raise ValueError("attributes need their names: put `attributes` into faces.meta.json and prepare again")
    return tuple(meta["attributes"])
