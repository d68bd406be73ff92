"""A face detector that takes bright rectangles on a dark ground for faces, the brighter the surer."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from facerep_jax.data.detections import Face

DARK = 40  # a JPEG's noise is below
POINTS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))  # of a face, as shares of its box


class Brightest:
    """Each bright region of an image is a face."""

    version = "1"

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Sequence[Face]:
        grey = image.mean(2)
        regions, _ = ndimage.label(grey > DARK)
        return [face_at(rows, columns, grey) for rows, columns in ndimage.find_objects(regions)]


def face_at(rows: slice, columns: slice, grey: np.ndarray) -> Face:
    """The face whose box holds these pixels whole: (0, 0) is the centre of the first."""
    corner = np.array([columns.start, rows.start], np.float32) - 0.5
    size = np.array([columns.stop - columns.start, rows.stop - rows.start], np.float32)
    bbox = np.concatenate([corner, corner + size])
    return Face(bbox, corner + size * np.array(POINTS, np.float32), float(grey[rows, columns].mean() / 255))
