"""Reconstruction in 3D: where the vertices of a face's mesh are."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key
from PIL import Image, ImageDraw

from facerep_jax.config import Spec, build, spec
from facerep_jax.data.pose import angles_of
from facerep_jax.data.records import Example
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.mesh_metrics import MeshErrors, SparseErrors
from facerep_jax.evaluation.one_vector import OneVector, mean_known
from facerep_jax.evaluation.targets import numbers, of_pixels
from facerep_jax.models.pooled import LINEAR, Encode, Units
from facerep_jax.typing import Batch, Carried, Encoder, Equations, Features


class Reconstruction3D(OneVector):
    """The vertices of a face's mesh, in pixels x, y and depth on their scale, from one vector of the image.

    The loss is the mean squared error of coordinates, each in units of its deviation among training faces. A vertex
    that is not known, being NaN, is not in it.

    Source: FRL (2103.16554) for the task; it gave out neither head nor loss.
    """

    needs = ("image", "vertices")
    title = "Reconstruction in 3D"
    drawn = "vertices, truth green, prediction red"
    label = "vertices"
    encode = staticmethod(numbers)
    scaled = True

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b v 3"]:
        """Vertices in pixels of the image that the encoder saw."""
        found = self.head(seen["image"])
        return found.reshape(len(found), -1, 3)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(MeshErrors, landmarks=tuple(meta.get("vertex_landmarks", ())))

    @classmethod
    def baselines(
        cls, train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Meshes without an encoder: the mean of training faces, and ridge regression on 32 x 32 RGB pixels."""
        mean = mean_known(train[cls.label])
        found = of_pixels(train, validation, test, cls.label, numbers, mean.size).reshape(-1, *mean.shape)
        return {"mean": np.broadcast_to(mean, found.shape), "linear_pixels": found}

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, with a dot for each vertex."""
        picture = drawing.enlarged(image, scale)
        pen = ImageDraw.Draw(picture)
        for points, colour in ((label, drawing.TRUTH), (prediction, drawing.PREDICTION)):
            for x, y in ((points[np.isfinite(points[:, :2]).all(1), :2] + 0.5) * scale).tolist():
                pen.circle((x, y), max(1.0, picture.width / 400), fill=colour)
        return picture


class SparseAlignment(Reconstruction3D):
    """The 68 landmarks of a face in 3D, `landmarks_3d`, judged in the image plane alone: their depths may be unknown.

    Source: 3DDFA (Zhu et al., CVPR 2016), its protocol for AFLW2000-3D.
    """

    needs = ("image", "landmarks_3d")
    title = "Sparse alignment in 3D"
    drawn = "landmarks, truth green, prediction red"
    label = "landmarks_3d"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(SparseErrors)


class Basis(nnx.Module):
    """A head for meshes by a linear model of their shape, as 3D morphable models are: another head gives coefficients.

    The mean mesh and its principal components are those of training faces whose vertices are all known, in units of
    their deviation.

    Args:
        components: at most; fewer, if training faces give no more.
        inner: spec of a head of `models.pooled`, for the coefficients.
        taps: stages of the encoder that this reads.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        encode: Encode,
        *,
        scaled: bool,
        taps: tuple[int, ...],
        components: int = 50,
        inner: Spec = LINEAR,
        rngs: nnx.Rngs,
    ):
        if not 0 < components <= outputs:
            raise ValueError(f"a basis of {outputs} numbers has 1 to {outputs} components, not {components}")
        self.outputs, self.encode, self.units = outputs, encode, Units(outputs)
        self.mean, self.basis = Carried(jnp.zeros(outputs)), Carried(jnp.zeros((components, outputs)))
        self.inner = build(inner, encoder, components, numbers, scaled=True, taps=taps, rngs=rngs)

    def fit(self, features: Features, labels: Array) -> None:
        """Take the basis, and let the inner head take what it takes; ValueError if no mesh is known as a whole."""
        flat = np.asarray(labels, np.float64).reshape(len(labels), -1)
        whole = flat[np.isfinite(flat).all(1)]
        if not len(whole):
            raise ValueError(
                f"none of {len(flat)} training examples has all vertices of its mesh; nothing can be learnt"
            )
        self.units.fit(self.encode(jnp.asarray(labels), self.outputs))
        mean = whole.mean(0)
        _, values, components = np.linalg.svd(whole - mean, full_matrices=False)
        there = components[: self.basis.shape[0]][values[: self.basis.shape[0]] > 1e-9 * max(values[0], 1e-300)]
        basis = np.zeros(self.basis.shape)
        basis[: len(there)] = there
        self.mean.set_value(jnp.asarray(mean, jnp.float32))
        self.basis.set_value(jnp.asarray(basis, jnp.float32))
        self.inner.fit(features, self.coefficients(labels))

    def coefficients(self, labels: Array) -> Float[Array, "b k"]:
        """Of meshes; NaN where a vertex is not known."""
        return (jnp.asarray(labels).reshape(len(labels), -1) - self.mean[...][None]) @ self.basis[...].T

    @property
    def linear(self) -> nnx.Module:
        """The linear layer of the inner head, if it is one that ridge regression solves for."""
        return self.inner.linear

    def equations(self, maps: tuple[Array, ...], labels: Array) -> Equations:
        """Those of the inner head for the coefficients of meshes."""
        return self.inner.equations(maps, self.coefficients(labels))

    def __call__(self, features: Features, rng: Key[Array, "b"] | None = None) -> Float[Array, "b o"]:
        return self.mean[...][None] + self.inner(features, rng) @ self.basis[...]


class Yaw:
    """A transform: `yaw` in degrees, of the record's `abs_yaw_deg`, `head_pose` or `camera`; NaN if it has none.

    It stands before transforms that stretch the image.
    """

    reads = ("abs_yaw_deg", "camera", "head_pose")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        yaw = np.nan
        if "abs_yaw_deg" in example:
            yaw = example["abs_yaw_deg"]
        elif "head_pose" in example:
            yaw = example["head_pose"][0]
        elif "camera" in example:
            yaw = angles_of(example["camera"])[0]
        return {**example, "yaw": np.float32(yaw)}
