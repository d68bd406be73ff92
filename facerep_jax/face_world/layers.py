"""The pixels that see a head: the point of the head that each of them sees, and layers of paint on these points."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8

from facerep_jax.face_world.rays import ImagePlane
from facerep_jax.face_world.scene import Scene
from facerep_jax.face_world.shapes import Colour, Window, channels

CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye"),
    *("nose", "upper_lip", "inner_mouth", "lower_lip", "hair"),
)
BACKGROUND, SKIN, BROW, EYE, NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = 0, 1, 2, 4, 6, 7, 8, 9, 10
BEHIND = 9.0  # stands for |x| at the back of the head, where outlines, which know no z, would appear a second time
SKIN_TEXELS = 128.0  # texels of the tiles of skin to a head unit


def limited(value: Float[np.ndarray, "*p"], low: int, high: int) -> Float[np.ndarray, "*p"]:
    """Return the value within bounds; `np.clip` takes several times as long on few numbers."""
    return np.minimum(np.maximum(value, low), high)


def smoothstep(value: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Return 0 below 0, 1 above 1, and a smooth transition between them."""
    value = limited(value, 0, 1)
    return value * value * (3 - 2 * value)


def covered_share(inside: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Return how much of a pixel is covered, 0 to 1, if its centre lies `inside` pixels within the edge."""
    return limited(inside + 0.5, 0, 1)


class Layer(NamedTuple):
    """A colour that covers what lies inside an outline."""

    inside: Float[np.ndarray, "h w"]  # distance to the outline in head units, positive inside
    colour: Colour
    strength: float = 1.0  # opacity inside, 0 to 1
    label: int | Integer[np.ndarray, "h w"] | None = None  # None leaves the labels as they are


class Face:
    """Colours and labels of the pixels of a window, which are found by the point of the head that each pixel sees.

    Attributes (h and w are those of the window):
        points: the points in head coordinates. x, y: their place in the frontal plane.
        across: |x| of points on the front of the head, `BEHIND` for the others.
        colour: what has been painted so far, 0 to 255.
        label: the classes so far, of `CLASSES`.
    """

    points: Float[np.ndarray, "3 h w"]
    x: Float[np.ndarray, "h w"]
    y: Float[np.ndarray, "h w"]
    across: Float[np.ndarray, "h w"]
    colour: Float32[np.ndarray, "3 h w"]
    label: UInt8[np.ndarray, "h w"]

    def __init__(self, scene: Scene, plane: ImagePlane, window: Window, points: Float[np.ndarray, "3 h w"]):
        self.scene, self.head, self.plane = scene, scene.head, plane
        self.top, self.left = window[0].start, window[1].start
        self.points = points
        self.x, self.y, z = points
        self.across = np.where(z < 0.1, np.abs(self.x), np.float32(BEHIND))
        self.colour = np.empty(points.shape, np.float32)
        self.label = np.full(z.shape, SKIN, np.uint8)

    @cached_property
    def place(self) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Places on the tiles of skin, in texels: across, which follows the surface around the head, and down."""
        left, top = self.scene.skin.place
        # Towards the ears a step in x covers more and more skin; the factor, which grows with z, makes up for it.
        x, y, z = self.points
        side = -SKIN_TEXELS if self.scene.mirrored else SKIN_TEXELS
        return x * (side + 1.2 * side * (z + self.head.depth)) + left, y * SKIN_TEXELS + top

    @property
    def step(self) -> float:
        """Texels between two neighbouring pixels."""
        return SKIN_TEXELS * self.plane.pixel

    def area(self, reach: float, y0: float, y1: float, back: float = 0.0) -> Window:
        """Return the part of the window whose pixels may see the front of the head in a region of the frontal plane.

        Args:
            reach: |x| at the sides of the region.
            y0: height of its upper end.
            y1: height of its lower end.
            back: z of the surface where |x| = reach. A plane before the nose bounds the region in front.
        """
        front = -1.3 * self.head.depth - 0.42 * max(y1, 0.0) ** 2
        middle, half = (0.0, (y0 + y1) / 2, (front + back) / 2), (reach, (y1 - y0) / 2, (back - front) / 2)
        rows, columns = self.plane.window_of_box(middle, half)
        bottom, right = self.label.shape
        rows = slice(max(rows.start - self.top, 0), min(max(rows.stop - self.top, 0), bottom))
        return rows, slice(max(columns.start - self.left, 0), min(max(columns.stop - self.left, 0), right))

    def tint(self, area: Window, share: Float[np.ndarray, "h w"], colour: Colour) -> None:
        """Mix `share` (0 to 1) of the colour into the area."""
        old = self.colour[:, *area]
        old += share * (channels(colour) - old)

    def lay(self, area: Window, *layers: Layer) -> None:
        """Lay the layers over the area, the last one uppermost."""
        # All layers are blended at once, from the top down: the colour of a layer counts as far as it covers and all
        # above it let through, which is one product of matrices instead of a pass over the image for each layer.
        shares = covered_share(np.array([layer.inside for layer in reversed(layers)]) * (1 / self.plane.pixel))
        for layer, share in zip(layers, shares[::-1], strict=True):
            if layer.label is not None:
                np.copyto(self.label[area], layer.label, "unsafe", share >= 0.5)  # `np.where` of two labels is int64
        shares *= np.array([layer.strength for layer in reversed(layers)], np.float32)[:, None, None]
        passing = np.multiply.accumulate(1 - shares)  # what each layer and all above it let through
        shares[1:] *= passing[:-1]
        colours = np.array([layer.colour for layer in reversed(layers)], np.float32).T
        old = self.colour[:, *area]
        old *= passing[-1]
        old += (colours @ shares.reshape(len(layers), -1)).reshape(old.shape)
