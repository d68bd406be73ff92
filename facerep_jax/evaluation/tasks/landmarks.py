"""Landmarks: where the points of a face are."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
from PIL import Image, ImageDraw
from sklearn.linear_model import Ridge

from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.evaluation.metrics import NME
from facerep_jax.evaluation.pixels import small
from facerep_jax.models import heatmaps
from facerep_jax.models.heads import LINEAR, Maps, Standardise, at, each_once, resized
from facerep_jax.models.layers import Linear
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Carried, Encoder, Equations, Features, Metrics, View, Views

ALPHAS = tuple(10 ** (power / 2) for power in range(2, 11))  # its penalties, of which validation chooses


class Regression(nnx.Module):
    """Points from one linear map of the taps' features.

    Each tap's map is averaged to at most `cells` x `cells`, standardised per channel, and all of it is mapped linearly
    to the coordinates, which are counted from the mean shape in units of the spread of the training labels. A point
    that no training label has is at the image's centre in the mean shape.
    The loss is the mean distance in these units.

    Args:
        cells: the finest grid that the head reads; finer maps are averaged.
        points: landmarks of a face.
        taps: stages of the encoder, by index.
        image_size: pixels of a side of the images.
    """

    def __init__(
        self, encoder: Encoder, points: int, *, taps: tuple[int, ...], image_size: int, cells: int = 7, rngs: nnx.Rngs
    ):
        rows, columns = encoder.grid((image_size, image_size))
        self.grid = (min(rows, cells), min(columns, cells))
        self.places, width = each_once(encoder, taps)
        self.standardise, self.centre = Standardise(width), (image_size - 1) / 2
        self.mean_shape = Carried(jnp.zeros((points, 2)))
        self.spread = Carried(jnp.ones(()))
        features = self.grid[0] * self.grid[1] * width
        self.linear = Linear(features, points * 2, init=nnx.initializers.zeros, rngs=rngs)

    def fit(self, maps: Maps, labels: Float[Array, "n k 2"]) -> None:
        """Take the statistics of features and labels, of which there may be more; ValueError if none is known."""
        if not jnp.isfinite(labels).any():
            raise ValueError(f"none of {len(labels)} training examples has a known landmark; nothing can be learnt")
        self.standardise.fit(self.averaged(maps))
        mean = jnp.nanmean(labels, axis=0)
        mean = jnp.where(jnp.isnan(mean), self.centre, mean)
        self.mean_shape.set_value(mean)
        self.spread.set_value(jnp.sqrt(jnp.nanmean(jnp.square(labels - mean[None]))) + 1e-6)

    def averaged(self, maps: Maps) -> Maps:
        return tuple(resized(x.astype(jnp.float32), self.grid) for x in at(maps, self.places))

    def losses(
        self, maps: Maps, truth: Float[Array, "b k 2"], known: Bool[Array, "b k"], rng: Key[Array, "b"]
    ) -> dict[str, Float[Array, ""]]:
        distance = distances(self(maps), truth, known).sum() / jnp.maximum(known.sum(), 1)
        return {"distance": distance / self.spread[...]}

    def designs(self, maps: Maps) -> Float[Array, "b p"]:
        """What the linear map reads."""
        x = self.standardise(self.averaged(maps))
        return x.reshape(x.shape[0], -1) / x.shape[-1] ** 0.5

    def equations(self, maps: Maps, labels: Float[Array, "b k 2"]) -> Equations:
        """A row for each face; a coordinate that is not annotated does not count."""
        known = jnp.isfinite(labels).reshape(len(labels), 1, -1)
        offsets = ((labels - self.mean_shape[...][None]) / self.spread[...]).reshape(known.shape)
        return Equations(self.designs(maps)[:, None], jnp.where(known, offsets, 0), known.astype(jnp.float32))

    def __call__(self, maps: Maps) -> Float[Array, "b k 2"]:
        x = self.designs(maps)
        return self.mean_shape[...][None] + self.spread[...] * self.linear(x).reshape(x.shape[0], -1, 2)


REGRESSION = plain(spec(Regression))  # the spec of the head that the task has unless told otherwise


class Heatmaps(nnx.Module):
    """Points as the centres of mass of heatmaps, one per point, that a dense head gives.

    The loss has two terms of weight 1: `coordinates`, the mean distance as a share of the image's side, and
    `heatmaps`, the mean binary cross-entropy of the logits, resized bilinearly to `size` pixels, with drawn heatmaps.
    Source: FaRL (2112.03109; github.com/FacePerceiver/FaRL, face_alignment/task.py and network.py), where the head is
    `spec(uper.UPerHead)`.
    Changed: points that are not annotated are in neither term; the crop is cut at the encoder's resolution, FaRL's at
    512 pixels, of which the encoder sees 448.

    Args:
        dense: spec of a dense head, see `models.heads`.
        size: pixels of a side of the drawn heatmaps; None for those of the images.
        radius: of the drawn points, in these pixels.
        points: landmarks of a face.
        taps: stages of the encoder, by index.
        image_size: pixels of a side of the images.
    """

    def __init__(
        self,
        encoder: Encoder,
        points: int,
        *,
        taps: tuple[int, ...],
        image_size: int,
        dense: Spec = LINEAR,
        size: int | None = 128,
        radius: float = 5.0,
        rngs: nnx.Rngs,
    ):
        self.image_size, self.size, self.radius = image_size, size or image_size, radius
        self.dense = build(dense, encoder, points, taps=taps, rngs=rngs)

    def fit(self, maps: Maps, labels: Float[Array, "n k 2"]) -> None:
        """Let the dense head take what it takes from features."""
        self.dense.fit(maps)

    def losses(
        self, maps: Maps, truth: Float[Array, "b k 2"], known: Bool[Array, "b k"], rng: Key[Array, "b"]
    ) -> dict[str, Float[Array, ""]]:
        logits, truth = self.dense(maps, rng=rng), (truth + 0.5) / self.image_size
        drawn = heatmaps.drawn(truth, size=self.size, radius=self.radius)
        surprise = optax.sigmoid_binary_cross_entropy(resized(logits, (self.size, self.size), antialias=False), drawn)
        count = jnp.maximum(known.sum(), 1)
        return {
            "coordinates": distances(heatmaps.soft_argmax(logits), truth, known).sum() / count,
            "heatmaps": jnp.where(known, surprise.mean((1, 2)), 0).sum() / count,
        }

    def __call__(self, maps: Maps) -> Float[Array, "b k 2"]:
        return heatmaps.soft_argmax(self.dense(maps)) * self.image_size - 0.5


class Landmarks(nnx.Module):
    """Points of a face, by a head that reads them in pixels from the taps' maps.

    The loss is the sum of the head's. Points that are not annotated, being NaN, are in none of them; the metric
    `known` is the share of those that are.

    Args:
        taps: stages of the encoder, as shares of its depth.
        head: spec of `Regression` or `Heatmaps`.
        image_size: pixels of a side of the images.
        label_shape: landmarks of a face, and 2.
        meta: of the data set.
    """

    needs = ("image", "landmarks")
    offers = ()
    title = "Landmarks"
    drawn = "truth green (ring), prediction red (dot)"
    label = "landmarks"
    splits = ("train", "validation", "test")
    tables = ()
    drawn_by = "id"

    def __init__(
        self,
        encoder: Encoder,
        *,
        taps: tuple[float, ...],
        head: Spec = REGRESSION,
        image_size: int,
        label_shape: tuple[int, ...],
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps = stages_at(taps, encoder.stages)
        self.head = build(head, encoder, label_shape[0], taps=self.taps, image_size=image_size, rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples."""
        self.head.fit(seen["image"].at(self.taps), jnp.asarray(batch["landmarks"]))

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
        truth = batch["landmarks"]
        known = jnp.isfinite(truth).all(-1)
        losses = self.head.losses(seen["image"].at(self.taps), truth, known, rng)
        loss = jnp.stack(list(losses.values())).sum()
        metrics = {"loss": loss, "known": known.mean()}
        return loss, metrics | losses

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b k 2"]:
        """Landmarks in pixels of the image that the encoder saw."""
        return self.head(seen["image"].at(self.taps))

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        described = meta.get("landmarks") or {}
        normaliser = described.get("normaliser") or {"kind": "box"}
        return spec(NME, normaliser=normaliser, threshold=described.get("threshold"))

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Predictions without an encoder: the mean shape, and ridge regression on 32 x 32 RGB pixels.

        The mean shape has points that no training face has at the image's centre. A coordinate is regressed from the
        faces where it is known, and stays at its mean if there is none. Without a known point of a validation face the
        largest penalty counts.
        """
        labels, shape = train["landmarks"].astype(np.float64), train["landmarks"].shape[1:]
        height, width = train["image"].shape[1:3]
        known = np.isfinite(labels)
        mean = np.broadcast_to([(width - 1) / 2, (height - 1) / 2], shape).copy()
        np.divide(np.where(known, labels, 0).sum(0), known.sum(0), out=mean, where=known.any(0))
        faces = {name: small(data["image"]) for name, data in (("train", train), ("val", validation), ("test", test))}
        offsets, known = (labels - mean).reshape(len(labels), -1), known.reshape(len(labels), -1)
        patterns, group = np.unique(known, axis=1, return_inverse=True)  # coordinates that are known in the same faces

        def ridge(alpha: float) -> tuple[np.ndarray, np.ndarray]:
            """Points of validation and test faces."""
            found = {name: np.tile(mean.reshape(-1), (len(faces[name]), 1)) for name in ("val", "test")}
            for index, rows in enumerate(patterns.T):
                of = group.reshape(-1) == index
                if rows.any():
                    fitted = Ridge(alpha).fit(faces["train"][rows], np.ascontiguousarray(offsets[rows][:, of]))
                    for name, points in found.items():
                        points[:, of] += fitted.predict(faces[name]).reshape(len(points), -1)
            return found["val"].reshape(-1, *shape), found["test"].reshape(-1, *shape)

        held_out, points = zip(*map(ridge, ALPHAS), strict=True)
        there = np.isfinite(validation["landmarks"]).all(-1)
        best = len(ALPHAS) - 1
        if there.any():
            best = int(
                np.argmin([np.linalg.norm((x - validation["landmarks"])[there], axis=-1).mean() for x in held_out])
            )
        return {"mean_shape": np.broadcast_to(mean, (len(test["image"]), *shape)), "linear_pixels": points[best]}

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


def distances(
    points: Float[Array, "b k 2"], truth: Float[Array, "b k 2"], known: Bool[Array, "b k"]
) -> Float[Array, "b k"]:
    """How far each known point is from the truth; 0 for the others."""
    offset = jnp.where(known[..., None], points - truth, 0)  # NaN stays out of the gradient
    return jnp.where(known, jnp.sqrt(jnp.square(offset).sum(-1) + 1e-12), 0)
