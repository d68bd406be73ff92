"""What tasks share that compare images by their pooled features and learn nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.pixels import contrasts
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views


class Compared(nnx.Module):
    """A task whose prediction is the pooled feature; a class of it says what is scored. The protocol is `pooled`."""

    title: str
    offers = ()
    drawn = "the face alone"
    taps: tuple[int, ...] = ()
    splits: tuple[str, ...] = ("test",)
    tables: tuple[str, ...] = ()
    drawn_by = "id"

    def __init__(self, encoder: Encoder, *, image_size: int, meta: Mapping[str, Any], rngs: nnx.Rngs):
        """All arguments are those of every task; nothing is built of them."""

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Nothing is taken from examples."""

    def views(self, batch: Batch, *, encoder: Encoder | None, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"])}

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
        """Raises ValueError: there is nothing to learn."""
        raise ValueError(
            f"{self.title} compares features as they are and learns nothing: use the protocol of its config"
        )

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b d"]:
        """The pooled feature."""
        return seen["image"].pooled

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Vectors without an encoder: 32 x 32 RGB pixels less their mean."""
        return {"pixels": contrasts(test["image"])}

    @staticmethod
    def draw(image: np.ndarray, label: Any, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged."""
        return drawing.enlarged(image, scale)
