"""Boxes as records have them, [x0, y0, x1, y1] with (0, 0) the centre of the first pixel, made from other forms."""

import numpy as np
from jaxtyping import Float, Float32


def from_sides(x: float, y: float, width: float, height: float, *, first: int = 0) -> tuple[float, ...] | None:
    """The box of `width` x `height` whole pixels from the pixel (x, y) on; None if it has no pixels: it is not known.

    Args:
        x, y, width, height: of the box.
        first: what the first pixel of a row is called, 0 or 1.
    """
    if not (width > 0 and height > 0):
        return None
    left, top = x - first - 0.5, y - first - 0.5
    return left, top, left + width, top + height


def square(x: float, y: float, half: float) -> tuple[float, ...]:
    """The square around a centre."""
    return x - half, y - half, x + half, y + half


def square_around(points: Float32[np.ndarray, "k 2"]) -> tuple[float, ...]:
    """The square around the box of points, whose corners are rounded outwards to whole pixels first.

    Source: HRNet-Facial-Landmark-Detection, lib/datasets/cofw.py, without the 1.25 by which its crops are larger.
    """
    low: Float[np.ndarray, "2"] = np.floor(points.min(0).astype(np.float64))
    high: Float[np.ndarray, "2"] = np.ceil(points.max(0).astype(np.float64))
    x, y = (low + high) / 2
    return square(float(x), float(y), float((high - low).max()) / 2)
