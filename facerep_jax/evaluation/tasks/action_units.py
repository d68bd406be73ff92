"""Facial action units: how strongly each acts, or whether it does."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.data.records import Example
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.one_vector import OneVector, mean_known, names_in
from facerep_jax.evaluation.targets import binary_entropy, numbers, of_pixels, yes_or_no
from facerep_jax.models.pooled import Targets
from facerep_jax.typing import Batch, Features

STRONGEST = 5.0  # intensity; 0 is none


class Intensity(OneVector):
    """The intensity of each action unit, 0 to 5, from one vector of the image.

    The loss is the mean squared error over units that are coded, each in units of its deviation among training faces.

    Source: intensities of DISFA and BP4D, learnt by their squared error, as in Sanchez et al. (CVPR 2021), whose
    authors are those of FRL (2103.16554); FRL gave out neither head nor loss.
    Changed: each unit is scaled by its own deviation, theirs all to [-1, 1].
    """

    needs = ("image", "action_units")
    title = "Intensity of action units"
    drawn = "intensity of each unit, truth green, prediction red"
    label = "action_units"
    encode = staticmethod(numbers)
    scaled = True

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k"]:
        """The intensity of each unit, from 0 to 5."""
        return jnp.clip(self.head(seen["image"]), 0, STRONGEST)

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The intensity of each unit."""
        return {"action_units": dict(zip(names_in(meta, "action_units"), prediction.tolist(), strict=True))}

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Numbers, names=names_in(meta, "action_units"), key="action_units", kinds=("icc", "mse", "mae"))

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Intensities without an encoder: the mean of training faces, and ridge regression on 32 x 32 RGB pixels."""
        mean = mean_known(train["action_units"])
        found = of_pixels(train, validation, test, "action_units", numbers, len(mean))
        return {
            "mean": np.broadcast_to(mean, found.shape),
            "linear_pixels": np.clip(found, 0, STRONGEST),
        }

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, and below it a pair of bars for each unit, as high as it is strong."""
        return drawing.with_bars(image, label, prediction, (0.0, STRONGEST), scale)


class Detection(OneVector):
    """Whether each action unit acts: a score for each, above 0 for yes, from one vector of the image.

    The loss is the mean binary cross-entropy over units that are coded. `Occurrence`, a transform of the data, says
    from which intensity on a unit acts; labels of occurrence, 0 and 1, are taken as they are.
    """

    needs = ("image", "action_units")
    title = "Detection of action units"
    drawn = "whether each unit acts, truth green, prediction red"
    label = "action_units"
    encode = staticmethod(yes_or_no)
    scaled = False

    def losses(self, found: Float[Array, "b o"], targets: Targets) -> dict[str, Float[Array, ""]]:
        return {"entropy": binary_entropy(found, targets)}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k"]:
        """A score for each unit, above 0 for yes."""
        return self.elected(self.head(seen["image"]))

    def targets(self, labels: Float[Array, "b k"]) -> Targets:
        """Yes or no to each unit."""
        return self.encode(labels, self.head.outputs)

    def elected(self, votes: Float[Array, "b k"]) -> Float[Array, "b k"]:
        """The scores as they are."""
        return votes

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The probability that each unit acts."""
        chances = 1 / (1 + np.exp(-np.asarray(prediction, np.float64)))
        return {"action_units": dict(zip(names_in(meta, "action_units"), chances.tolist(), strict=True))}

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(MultiLabel, labels=names_in(meta, "action_units"), key="action_units", headline="f1_mean")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Scores without an encoder: yes to every unit, and ridge regression on 32 x 32 RGB pixels."""
        found = of_pixels(train, validation, test, "action_units", yes_or_no, len(names_in(meta, "action_units")))
        return {"always": np.ones_like(found), "linear_pixels": found}

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, and below it a pair of bars for each unit: high if it acts, low if not."""
        true = np.where(label >= 0, (label > 0.5) * 1.0, np.nan)
        return drawing.with_bars(image, true, (prediction > 0) * 1.0, (0.0, 1.0), scale)


class Occurrence:
    """A transform: 1 in place of each intensity of an action unit from `least` on, and 0 of one below; NaN stays."""

    reads = ("action_units",)

    def __init__(self, *, least: float = 2.0):
        self.least = least

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if "action_units" not in example:
            return example
        units = np.asarray(example["action_units"], np.float32)
        return {**example, "action_units": np.where(np.isnan(units), units, units >= self.least).astype(np.float32)}
