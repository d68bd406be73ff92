"""Facial action units: how strongly each acts, or whether it does."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.config import Spec, build, spec
from facerep_jax.data.records import Example
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.targets import binary_entropy, numbers, of_pixels, squared, yes_or_no
from facerep_jax.models.pooled import LINEAR
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views

STRONGEST = 5.0  # intensity; 0 is none


class Intensity(nnx.Module):
    """The intensity of each action unit, 0 to 5, from one vector of the image.

    The loss is the mean squared error over units that are coded, each in units of its deviation among training faces.

    Source: intensities of DISFA and BP4D, learnt by their squared error, as in Sanchez et al. (CVPR 2021), whose
    authors are those of FRL (2103.16554); FRL gave out neither head nor loss.
    Changed: each unit is scaled by its own deviation, theirs all to [-1, 1].

    Args:
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled`.
        image_size: pixels of a side of the images.
        label_shape: how many units there are.
        meta: of the data set; `action_units` are their names.
    """

    needs = ("image", "action_units")
    offers = ()
    title = "Intensity of action units"
    drawn = "intensity of each unit, truth green, prediction red"
    label = "action_units"
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
        self.head = build(head, encoder, label_shape[0], numbers, scaled=True, taps=self.taps, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"], batch["action_units"])

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
        found, targets = self.head(seen["image"], rng), numbers(batch["action_units"], self.head.outputs)
        loss = squared(found, targets, self.head.units.deviation[...])
        return loss, {"loss": loss, "known": targets.known.mean()}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k"]:
        """The intensity of each unit, from 0 to 5."""
        return jnp.clip(self.head(seen["image"]), 0, STRONGEST)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Numbers, names=names_of(meta), key="action_units", kinds=("icc", "mse", "mae"))

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


class Detection(nnx.Module):
    """Whether each action unit acts: a score for each, above 0 for yes, from one vector of the image.

    The loss is the mean binary cross-entropy over units that are coded. `Occurrence`, a transform of the data, says
    from which intensity on a unit acts; labels of occurrence, 0 and 1, are taken as they are.

    Args:
        taps, head, image_size, label_shape, meta: those of `Intensity`.
    """

    needs = ("image", "action_units")
    offers = ()
    title = "Detection of action units"
    drawn = "whether each unit acts, truth green, prediction red"
    label = "action_units"
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
        self.head.fit(seen["image"], batch["action_units"])

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
        scores, targets = self.head(seen["image"], rng), yes_or_no(batch["action_units"], self.head.outputs)
        loss = binary_entropy(scores, targets)
        return loss, {"loss": loss, "known": targets.known.mean()}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k"]:
        """A score for each unit, above 0 for yes."""
        return self.head(seen["image"])

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(MultiLabel, labels=names_of(meta), key="action_units", headline="f1_mean")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Scores without an encoder: yes to every unit, and ridge regression on 32 x 32 RGB pixels."""
        found = of_pixels(train, validation, test, "action_units", yes_or_no, len(names_of(meta)))
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


def names_of(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a data set's action units; ValueError where its meta does not give them."""
    if not meta.get("action_units"):
        raise ValueError("action units need their names: put `action_units` into faces.meta.json and prepare again")
    return tuple(meta["action_units"])


def mean_known(labels: np.ndarray) -> np.ndarray:
    """The mean of each column over what is known, 0 if nothing is."""
    known = np.isfinite(labels)
    return np.where(known, labels, 0).sum(0, dtype=np.float64) / np.maximum(known.sum(0), 1)
