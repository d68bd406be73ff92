"""Age: how old a face looks, in years."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.config import Spec, build, spec
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.targets import numbers, of_pixels, squared
from facerep_jax.models.pooled import LINEAR
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views

TOLERANCE = 5.0  # years of the cumulative score CS(5)


class Age(nnx.Module):
    """The age in years, from one vector of the image.

    The loss is the mean squared error in units of the deviation of ages among training faces. Data sets call the
    feature `age`, a number for each face; NaN is not known.

    Args:
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled`.
        image_size: pixels of a side of the images.
        meta: of the data set.
    """

    needs = ("image", "age")
    offers = ()
    title = "Age"
    drawn = "years, truth green, prediction red"
    label = "age"
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
        self.head = build(head, encoder, 1, numbers, scaled=True, taps=self.taps, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"], batch["age"])

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
        found, targets = self.head(seen["image"], rng), numbers(batch["age"], self.head.outputs)
        loss = squared(found, targets, self.head.units.deviation[...])
        return loss, {"loss": loss, "known": targets.known.mean()}

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
