"""What tasks share that read one vector of an image: their head, and how it learns."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build
from facerep_jax.evaluation.targets import squared
from facerep_jax.models.pooled import LINEAR, Encode, Targets
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Encoder, Features, Metrics, View, Views


class OneVector(nnx.Module):
    """A task with a head of `models.pooled`; a class of it says what is predicted, scored and drawn.

    Args:
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled`.
        image_size: pixels of a side of the images.
        label_shape: of one label.
        meta: of the data set.
    """

    label: str
    encode: Encode  # labels -> what the head's outputs should be
    scaled: bool  # whether outputs are counted in units of their deviation among training faces

    offers = ()
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
        outputs = self.outputs(label_shape, meta)
        self.head = build(head, encoder, outputs, self.encode, scaled=self.scaled, taps=self.taps, rngs=rngs)

    @staticmethod
    def outputs(label_shape: tuple[int, ...], meta: Mapping[str, Any]) -> int:
        """How many outputs the head has: as many as a label has numbers."""
        return int(np.prod(label_shape, dtype=int))

    def losses(self, found: Float[Array, "b o"], targets: Targets) -> dict[str, Float[Array, ""]]:
        """The terms of the loss by name: the mean squared error of known targets in units of their deviation."""
        return {"squared": squared(found, targets, self.head.units.deviation[...])}

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"], batch[self.label])

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
        targets = self.encode(batch[self.label], self.head.outputs)
        losses = self.losses(self.head(seen["image"], rng), targets)
        loss = jnp.stack(list(losses.values())).sum()
        return loss, {"loss": loss, "known": targets.known.mean()} | losses


def names_in(meta: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Names that the meta of a data set gives to its labels; ValueError where it gives none."""
    if not meta.get(key):
        what = key.replace("_", " ")
        raise ValueError(f"{what} need their names: put `{key}` into faces.meta.json and prepare again")
    return tuple(meta[key])


def mean_known(labels: np.ndarray) -> np.ndarray:
    """The mean of labels over examples, of each number where it is known; 0 if it nowhere is."""
    known = np.isfinite(labels)
    return np.where(known, labels, 0).sum(0, dtype=np.float64) / np.maximum(known.sum(0), 1)
