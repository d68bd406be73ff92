"""What an encoder sees of a face, and the way from there back to the picture."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.records import Example
from facerep_jax.data.transforms import Transform, whole_box

# What transforms turn into labels, which a picture lacks: as records have it that lack it.
NO_LABELS: Mapping[str, Any] = {
    "valence": np.float32(np.nan),
    "arousal": np.float32(np.nan),
    "head_pose": np.full(3, np.nan, np.float32),
    "camera": np.full((3, 4), np.nan, np.float32),
}
MARKS = "vertices"  # a feature that every transform moves with the image, which holds marks here


class Crop(NamedTuple):
    """A square of a picture: the point p of the picture is at `matrix @ p + offset` of it."""

    image: UInt8[np.ndarray, "s s 3"]
    matrix: Float[np.ndarray, "2 2"]
    offset: Float[np.ndarray, "2"]
    size: tuple[int, int]  # (width, height) of the picture

    def back(self, points: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "k 2"]:
        """Points of the crop as points of the picture, both in pixels."""
        return (np.asarray(points, np.float64) - self.offset) @ np.linalg.inv(self.matrix).T

    def classes_back(self, mask: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "h w"]:
        """A map of classes of the crop as one of the picture, by its nearest pixels; 255 outside of the crop."""
        edge = self.offset + 0.5 - self.matrix @ np.full(2, 0.5)  # PIL counts from the edge of the first pixel
        data = (*self.matrix[0], edge[0], *self.matrix[1], edge[1])
        affine, nearest = Image.Transform.AFFINE, Image.Resampling.NEAREST
        return np.array(Image.fromarray(mask).transform(self.size, affine, data, nearest, fillcolor=MISSING_CLASS))

    @property
    def outline(self) -> Float[np.ndarray, "4 2"]:
        """The corners of the crop in the picture."""
        h, w = self.image.shape[:2]
        return self.back(np.array([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]]))


def cropped(example: Example, transforms: Sequence[Transform]) -> Crop:
    """What transforms make of an example, without chance.

    Marks at the picture's corners go through the transforms with the image and tell where it went.

    Raises:
        transforms.Lacking: the face has no box to crop to.
        ValueError: a transform reads what the example has not.
    """
    height, width = example["image"].shape[:2]
    x0, y0, x1, y1 = whole_box(example)
    marks = np.array([[x0, y0], [x1, y0], [x0, y1]])
    deep = np.concatenate([marks, np.zeros((3, 1))], 1).astype(np.float32)
    result: Example = {**NO_LABELS, **example, MARKS: deep}
    rng = np.random.default_rng(0)
    for transform in transforms:
        result = transform(result, rng)
    moved = np.asarray(result[MARKS], np.float64)[:, :2]
    matrix = np.stack([(moved[1] - moved[0]) / (x1 - x0), (moved[2] - moved[0]) / (y1 - y0)], axis=1)
    return Crop(result["image"], matrix, moved[0] - matrix @ marks[0], (width, height))
