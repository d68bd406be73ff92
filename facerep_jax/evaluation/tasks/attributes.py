"""Attributes: which of some yes-or-no properties a face has."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.one_vector import OneVector, names_in
from facerep_jax.evaluation.targets import binary_entropy, of_pixels, yes_or_no
from facerep_jax.models.pooled import Targets
from facerep_jax.typing import Batch, Features


class Attributes(OneVector):
    """A score for each attribute, above 0 for yes, from one vector of the image.

    The loss is the mean binary cross-entropy over attributes that are known. An attribute above 0.5 is a yes, one from
    0 to 0.5 a no; NaN and what is below 0 is not known.

    Source: facer (github.com/FacePerceiver/facer), whose head is `spec(pooled.Layers)`; FaRL (2112.03109) for the task.
    No code that trains it was given out: the loss is what an independent sigmoid for each attribute suggests.
    """

    needs = ("image", "attributes")
    title = "Attributes"
    drawn = "yes or no of each attribute, truth green, prediction red"
    label = "attributes"
    encode = staticmethod(yes_or_no)
    scaled = False

    def losses(self, found: Float[Array, "b o"], targets: Targets) -> dict[str, Float[Array, ""]]:
        return {"entropy": binary_entropy(found, targets)}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k"]:
        """A score for each attribute, above 0 for yes."""
        return self.elected(self.head(seen["image"]))

    def targets(self, labels: Float[Array, "b k"]) -> Targets:
        """Yes or no to each attribute."""
        return self.encode(labels, self.head.outputs)

    def elected(self, votes: Float[Array, "b k"]) -> Float[Array, "b k"]:
        """The scores as they are."""
        return votes

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The probability of each attribute."""
        chances = 1 / (1 + np.exp(-np.asarray(prediction, np.float64)))
        return {"attributes": dict(zip(names_in(meta, "attributes"), chances.tolist(), strict=True))}

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(MultiLabel, labels=names_in(meta, "attributes"), key="attributes", headline="accuracy_mean")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Scores without an encoder: what most training faces have, and ridge regression on 32 x 32 RGB pixels."""
        count = len(names_in(meta, "attributes"))
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
