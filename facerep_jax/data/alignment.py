"""Faces moved to a template: their eyes, nose and mouth lie at the same pixels of each image."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.meta import FIVE, five_points
from facerep_jax.data.transforms import Example, Lacking, placed, require, resample, sampled

# Left eye, right eye, nose, left and right corner of the mouth, as seen, on a canvas of 512 pixels.
CANVAS = 512
TEMPLATE = ((196, 226), (316, 226), (256, 286), (220, 360.4), (292, 360.4))
# insightface's template for recognition, `arcface_dst`, in pixels of a square of 112, as shares of the way from the
# centre of its first pixel to that of its last.
ARCFACE = tuple(
    (x / 111, y / 111)
    for x, y in ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
)


class AlignToTemplate:
    """The face as a square of `size` pixels, by the similarity that best moves five points of it to a template.

    Source: the default template, its scaling and the least-squares similarity are those of FaRL's downstream code
    (py-blueprint, ml/augmenters); whether its pre-training was aligned so is not published.

    Args:
        scale: of the face; smaller shows more around it.
        template: the places of the five points, as shares of the square from the centre of its first pixel to that of
            its last; None for FaRL's.
        points: for each point of the template, the landmarks whose mean it is; () for those that the data set's meta
            tells, see `meta.five_points`. Without either, five landmarks are the points themselves.
        meta: of the data set.
    """

    reads = ("landmarks",)

    def __init__(
        self,
        *,
        size: int,
        scale: float = 1.0,
        template: tuple[tuple[float, float], ...] | None = None,
        points: tuple[tuple[int, ...], ...] = (),
        meta: Mapping[str, Any],
    ):
        shares = np.array(TEMPLATE) / CANVAS if template is None else np.array(template, np.float64)
        if shares.shape != (FIVE, 2):
            raise ValueError(f"AlignToTemplate: a template is x and y of {FIVE} points, not {shares.shape} numbers")
        if points and len(points) != FIVE:
            raise ValueError(f"AlignToTemplate: points are given for {len(points)} of the template's {FIVE}")
        self.size, self.points = size, tuple(map(tuple, points)) or five_points(meta)
        self.template = (scale * (2 * shares - 1) + 1) * (size - 1) / 2

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return moved(example, self.matrix(example), self.size)

    def matrix(self, example: Example) -> Float[np.ndarray, "2 3"]:
        """The similarity that moves pixels of the image to those of the square; raises Lacking without landmarks."""
        require(example, "landmarks", "AlignToTemplate")
        landmarks = np.asarray(example["landmarks"], np.float64)
        if not self.points and len(landmarks) != FIVE:
            raise ValueError(
                f"AlignToTemplate: the data set's meta does not tell `five_points` of its {len(landmarks)} landmarks;"
                " name them there, or by `points`"
            )
        points = self.points or [[i] for i in range(FIVE)]
        five = np.array([landmarks[list(group)].mean(0) for group in points])
        if not np.isfinite(five).all() or np.ptp(five, axis=0).max() == 0:
            raise Lacking(example, f"has no landmarks to align: {five.round(1).tolist()}")
        return similarity(five, self.template)


def similarity(source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "2 3"]:
    """The matrix [[a, -b, x], [b, a, y]] that moves points onto others with the least sum of squares.

    Source: Umeyama, PAMI 13 (1991), in two dimensions and as complex numbers.
    """
    p, q = (points @ np.array([1, 1j]) for points in (source, target))
    from_mean = p - p.mean()
    turn = (from_mean.conj() @ (q - q.mean())) / (np.abs(from_mean) ** 2).sum()
    shift = q.mean() - turn * p.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def moved(example: Example, matrix: Float[np.ndarray, "2 3"], size: int) -> Example:
    """The example seen through a similarity of pixels, as a square of `size` pixels, with all that lies in the image.

    The box becomes the one around its moved corners, and the roll of a `head_pose` turns with the image.
    `landmarks_scale` is that of `transforms.crop`.
    """
    scale = math.hypot(*matrix[:, 0])
    result = placed(example, matrix[:, :2], matrix[:, 2], depth=scale)
    result["image"] = turned(example["image"], matrix, size)
    if "mask" in example:
        back = np.linalg.inv(matrix[:, :2])
        result["mask"] = sampled(
            example["mask"], back, -back @ matrix[:, 2], size, Image.Resampling.NEAREST, MISSING_CLASS
        )
    if "head_pose" in example:
        roll_deg = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        result["head_pose"] = (example["head_pose"] + np.array([0, 0, roll_deg])).astype(np.float32)
    before = example.get("landmarks_scale", np.ones(2, np.float32))
    result["landmarks_scale"] = (before / scale).astype(np.float32)
    return result


def turned(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """An image through a similarity: first scaled, antialiased, then turned; black where there was no image."""
    turn, shift = matrix[:, :2], matrix[:, 2]
    scale = math.hypot(*turn[:, 0])
    cos, sin = turn[:, 0] / scale
    # PIL's affine transform does not smooth: a resize of the square around what is seen does all the shrinking before.
    side = math.ceil(size * (abs(cos) + abs(sin))) + 4  # holds the turned square, and two pixels for the filter
    x, y = np.linalg.solve(turn, (size - 1) / 2 - shift)
    half = side / scale / 2
    scaled = resample(image, (x - half, y - half, x + half, y + half), side, Image.Resampling.BICUBIC, 0)
    back = np.array([[cos, sin], [-sin, cos]])
    centre = np.full(2, (side - 1) / 2) - back @ np.full(2, (size - 1) / 2)
    return sampled(scaled, back, centre, size, Image.Resampling.BICUBIC, 0)
