"""Recognition: do two images show one person?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.person_metrics import Verification
from facerep_jax.evaluation.pixels import contrasts
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views


class Recognition(nnx.Module):
    """Verification of pairs of test images by the cosine of their pooled features.

    The pairs are those of the data set's table `pairs`, as benchmarks have them. Nothing is trained: the protocol is
    `protocols.pooled`.
    """

    needs: tuple[str, ...] = ("image",)
    offers = ()
    title = "Recognition"
    drawn = "the face alone"
    label = "image"
    taps: tuple[int, ...] = ()
    splits = ("test",)
    tables: tuple[str, ...] = ("pairs",)
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
        raise ValueError("recognition compares features as they are and learns nothing: use the protocol pooled")

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b d"]:
        """The pooled feature."""
        return seen["image"].pooled

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Verification, table="pairs")

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


class DrawnPairs(Recognition):
    """The same on pairs that are drawn from test images whose persons are known, see `person_metrics.drawn_pairs`."""

    needs = ("image", "identity")
    title = "Recognition, drawn pairs"
    label = "identity"
    tables = ()

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Verification, table="")
