"""Emotion: valence and arousal, or the class of the expression."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.data.records import Example
from facerep_jax.data.transforms import require
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.label_metrics import Classes
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.one_vector import OneVector, mean_known, names_in
from facerep_jax.evaluation.targets import discordance, entropy, numbers, of_pixels, one_of, squared
from facerep_jax.models.pooled import Targets
from facerep_jax.typing import Batch, Features

AFFECT = ("valence", "arousal")


class Affect(OneVector):
    """Valence and arousal, each from -1 to 1, from one vector of the image.

    The loss is the mean squared error and one less the concordance correlation (CCC) over a batch, mean of both.
    `Circumplex`, a transform of the data, puts the two numbers of a record side by side; NaN is not known.

    Source: losses, clipping and metrics of FRL's authors (github.com/face-analysis/emonet; Sanchez et al., CVPR 2021);
    FRL (2103.16554) gave out neither head nor loss.
    Changed: they weigh the squared error by a half, add cross-entropies of the expression and of bins of both numbers,
    and average the predictions of an image and of its mirror image.
    """

    needs = ("image", "affect")
    title = "Valence and arousal"
    drawn = "valence and arousal, truth green, prediction red"
    label = "affect"
    encode = staticmethod(numbers)
    scaled = True

    def losses(self, found: Float[Array, "b o"], targets: Targets) -> dict[str, Float[Array, ""]]:
        return {"squared": squared(found, targets, jnp.ones(len(AFFECT))), "discordance": discordance(found, targets)}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b 2"]:
        """Valence and arousal, from -1 to 1."""
        return jnp.clip(self.head(seen["image"]), -1, 1)

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Valence and arousal."""
        return dict(zip(AFFECT, prediction.tolist(), strict=True))

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Numbers, names=AFFECT, key="affect", kinds=("ccc", "pcc", "rmse", "sagr"))

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Both without an encoder: the mean of training faces, and ridge regression on 32 x 32 RGB pixels."""
        found = of_pixels(train, validation, test, "affect", numbers, len(AFFECT))
        return {
            "mean": np.broadcast_to(mean_known(train["affect"]), found.shape),
            "linear_pixels": np.clip(found, -1, 1),
        }

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, and below it valence and arousal, true and predicted."""
        true, found = ("{:+.2f}  {:+.2f}".format(*each) for each in (label, prediction))
        return drawing.with_text(image, true, found, scale)


class Expression(OneVector):
    """The class of the expression, from one vector of the image.

    The loss is the mean cross-entropy over faces whose expression is known; one below 0 is not.
    """

    needs = ("image", "expression")
    title = "Expression"
    drawn = "number of the expression, truth green, prediction red"
    label = "expression"
    encode = staticmethod(one_of)
    scaled = False

    @staticmethod
    def outputs(label_shape: tuple[int, ...], meta: Mapping[str, Any]) -> int:
        """One for each expression."""
        return len(names_in(meta, "expressions"))

    @property
    def classes(self) -> int:
        """The number of expressions, as many as a subset of the labels has to have at least."""
        return self.head.outputs

    def losses(self, found: Float[Array, "b o"], targets: Targets) -> dict[str, Float[Array, ""]]:
        return {"entropy": entropy(found, targets)}

    def targets(self, labels: Int[Array, "b"]) -> Targets:
        """Which class it is."""
        return self.encode(labels, self.head.outputs)

    def elected(self, votes: Float[Array, "b k"]) -> Int[Array, "b"]:
        """The class that has most."""
        return votes.argmax(-1)

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Int[Array, "b"]:
        """The likeliest class."""
        return self.elected(self.head(seen["image"]))

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The name of the class."""
        return {"expression": names_in(meta, "expressions")[int(prediction)]}

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Classes, classes=names_in(meta, "expressions"), key="expression")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Classes without an encoder: the most frequent one, and that of ridge regression on 32 x 32 RGB pixels."""
        count = len(names_in(meta, "expressions"))
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
