"""Landmarks: where the points of a face are."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key, UInt8
from PIL import Image, ImageDraw
from sklearn.linear_model import Ridge

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation.metrics import NME
from facerep_jax.models.heads import Standardise, resized
from facerep_jax.models.layers import Linear
from facerep_jax.typing import Batch, Carried, Encoder, Features, Metrics, View

PIXELS = 32  # side of the images that the ridge baseline sees
ALPHAS = (1e1, 1e2, 1e3, 1e4, 1e5)  # its penalties, chosen on validation


class Landmarks(nnx.Module):
    """Points from a linear map of the taps' features.

    Each tap's map is averaged to at most `cells` x `cells`, standardised per channel, and all of it is mapped linearly
    to the coordinates, which are counted from the mean shape in units of the spread of the training labels.
    The loss is the mean distance in these units.

    Args:
        taps: blocks of the encoder.
        points: landmarks of a face.
        cells: the finest grid that the head reads; finer maps are averaged.
        image_size: pixels of a side of the images.
        meta: of the data set.
    """

    needs = ("image", "landmarks")
    micro_batches = "exact"
    label = "landmarks"

    def __init__(
        self,
        encoder: Encoder,
        *,
        taps: tuple[int, ...],
        points: int = 68,
        cells: int = 7,
        image_size: int,
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps, self.points = tuple(taps), points
        rows, columns = encoder.grid((image_size, image_size))
        self.grid = (min(rows, cells), min(columns, cells))
        width = sum(encoder.tap_widths(self.taps))
        self.standardise = Standardise(width)
        self.mean_shape = Carried(jnp.zeros((points, 2)))
        self.spread = Carried(jnp.ones(()))
        features = self.grid[0] * self.grid[1] * width
        self.head = Linear(features, points * 2, init=nnx.initializers.zeros, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Take the statistics of features and labels from training examples."""
        self.standardise.fit(self.averaged(seen))
        labels = jnp.asarray(batch["landmarks"])
        if labels.shape[1] != self.points:
            raise ValueError(
                f"the data set has {labels.shape[1]} landmarks and the head {self.points}: "
                f"set --config.task.points={labels.shape[1]}"
            )
        mean = jnp.nanmean(labels, axis=0)
        self.mean_shape.set_value(mean)
        self.spread.set_value(jnp.sqrt(jnp.nanmean(jnp.square(labels - mean[None]))) + 1e-6)

    def views(self, batch: Batch, rng: Key[Array, "b"]) -> Mapping[str, View]:
        return {"image": View(batch["image"])}

    def averaged(self, seen: Mapping[str, Features]) -> tuple[Float[Array, "b h w _"], ...]:
        return tuple(resized(x.astype(jnp.float32), self.grid) for x in seen["image"].maps)

    def offsets(self, seen: Mapping[str, Features]) -> Float[Array, "b k 2"]:
        """Coordinates from the mean shape, in units of the spread."""
        x = self.standardise(self.averaged(seen))
        x = x.reshape(len(x), -1) / x.shape[-1] ** 0.5
        return self.head(x).reshape(len(x), -1, 2)

    def loss(
        self,
        seen: Mapping[str, Features],
        batch: Batch,
        *,
        encoder: Encoder | None,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        truth = (batch["landmarks"] - self.mean_shape[...][None]) / self.spread[...]
        known = jnp.isfinite(truth).all(-1)
        error = jnp.where(known[..., None], self.offsets(seen) - jnp.nan_to_num(truth), 0)
        distance = jnp.sqrt(jnp.square(error).sum(-1) + 1e-12)
        loss = jnp.where(known, distance, 0).sum() / jnp.maximum(known.sum(), 1)
        return loss, {"landmarks/loss": loss}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k 2"]:
        """Landmarks in pixels of the image that the encoder saw."""
        return self.mean_shape[...][None] + self.spread[...] * self.offsets(seen)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        described = meta.get("landmarks") or {}
        return spec(NME, normaliser=described.get("normaliser") or {"kind": "box"})

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Predictions without an encoder: the mean shape, and ridge regression on 32 x 32 RGB pixels."""
        labels = train["landmarks"].astype(np.float64)
        mean = np.nanmean(labels, axis=0)
        predictions = {"mean_shape": np.broadcast_to(mean, (len(test["image"]), *mean.shape))}
        known = np.isfinite(labels).all((1, 2))
        pixels = {name: small(data["image"]) for name, data in (("train", train), ("val", validation), ("test", test))}
        offsets = (labels - mean)[known].reshape(known.sum(), -1)
        best = np.inf
        for alpha in ALPHAS:
            ridge = Ridge(alpha).fit(pixels["train"][known], offsets)
            held_out = mean + ridge.predict(pixels["val"]).reshape(-1, *mean.shape)
            error = np.nanmean(np.linalg.norm(held_out - validation["landmarks"], axis=-1))
            if error < best:
                best = error
                predictions["pixel_ridge"] = mean + ridge.predict(pixels["test"]).reshape(-1, *mean.shape)
        return predictions

    @staticmethod
    def draw(image: UInt8[np.ndarray, "h w 3"], label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged; true points are green rings, predicted ones red dots, and a line joins the two."""
        picture = Image.fromarray(image).resize(
            (image.shape[1] * scale, image.shape[0] * scale), Image.Resampling.BICUBIC
        )
        pen = ImageDraw.Draw(picture)
        radius = max(1.0, picture.width / 160)
        for true, predicted in ((np.stack((label, prediction), axis=1) + 0.5) * scale).tolist():
            if np.isfinite((*true, *predicted)).all():
                pen.line((*true, *predicted), fill=(235, 235, 235))
            if np.isfinite(predicted).all():
                pen.circle(predicted, radius, fill=(255, 60, 60))
            if np.isfinite(true).all():
                pen.circle(true, 1.6 * radius, outline=(60, 220, 90))
        return picture


def small(images: UInt8[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b p"]:
    """Images at 32 x 32, flattened, in [0, 1]."""
    size = (PIXELS, PIXELS)
    resize = [np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BOX)) for x in images]
    return np.stack(resize).reshape(len(images), -1) / 255
