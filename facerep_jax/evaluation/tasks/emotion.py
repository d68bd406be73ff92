"""Emotion: valence and arousal, or the class of the expression."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.config import Spec, build, spec
from facerep_jax.data.records import Example
from facerep_jax.data.transforms import require
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.label_metrics import Classes
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.targets import discordance, entropy, mean_known, numbers, of_pixels, one_of
from facerep_jax.models.pooled import LINEAR
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views

AFFECT = ("valence", "arousal")


class Affect(nnx.Module):
    """Valence and arousal, each from -1 to 1, from one vector of the image.

    The loss is the mean squared error and one less the concordance correlation (CCC) over a batch, mean of both.
    `Circumplex`, a transform of the data, puts the two numbers of a record side by side; NaN is not known.

    Source: losses, clipping and metrics of FRL's authors (github.com/face-analysis/emonet; Sanchez et al., CVPR 2021);
    FRL (2103.16554) gave out neither head nor loss.
    Changed: they add cross-entropies of the expression and of bins of both numbers.

    Args:
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled`.
        image_size: pixels of a side of the images.
        meta: of the data set.
    """

    needs = ("image", "affect")
    offers = ()
    title = "Valence and arousal"
    drawn = "valence and arousal, truth green, prediction red"
    label = "affect"
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
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps = stages_at(taps, encoder.stages)
        self.head = build(head, encoder, len(AFFECT), numbers, scaled=True, taps=self.taps, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"], batch["affect"])

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
        found, targets = self.head(seen["image"], rng), numbers(batch["affect"], self.head.outputs)
        error = mean_known(jnp.square(found - targets.values), targets.known)
        apart = discordance(found, targets)
        loss = error + apart
        return loss, {"loss": loss, "squared": error, "discordance": apart, "known": targets.known.mean()}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b 2"]:
        """Valence and arousal, from -1 to 1."""
        return jnp.clip(self.head(seen["image"]), -1, 1)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Numbers, names=AFFECT, key="affect", kinds=("ccc", "pcc", "rmse", "sagr"))

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Both without an encoder: the mean of training faces, and ridge regression on 32 x 32 RGB pixels."""
        known = np.isfinite(train["affect"])
        mean = np.where(known, train["affect"], 0).sum(0, dtype=np.float64) / np.maximum(known.sum(0), 1)
        found = of_pixels(train, validation, test, "affect", numbers, len(AFFECT))
        return {"mean": np.broadcast_to(mean, found.shape), "linear_pixels": np.clip(found, -1, 1)}

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, and below it valence and arousal, true and predicted."""
        true, found = ("{:+.2f}  {:+.2f}".format(*each) for each in (label, prediction))
        return drawing.with_text(image, true, found, scale)


class Expression(nnx.Module):
    """The class of the expression, from one vector of the image.

    The loss is the mean cross-entropy over faces whose expression is known; one below 0 is not.

    Args:
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled`.
        image_size: pixels of a side of the images.
        meta: of the data set; `expressions` are its names of classes.
    """

    needs = ("image", "expression")
    offers = ()
    title = "Expression"
    drawn = "number of the expression, truth green, prediction red"
    label = "expression"
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
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps = stages_at(taps, encoder.stages)
        self.head = build(head, encoder, len(names_of(meta)), one_of, scaled=False, taps=self.taps, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"], batch["expression"])

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
        found, targets = self.head(seen["image"], rng), one_of(batch["expression"], self.head.outputs)
        loss = entropy(found, targets)
        return loss, {"loss": loss, "known": targets.known.mean()}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Int[Array, "b"]:
        """The likeliest class."""
        return self.head(seen["image"]).argmax(-1)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Classes, classes=names_of(meta), key="expression")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Classes without an encoder: the most frequent one, and that of ridge regression on 32 x 32 RGB pixels."""
        count = len(names_of(meta))
        frequent = np.bincount(train["expression"][train["expression"] >= 0], minlength=count).argmax()
        found = of_pixels(train, validation, test, "expression", one_of, count).argmax(1)
        return {"most_frequent": np.full_like(found, frequent), "linear_pixels": found}

    @staticmethod
    def draw(image: np.ndarray, label: Any, prediction: Any, scale: int) -> Image.Image:
        """The image enlarged, and below it the numbers of the true and of the predicted class."""
        return drawing.with_text(image, f"{label}", f"{prediction}", scale)


class Circumplex:
    """A transform: `affect`, the valence and the arousal of a record, each NaN if it is not known."""

    reads = AFFECT

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        for name in AFFECT:
            require(example, name, "emotion")
        return {**example, "affect": np.array([example[name] for name in AFFECT], np.float32)}


def names_of(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a data set's expressions; ValueError where its meta does not give them."""
    if not meta.get("expressions"):
        raise ValueError("expressions need their names: put `expressions` into faces.meta.json and prepare again")
    return tuple(meta["expressions"])
