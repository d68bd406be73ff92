"""The parts of the face: where on the head they lie, how they are labelled and what colour they have."""

from math import copysign
from typing import NamedTuple

import numpy as np

from facerep_jax.data.face_rays import View, Window
from facerep_jax.data.face_scene import Colour, Scene

CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye"),
    *("nose", "upper_lip", "inner_mouth", "lower_lip", "hair"),
)
BACKGROUND, SKIN, BROW, EYE, NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = 0, 1, 2, 4, 6, 7, 8, 9, 10
EYE_WHITE: Colour = (236.0, 232.0, 228.0)
GLINT: Colour = (255.0, 255.0, 255.0)
PUPIL: Colour = (12.0, 10.0, 10.0)
LASHES: Colour = (28.0, 20.0, 18.0)
MOUTH: Colour = (60.0, 18.0, 20.0)
TEETH: Colour = (228.0, 222.0, 208.0)
LENS: Colour = (225.0, 232.0, 240.0)
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


class FaceColours:
    """Colours and labels of a window's pixels, found by the place (x, y) in the frontal plane that each one sees."""

    def __init__(self, scene: Scene, view: View, window: Window, points: np.ndarray):
        self.scene, self.head, self.view = scene, scene.head, view
        self.top, self.left = window[0].start, window[1].start
        self.x, self.y, z = points  # (h, w) each, in head coordinates
        self.across = np.where(z < 0.1, np.abs(self.x), np.float32(BEHIND))
        self.colour = np.empty(points.shape, np.float32)  # channels first
        self.colour[:] = channels(scene.skin)
        self.label = np.full(z.shape, SKIN, np.uint8)

    def paint(self) -> None:
        self.paint_cheeks_and_beard()
        self.paint_nose()
        self.paint_mouth()
        self.paint_eyes_and_brows()
        if self.scene.glasses:
            self.paint_glasses(self.scene.glasses)

    def area(self, reach: float, y0: float, y1: float, back: float = 0.0) -> Window:
        """The pixels that see the front where |x| < reach and y0 < y < y1; `back` is its z at |x| = reach."""
        front = -1.3 * self.head.depth - 0.42 * max(y1, 0.0) ** 2
        middle, half = (0.0, (y0 + y1) / 2, (front + back) / 2), (reach, (y1 - y0) / 2, (back - front) / 2)
        rows, columns = self.view.window_of_box(middle, half)
        bottom, right = self.label.shape
        rows = slice(max(rows.start - self.top, 0), min(max(rows.stop - self.top, 0), bottom))
        return rows, slice(max(columns.start - self.left, 0), min(max(columns.stop - self.left, 0), right))

    def tint(self, area: Window, share: np.ndarray, colour: Colour) -> None:
        """Mix `share` (0 to 1) of the colour into the area."""
        old = self.colour[:, *area]
        old += share * (channels(colour) - old)

    def lay(self, area: Window, *layers: Layer) -> None:
        """Lay the layers over the area, the last one uppermost."""
        shares = covered_share(np.array([layer.inside for layer in reversed(layers)]) * (1 / self.view.pixel))
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

    def paint_cheeks_and_beard(self) -> None:
        head, scene = self.head, self.scene
        area = self.area(1.0, head.nose_y - 0.4, 1.3)
        x, y = self.across[area], self.y[area]
        right, down = (x - head.eye_x - 0.08) * (1 / 0.2), (y - head.nose_y + 0.05) * (1 / 0.17)
        self.tint(area, 0.22 * np.exp(-(right * right) - down * down), scene.lip)
        if scene.beard:
            # Over the lip, round the mouth and along the jaw up to the ears.
            upper = head.nose_y + 0.09 + 0.25 * np.maximum(x - 0.25, 0) - 0.9 * np.maximum(x - 0.45, 0)
            cheek = smoothstep((y - upper) / 0.1) * (x < BEHIND)
            self.tint(area, scene.beard * cheek, scene.hair)

    def paint_nose(self) -> None:
        head = self.head
        area = self.area(head.nose_width + 0.1, head.eye_y, head.nose_y + 0.06, -0.7 * head.depth)
        x, y = self.across[area], self.y[area]
        np.copyto(self.label[area], NOSE, where=x < head.nose_half_width(y))
        right, down = (x - 0.45 * head.nose_width) * (1 / 0.045), (y - head.nose_y - 0.005) * (1 / 0.022)
        nostril = 1 - np.sqrt(right * right + down * down)
        self.tint(area, 0.8 * covered_share(nostril * (0.03 / self.view.pixel)), scaled(self.scene.skin, 0.35))

    def paint_mouth(self) -> None:
        head, lip = self.head, self.scene.lip
        half = head.mouth_half_width
        area = self.area(half, head.mouth_y - 0.2, head.chin_y, -0.6 * head.depth)
        across, y = self.across[area] / half, self.y[area]
        ends = (1 - across) * half
        outer_top, inner_top, inner_bottom, outer_bottom = head.lips(np.minimum(across, 1))
        upper, lower = np.minimum(y - outer_top, inner_top - y), np.minimum(y - inner_bottom, outer_bottom - y)
        # The seam belongs to the lips, so that no skin shows between them when they are closed.
        seam = np.minimum(0.012 - np.abs(y - inner_top), ends)
        layers = [
            Layer(np.minimum(upper, ends), scaled(lip, 0.88), label=UPPER_LIP),
            Layer(np.minimum(lower, ends), lip, label=LOWER_LIP),
            Layer(seam, scaled(lip, 0.45), 0.8, np.where(y < inner_top, UPPER_LIP, LOWER_LIP)),
        ]
        if head.mouth_opening:
            gap = np.minimum(np.minimum(y - inner_top, inner_bottom - y), ends)
            teeth = np.minimum(gap, inner_top + 0.75 * head.mouth_opening - y)
            layers += [Layer(gap, MOUTH, label=INNER_MOUTH), Layer(teeth, TEETH, 0.95)]
        self.lay(area, *layers)

    def paint_eyes_and_brows(self) -> None:
        head = self.head
        area = self.area(head.brow_ends[1], head.brow_y - 0.2, head.eye_y + 0.12, -0.4 * head.depth)
        x, across, y = self.x[area], self.across[area], self.y[area]
        right = x >= 0
        self.lay(area, self.brows(across, y, right + BROW), *self.eyes(x, across - head.eye_x, y, right + EYE))

    def brows(self, across: np.ndarray, y: np.ndarray, label: np.ndarray) -> Layer:
        inner, outer = self.head.brow_ends
        middle, thickness = self.head.brow(limited((across - inner) / (outer - inner), 0, 1))
        inside = np.minimum(thickness - np.abs(y - middle), np.minimum(across - inner, outer - across))
        return Layer(inside, scaled(self.scene.hair, 0.55), 0.85, label)

    def eyes(self, x: np.ndarray, outward: np.ndarray, y: np.ndarray, label: np.ndarray) -> list[Layer]:
        """Of points (x, y), `outward` from the middle of the eye on their side."""
        head, scene, reach = self.head, self.scene, self.head.eye_width
        across = np.abs(outward) / reach
        upper, lower = head.lids(limited(outward / reach, -1, 1))
        ends = (1 - across) * reach
        inside = np.minimum(np.minimum(y - upper, lower - y), ends)
        dark = scaled(scene.skin, 0.4)
        crease = Layer(np.minimum(0.012 - np.abs(y - upper + 0.045), ends - 0.05 * reach), dark, 0.5)
        if head.eyes_closed:
            lashes = np.minimum(0.016 - np.abs(y - lower + 0.012), inside + 0.02)
            return [crease, Layer(inside, dark, 0.25, label), Layer(lashes, LASHES, 0.9)]
        right, down = x - np.copysign(np.float32(head.eye_x), x) - scene.gaze_x, y - (head.eye_y + scene.gaze_y - 0.012)
        from_pupil = np.sqrt(right * right + down * down)
        right, down = right - copysign(0.02, scene.light[0]), down + 0.022
        from_glint = np.sqrt(right * right + down * down)
        return [
            crease,
            Layer(inside, EYE_WHITE, 0.92, label),
            Layer(np.minimum(0.066 - from_pupil, inside), scene.iris),
            Layer(np.minimum(0.03 - from_pupil, inside), PUPIL),
            Layer(np.minimum(0.014 - from_glint, inside), GLINT, 0.9),
            Layer(np.minimum(0.014 - np.abs(y - upper), ends + 0.01), LASHES, 0.85),
        ]

    def paint_glasses(self, colour: Colour) -> None:
        head = self.head
        middle_y, rim = head.eye_y + 0.02, 0.02
        wide, high = head.eye_x - 0.06, 0.165
        area = self.area(1.0, middle_y - 0.3, middle_y + 0.3)
        x, y = self.across[area], self.y[area] - middle_y
        # A superellipse of the fourth degree: a rectangle with round corners.
        right, down = (x - head.eye_x) * (1 / wide), y * (1 / high)
        right, down = right * right, down * down
        radius = np.sqrt(np.sqrt(right * right + down * down))
        bridge = np.minimum(rim - np.abs(y + 0.05), 0.08 - x)
        temple = np.minimum(rim - np.abs(y + 0.03), np.minimum(x - (head.eye_x + wide), BEHIND - 1 - x))
        frame = np.maximum(rim - np.abs(radius - 1) * high, np.maximum(bridge, temple))
        self.lay(area, Layer((1 - radius) * high, LENS, 0.12), Layer(frame, colour, 0.95))
