"""Age: how old a face looks, in years."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.one_vector import OneVector
from facerep_jax.evaluation.targets import numbers, of_pixels
from facerep_jax.typing import Batch, Features

TOLERANCE = 5.0  # years of the cumulative score CS(5)


class Age(OneVector):
    """The age in years, from one vector of the image.

    The loss is the mean squared error in units of the deviation of ages among training faces. Data sets call the
    feature `age`, a number for each face; NaN is not known.
    """

    needs = ("image", "age")
    title = "Age"
    drawn = "years, truth green, prediction red"
    label = "age"
    encode = staticmethod(numbers)
    scaled = True

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b"]:
        """Years, at least 0."""
        return jnp.maximum(self.head(seen["image"])[:, 0], 0)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Numbers, names=("age",), key="age", kinds=("mae", "cs"), unit="years", tolerance=TOLERANCE)

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Years without an encoder: the median of training faces, and ridge regression on 32 x 32 RGB pixels."""
        found = of_pixels(train, validation, test, "age", numbers, 1)[:, 0]
        known = np.asarray(train["age"], np.float64)
        known = known[np.isfinite(known)]
        middle = np.median(known) if len(known) else 0.0
        return {"median": np.full(len(found), middle), "linear_pixels": np.maximum(found, 0)}

    @staticmethod
    def draw(image: np.ndarray, label: Any, prediction: Any, scale: int) -> Image.Image:
        """The image enlarged, and below it the true and the predicted age."""
        return drawing.with_text(image, f"{label:.0f}", f"{prediction:.0f}", scale)
