"""The parts of the face: where on the head they lie, how they are labelled and what colour they have."""

from math import copysign
from typing import Any

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
        self.paint_brows()
        self.paint_eyes()
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

    def tint(self, area: Window, share: Any, colour: Colour) -> None:
        """Mix `share` (0 to 1) of the colour into the area."""
        old = self.colour[:, *area]
        old += share * (channels(colour) - old)

    def lay(self, area: Window, inside: np.ndarray, colour: Colour, strength: float = 1.0, label: Any = None) -> None:
        """Lay a colour over the area as far as it lies `inside` an outline, in head units."""
        share = covered_share(inside * (1 / self.view.pixel))
        if label is not None:
            np.copyto(self.label[area], label, "unsafe", share >= 0.5)  # a label of two is int64
        self.tint(area, share if strength == 1 else share * strength, colour)

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
        self.lay(area, 0.03 * nostril, scaled(self.scene.skin, 0.35), 0.8)

    def paint_mouth(self) -> None:
        head, lip = self.head, self.scene.lip
        half = head.mouth_half_width
        area = self.area(half, head.mouth_y - 0.2, head.chin_y, -0.6 * head.depth)
        across, y = self.across[area] / half, self.y[area]
        ends = (1 - across) * half
        outer_top, inner_top, inner_bottom, outer_bottom = head.lips(np.minimum(across, 1))
        upper, lower = np.minimum(y - outer_top, inner_top - y), np.minimum(y - inner_bottom, outer_bottom - y)
        self.lay(area, np.minimum(upper, ends), scaled(lip, 0.88), label=UPPER_LIP)
        self.lay(area, np.minimum(lower, ends), lip, label=LOWER_LIP)
        # The seam belongs to the lips, so that no skin shows between them when they are closed.
        seam = np.minimum(0.012 - np.abs(y - inner_top), ends)
        self.lay(area, seam, scaled(lip, 0.45), 0.8, np.where(y < inner_top, UPPER_LIP, LOWER_LIP))
        if head.mouth_opening:
            gap = np.minimum(y - inner_top, inner_bottom - y)
            self.lay(area, np.minimum(gap, ends), MOUTH, label=INNER_MOUTH)
            teeth = np.minimum(gap, inner_top + 0.75 * head.mouth_opening - y)
            self.lay(area, np.minimum(teeth, ends), TEETH, 0.95)

    def paint_brows(self) -> None:
        head = self.head
        inner, outer = head.brow_ends
        area = self.area(outer, head.brow_y - 0.3, head.brow_y + 0.1, -0.4 * head.depth)
        x, y = self.across[area], self.y[area]
        middle, thickness = head.brow(limited((x - inner) / (outer - inner), 0, 1))
        inside = np.minimum(thickness - np.abs(y - middle), np.minimum(x - inner, outer - x))
        self.lay(area, inside, scaled(self.scene.hair, 0.55), 0.85, np.where(self.x[area] < 0, BROW, BROW + 1))

    def paint_eyes(self) -> None:
        head, scene = self.head, self.scene
        reach = head.eye_width
        area = self.area(head.eye_x + reach, head.eye_y - 0.18, head.eye_y + 0.12, -0.5 * head.depth)
        x, y = self.x[area], self.y[area]
        outward = self.across[area] - head.eye_x
        across = np.abs(outward) / reach
        upper, lower = head.lids(limited(outward / reach, -1, 1))
        ends = (1 - across) * reach
        inside = np.minimum(np.minimum(y - upper, lower - y), ends)
        dark = scaled(scene.skin, 0.4)
        crease = 0.012 - np.abs(y - upper + 0.045)
        self.lay(area, np.minimum(crease, ends - 0.05 * reach), dark, 0.5)
        label = np.where(x < 0, EYE, EYE + 1)
        if head.eyes_closed:
            self.lay(area, inside, dark, 0.25, label)
            self.lay(area, np.minimum(0.016 - np.abs(y - lower + 0.012), inside + 0.02), LASHES, 0.9)
            return
        self.lay(area, inside, EYE_WHITE, 0.92, label)
        right, down = x - np.copysign(np.float32(head.eye_x), x) - scene.gaze_x, y - (head.eye_y + scene.gaze_y - 0.012)
        from_pupil = np.sqrt(right * right + down * down)
        self.lay(area, np.minimum(0.066 - from_pupil, inside), scene.iris)
        self.lay(area, np.minimum(0.03 - from_pupil, inside), PUPIL)
        right, down = right - copysign(0.02, scene.light[0]), down + 0.022
        glint = 0.014 - np.sqrt(right * right + down * down)
        self.lay(area, np.minimum(glint, inside), GLINT, 0.9)
        self.lay(area, np.minimum(0.014 - np.abs(y - upper), ends + 0.01), LASHES, 0.85)

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
        self.lay(area, (1 - radius) * high, LENS, 0.12)
        bridge = np.minimum(rim - np.abs(y + 0.05), 0.08 - x)
        temple = np.minimum(rim - np.abs(y + 0.03), np.minimum(x - (head.eye_x + wide), BEHIND - 1 - x))
        frame = np.maximum(rim - np.abs(radius - 1) * high, np.maximum(bridge, temple))
        self.lay(area, frame, colour, 0.95)
