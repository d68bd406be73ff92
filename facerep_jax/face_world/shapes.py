"""Flat shapes painted into square images: backgrounds, hands and things in front of a face.

Places and lengths are shares of the image's side, x right, y down, (0, 0) the corner of the first pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import cos, sin

import numpy as np

Colour = tuple[float, float, float]  # RGB, 0 to 255
ELLIPSE, BOX, CAPSULE = "ellipse", "box", "capsule"


@dataclass(frozen=True)
class Shape:
    """An ellipse, a box, or a capsule: a box whose short ends are half-circles."""

    kind: str
    x: float
    y: float
    width: float  # half of it
    height: float
    turn: float  # radians, clockwise
    colour: Colour
    softness: float = 0.0  # of the edge
    roundness: float = 0.0  # how much darker it is at the edge than in the middle, as a share
    opacity: float = 1.0

    def outside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """About the distance to the shape, negative inside."""
        right, down = self._own_axes(x, y)
        if self.kind == ELLIPSE:
            right, down = right * (1 / self.width), down * (1 / self.height)
            return (np.sqrt(right * right + down * down) - 1) * min(self.width, self.height)
        right, down = np.abs(right), np.abs(down)
        if self.kind == BOX:
            return np.maximum(right - self.width, down - self.height)
        thick = min(self.width, self.height)
        right = np.maximum(right - (self.width - thick), 0)
        down = np.maximum(down - (self.height - thick), 0)
        return np.sqrt(right * right + down * down) - thick

    def _own_axes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across, down = cos(self.turn), sin(self.turn)
        x, y = x - self.x, y - self.y
        return across * x + down * y, across * y - down * x

    def window(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of the pixels that it may touch."""
        across, down = abs(cos(self.turn)), abs(sin(self.turn))
        blur = self.softness + 1 / size
        if self.kind == ELLIPSE:  # its distance is short of the true one along the long axis
            blur *= max(self.width, self.height) / min(self.width, self.height)
        reach_x = self.width * across + self.height * down + blur
        reach_y = self.width * down + self.height * across + blur
        return _span(self.y, reach_y, size), _span(self.x, reach_x, size)

    def mirrored(self) -> "Shape":
        """The shape in a mirror."""
        return replace(self, x=1 - self.x, turn=-self.turn)


def _span(middle: float, half: float, size: int) -> slice:
    low = min(max(int((middle - half) * size), 0), size)
    return slice(low, max(min(int((middle + half) * size) + 1, size), low))


def covered(shapes: Iterable[Shape], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie inside of any shape."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for shape in shapes:
        inside |= shape.outside(x, y) < 0
    return inside


def paint_shape(
    image: np.ndarray, shape: Shape, light: np.ndarray | float = 1.0
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Paint a shape over an image (3, s, s), its colour times `light` (3, 1, 1).

    Returns:
        A window of the image and how much of each pixel in it the shape covers, 0 to 1.
    """
    size = image.shape[-1]
    rows, columns = window = shape.window(size)
    place = places(size)
    outside = shape.outside(place[columns], place[rows, None])
    share = np.minimum(np.maximum(0.5 - outside * (1 / (2 * shape.softness + 1 / size)), 0), 1)
    colour = np.array(shape.colour, np.float32).reshape(3, 1, 1) * light
    if shape.roundness:
        depth = 1 + outside * (1 / min(shape.width, shape.height))  # 0 in the middle, 1 at the edge
        depth = np.minimum(np.maximum(depth, 0), 1)
        colour = colour * (1 - shape.roundness * depth * depth)
    part = image[:, rows, columns]
    part += (shape.opacity * share) * (colour - part)
    return window, share


@cache
def places(size: int) -> np.ndarray:
    """Where a row's pixels lie, as shares of the image."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size
