"""Flat shapes for square images: they make up backgrounds, hands, and things in front of a face.

Places and lengths are shares of the side of the image; x points right, y down, and (0, 0) is the top left corner of
the first pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import cos, sin

import numpy as np
from jaxtyping import Bool, Float, Float32

Colour = tuple[float, float, float]  # RGB, 0 to 255
Window = tuple[slice, slice]  # rows and columns of an image
ELLIPSE, BOX, CAPSULE = "ellipse", "box", "capsule"


@dataclass(frozen=True)
class Shape:
    """An ellipse, a box, or a capsule, which is a box whose short ends are half-circles."""

    kind: str
    x: float
    y: float
    width: float  # half of it
    height: float  # half of it
    turn: float  # radians, clockwise
    colour: Colour
    softness: float = 0.0  # half the width of the blurred edge
    roundness: float = 0.0  # how much darker the edge is than the middle, as a share
    opacity: float = 1.0

    def outside(self, x: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]) -> Float[np.ndarray, "*p"]:
        """Return about the distance of points to the outline of the shape, negative inside of it."""
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

    def _own_axes(
        self, x: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]
    ) -> tuple[Float[np.ndarray, "*p"], Float[np.ndarray, "*p"]]:
        """Return points along the width and along the height of the shape, relative to its middle."""
        across, down = cos(self.turn), sin(self.turn)
        x, y = x - self.x, y - self.y
        return across * x + down * y, across * y - down * x

    def window(self, size: int) -> Window:
        """Return the pixels of an image of `size` x `size` that the shape may touch."""
        across, down = abs(cos(self.turn)), abs(sin(self.turn))
        blur = self.softness + 1 / size
        if self.kind == ELLIPSE:  # `outside` falls short of the true distance along the long axis
            blur *= max(self.width, self.height) / min(self.width, self.height)
        reach_x = self.width * across + self.height * down + blur
        reach_y = self.width * down + self.height * across + blur
        return _span(self.y, reach_y, size), _span(self.x, reach_x, size)

    def mirrored(self) -> "Shape":
        """Return the mirror image of the shape."""
        return replace(self, x=1 - self.x, turn=-self.turn)


def _span(middle: float, half: float, size: int) -> slice:
    """Return the pixels of a row of `size` that a stretch of shares around `middle` touches."""
    low = min(max(int((middle - half) * size), 0), size)
    return slice(low, max(min(int((middle + half) * size) + 1, size), low))


def channels(colour: Colour) -> Float32[np.ndarray, "3 1 1"]:
    """Return the colour as an array that broadcasts over pixels."""
    return np.array(colour, np.float32).reshape(3, 1, 1)


def scaled(colour: Colour, share: float) -> Colour:
    """Return the colour at `share` of its brightness."""
    red, green, blue = colour
    return share * red, share * green, share * blue


def covered(
    shapes: Iterable[Shape], x: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]
) -> Bool[np.ndarray, "*p"]:
    """Return which points lie inside of at least one of the shapes."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for shape in shapes:
        inside |= shape.outside(x, y) < 0
    return inside


def paint_shape(
    image: Float32[np.ndarray, "3 size size"], shape: Shape, light: Float32[np.ndarray, "3 1 1"] | float = 1.0
) -> tuple[Window, Float32[np.ndarray, "h w"]]:
    """Paint a shape over an image in place, in its colour times `light`.

    Returns:
        The window of the image that the shape may touch, and how much of each of its pixels the shape covers, 0 to 1.
    """
    size = image.shape[-1]
    rows, columns = window = shape.window(size)
    place = places(size)
    outside = shape.outside(place[columns], place[rows, None])
    # Even a sharp edge fades out over one pixel, which is about the covered area, so that edges are not jagged.
    share = np.minimum(np.maximum(0.5 - outside * (1 / (2 * shape.softness + 1 / size)), 0), 1)
    colour = channels(shape.colour) * light
    if shape.roundness:
        depth = 1 + outside * (1 / min(shape.width, shape.height))  # 0 in the middle, 1 at the edge
        depth = np.minimum(np.maximum(depth, 0), 1)
        colour = colour * (1 - shape.roundness * depth * depth)
    part = image[:, rows, columns]
    part += (shape.opacity * share) * (colour - part)
    return window, share


@cache
def places(size: int) -> Float32[np.ndarray, "{size}"]:
    """Return where the centres of the pixels of a row lie, as shares of the row."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size
