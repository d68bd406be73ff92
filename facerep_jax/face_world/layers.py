"""The pixels that see a head: where on it each of them looks, and paint laid over them."""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from facerep_jax.face_world.rays import ImagePlane, Window
from facerep_jax.face_world.scene import Scene
from facerep_jax.face_world.shapes import Colour

CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye"),
    *("nose", "upper_lip", "inner_mouth", "lower_lip", "hair"),
)
BACKGROUND, SKIN, BROW, EYE, NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = 0, 1, 2, 4, 6, 7, 8, 9, 10
BEHIND = 9.0  # |x| of what no feature may touch: at the back of the head the outlines would meet the surface again


def limited(value: np.ndarray, low: int, high: int) -> np.ndarray:
    """The value within bounds; `np.clip` takes several times as long on few numbers."""
    return np.minimum(np.maximum(value, low), high)


def smoothstep(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    value = limited(value, 0, 1)
    return value * value * (3 - 2 * value)


def covered_share(inside: np.ndarray) -> np.ndarray:
    """How much of a pixel is covered when the edge lies `inside` pixels beyond its centre, 0 to 1."""
    return limited(inside + 0.5, 0, 1)


def scaled(colour: Colour, share: float) -> Colour:
    """The colour at `share` of its brightness."""
    red, green, blue = colour
    return share * red, share * green, share * blue


def channels(colour: Colour) -> np.ndarray:
    """The colour as (3, 1, 1)."""
    return np.array(colour, np.float32).reshape(3, 1, 1)


class Layer(NamedTuple):
    """A colour that covers what lies inside an outline."""

    inside: np.ndarray  # distance to the outline in head units, positive inside
    colour: Colour
    strength: float = 1.0
    label: int | np.ndarray | None = None


class Face:
    """Colours and labels of a window's pixels, found by the place (x, y) in the frontal plane that each one sees."""

    def __init__(self, scene: Scene, plane: ImagePlane, window: Window, points: np.ndarray):
        self.scene, self.head, self.plane = scene, scene.head, plane
        self.top, self.left = window[0].start, window[1].start
        self.points = points  # (3, h, w), in head coordinates
        self.x, self.y, z = points
        self.across = np.where(z < 0.1, np.abs(self.x), np.float32(BEHIND))
        self.colour = np.empty(points.shape, np.float32)  # channels first
        self.label = np.full(z.shape, SKIN, np.uint8)

    @cached_property
    def place(self) -> tuple[np.ndarray, np.ndarray]:
        """Places on the tiles of skin, in texels: across along the surface, and down."""
        left, top = self.scene.skin.place
        x, y, z = self.points
        side = -SKIN_TEXELS if self.scene.mirrored else SKIN_TEXELS
        return x * (side + 1.2 * side * (z + self.head.depth)) + left, y * SKIN_TEXELS + top

    @property
    def step(self) -> float:
        """Texels between two pixels."""
        return SKIN_TEXELS * self.plane.pixel

    def area(self, reach: float, y0: float, y1: float, back: float = 0.0) -> Window:
        """The pixels that see the front where |x| < reach and y0 < y < y1; `back` is its z at |x| = reach."""
        front = -1.3 * self.head.depth - 0.42 * max(y1, 0.0) ** 2
        middle, half = (0.0, (y0 + y1) / 2, (front + back) / 2), (reach, (y1 - y0) / 2, (back - front) / 2)
        rows, columns = self.plane.window_of_box(middle, half)
        bottom, right = self.label.shape
        rows = slice(max(rows.start - self.top, 0), min(max(rows.stop - self.top, 0), bottom))
        return rows, slice(max(columns.start - self.left, 0), min(max(columns.stop - self.left, 0), right))

    def tint(self, area: Window, share: np.ndarray, colour: Colour) -> None:
        """Mix `share` (0 to 1) of the colour into the area."""
        old = self.colour[:, *area]
        old += share * (channels(colour) - old)

    def lay(self, area: Window, *layers: Layer) -> None:
        """Lay the layers over the area, the last one uppermost."""
        shares = covered_share(np.array([layer.inside for layer in reversed(layers)]) * (1 / self.plane.pixel))
        for layer, share in zip(layers, shares[::-1], strict=True):
            if layer.label is not None:
                np.copyto(self.label[area], layer.label, "unsafe", share >= 0.5)  # a choice of labels is int64
        shares *= np.array([layer.strength for layer in reversed(layers)], np.float32)[:, None, None]
        passing = np.multiply.accumulate(1 - shares)  # what a layer and all above it let through
        shares[1:] *= passing[:-1]
        colours = np.array([layer.colour for layer in reversed(layers)], np.float32).T
        old = self.colour[:, *area]
        old *= passing[-1]
        old += (colours @ shares.reshape(len(layers), -1)).reshape(old.shape)


SKIN_TEXELS = 128.0  # of the tiles of skin to a head unit
