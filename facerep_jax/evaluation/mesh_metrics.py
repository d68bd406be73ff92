"""Errors of meshes of faces, in the three ways that results on AFLW2000-3D are given; on the host in float64."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from facerep_jax.evaluation.metrics import mean_defined, ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.typing import Rows

BINS = ((0, 30), (30, 60), (60, 90))  # of the yaw's size in degrees; the first holds its ends, the others the upper
OUTER_EYES = (36, 45)  # of the 68 landmarks
LANDMARKS = 68


class MeshErrors:
    """Errors of vertices (V, 3), in pixels x, y and depth on their scale; each has the name of its protocol.

    `nme_dense_box` is dense alignment: both meshes lose the mean of their depths; then the mean distance of vertices in
    3D / √(width · height) of the box around the true vertices.

    Where the vertices that are iBUG's 68 landmarks are known:
    `nme_reconstruction_inter_ocular` is the shape alone: the prediction is brought to the truth by the similarity
    (scale, rotation, shift) of least squares; then the mean distance in 3D / the distance in 3D of the outer corners of
    the eyes. `nme_sparse_box` is sparse alignment: the mean distance of the 68 in the image plane / √(width · height)
    of the box around the true ones. `nme_sparse_box_yaw_0_30` and so on are its means over faces whose yaw is from 0 to
    30, 30 to 60 and 60 to 90 degrees to either side, and `nme_sparse_box_balanced` is the mean of those that have a
    face; they are not defined where no yaw is known.

    A face with a vertex that is not known does not count; `images` is the number of those that do. Lengths are in
    pixels of the original image, which `landmarks_scale` gives; depths are stretched by the mean of both axes.

    Source: 3DDFA's benchmark_aflw2000 (sparse, balanced) and SADRNet's evaluation (dense alignment, reconstruction).
    Changed: SADRNet aligns by iterative closest points; vertices here correspond, so that the similarity has a closed
    form (Umeyama 1991). Its box of dense alignment may be another.

    Args:
        landmarks: the vertices that are the 68 landmarks; empty if that is not known.
    """

    key, sparse = "vertices", False  # the feature; whether sparse alignment alone is scored
    lower_is_better = True
    optional = ("yaw", "landmarks_scale", PERSON)
    unit, belongs_to = "image", "person"
    per_row, error_limit = True, None
    counts = ("images",)

    def __init__(self, landmarks: Sequence[int] = ()):
        if len(landmarks) not in (0, LANDMARKS):
            raise ValueError(f"the vertices of all {LANDMARKS} landmarks are needed or none, not of {len(landmarks)}")
        self.landmarks = np.asarray(landmarks, int)
        self.bins = tuple(f"nme_sparse_box_yaw_{low}_{high}" for low, high in BINS)
        self.names = {
            "nme_dense_box": "NME dense, box",
            "nme_reconstruction_inter_ocular": "NME reconstruction, inter-ocular",
            "nme_sparse_box": "NME sparse, box",
            "nme_sparse_box_balanced": "NME sparse, box, balanced",
            **{name: f"NME sparse, yaw {low} to {high}°" for name, (low, high) in zip(self.bins, BINS, strict=True)},
        }
        self.columns: tuple[str, ...] = ("nme_dense_box",)
        self.explains: tuple[str, ...] = (
            "NME dense, box: the mean distance in 3D of predicted and true vertices, both without the mean of their "
            "depths, as a share of √(width · height) of the box around the true ones; mean over test faces.",
        )
        if len(self.landmarks):
            self.columns = (
                *self.columns,
                "nme_reconstruction_inter_ocular",
                "nme_sparse_box",
                "nme_sparse_box_balanced",
            )
            self.explains += (
                "NME reconstruction, inter-ocular: the same after the similarity that brings the prediction nearest to "
                "the truth, as a share of the distance in 3D of the outer corners of the eyes.",
                "NME sparse, box: the mean distance in the image of the 68 landmarks, as a share of √(width · height) "
                "of the box around the true ones; balanced: mean of the means over three ranges of yaw.",
            )
        self.errors = tuple(name for name in self.columns if name != "nme_sparse_box_balanced")  # of each face
        if self.sparse:
            self.columns, self.errors = ("nme_sparse_box_balanced", "nme_sparse_box"), ("nme_sparse_box",)
            self.explains = self.explains[-1:]
        self.headline = self.columns[0]

    def rows(self, prediction: Float[np.ndarray | Array, "n v 3"], split: Mapping[str, Any]) -> Rows:
        """Per image: whether it counts, its errors, and whether its yaw is in each of the ranges."""
        scale = np.asarray(split.get("landmarks_scale", np.ones((1, 2))), np.float64)
        scale = np.concatenate([scale, scale.mean(1, keepdims=True)], axis=1)[:, None]
        p, y = (np.asarray(x, np.float64) for x in (prediction, split[self.key]))
        if p.shape != y.shape:
            raise ValueError(f"predicted vertices are {p.shape}, the true ones {y.shape}")
        if len(self.landmarks) and self.landmarks.max() >= y.shape[1]:
            raise ValueError(f"a landmark is vertex {self.landmarks.max()}, but a face has {y.shape[1]}")
        known: Any = np.isfinite(y[..., :2] if self.sparse else y).all((1, 2))
        predicted = np.isfinite(p[..., :2] if self.sparse else p).all((1, 2))
        p, y = np.where((known & predicted)[:, None, None], p * scale, 0), np.where(known[:, None, None], y * scale, 0)
        errors = [] if self.sparse else [ratio(distances(level(p), level(y)), side(y))]
        yaw = np.abs(np.asarray(split.get("yaw", np.full(len(y), np.nan)), np.float64))
        ranges = np.stack([(yaw > low) & (yaw <= high) for low, high in BINS], axis=1)
        ranges[:, 0] |= yaw == 0
        if len(self.landmarks):
            marks_p, marks_y = p[:, self.landmarks], y[:, self.landmarks]
            if not self.sparse:
                eyes = np.linalg.norm(marks_y[:, OUTER_EYES[0]] - marks_y[:, OUTER_EYES[1]], axis=1)
                errors.append(ratio(distances(aligned(p, y), y), eyes))
            errors.append(ratio(distances(marks_p[..., :2], marks_y[..., :2]), side(marks_y)))
        found = np.stack(errors, axis=1)
        known &= np.isfinite(found).all(1)
        found[~predicted] = np.nan  # a face without a prediction is none that does not count
        columns = [known, *np.where(known[:, None], found, 0).T, *(ranges & known[:, None]).T]
        return Rows(list(split["id"]), units_of(split), np.column_stack(columns).astype(np.float64))

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        known, errors, ranges = statistics[:, 0], statistics[:, 1 : -len(BINS)], statistics[:, -len(BINS) :]
        images = weights @ known
        means = {name: ratio(weights @ error, images) for name, error in zip(self.errors, errors.T, strict=True)}
        if len(self.landmarks):
            of = ratio((weights * errors[:, -1][None]) @ ranges, weights @ ranges)
            means |= {"nme_sparse_box_balanced": mean_defined(of), **dict(zip(self.bins, of.T, strict=True))}
        return means | {"images": images}


class SparseErrors(MeshErrors):
    """Sparse alignment alone, of 68 `landmarks_3d` whose depths need not be known; its balanced mean is what counts."""

    key, sparse = "landmarks_3d", True

    def __init__(self) -> None:
        super().__init__(range(LANDMARKS))


def level(points: Float[np.ndarray, "n v 3"]) -> Float[np.ndarray, "n v 3"]:
    """Points whose depths have a mean of 0."""
    return points - points.mean(1, keepdims=True) * np.array([0, 0, 1])


def side(points: Float[np.ndarray, "n v 3"]) -> Float[np.ndarray, "n"]:
    """√(width · height) of the box around points in the image."""
    return np.sqrt(np.prod((points.max(1) - points.min(1))[:, :2], axis=1))


def distances(a: Float[np.ndarray, "n v c"], b: Float[np.ndarray, "n v c"]) -> Float[np.ndarray, "n"]:
    """The mean distance of the points of each face."""
    return np.linalg.norm(a - b, axis=2).mean(1)


def aligned(p: Float[np.ndarray, "n v 3"], y: Float[np.ndarray, "n v 3"]) -> Float[np.ndarray, "n v 3"]:
    """The points p after the scale, rotation and shift that bring them nearest to y, by squared distance.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 1991.
    """
    middle_p, middle_y = p.mean(1, keepdims=True), y.mean(1, keepdims=True)
    a, b = p - middle_p, y - middle_y
    u, values, v = np.linalg.svd(b.transpose(0, 2, 1) @ a)
    signs = np.ones_like(values)
    signs[:, 2] = np.sign(np.linalg.det(u @ v))  # a rotation, no reflection
    rotation = (u * signs[:, None]) @ v
    scale = ratio((values * signs).sum(1), np.square(a).sum((1, 2)))
    scale = np.nan_to_num(scale)  # a prediction that is one point stays one
    return scale[:, None, None] * a @ rotation.transpose(0, 2, 1) + middle_y
