"""The parts of the face: where on the head they lie, how they are labelled and what colour they have."""

from typing import Any

import numpy as np

from facerep_jax.data.face_scene import Colour, Scene, attributes

CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye"),
    *("nose", "upper_lip", "inner_mouth", "lower_lip", "hair"),
)
BACKGROUND, SKIN, BROW, EYE, NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = 0, 1, 2, 4, 6, 7, 8, 9, 10


def smoothstep(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def covered_share(inside: np.ndarray) -> np.ndarray:
    """How much of a pixel is covered when the edge lies `inside` pixels beyond its centre, 0 to 1."""
    return np.minimum(np.maximum(inside + 0.5, 0), 1)


def darker(colour: Colour, share: float) -> Colour:
    """The colour at `share` of its brightness."""
    red, green, blue = colour
    return share * red, share * green, share * blue


class FaceColours:
    """Colours and labels of points on the face's front, found by their place (x, y) in the frontal plane."""

    def __init__(self, scene: Scene, points: np.ndarray, pixel: float):
        self.scene, self.head, self.pixel = scene, scene.head, pixel
        self.x, self.y, z = points  # (n,) each, in head coordinates
        self.front = z < 0.1  # at the back of the head the outlines would meet the surface again
        self.colour = np.broadcast_to(np.array(scene.skin, np.float32), (len(z), 3)).copy()
        self.label = np.full(len(z), SKIN, np.uint8)

    def blend(self, rows: np.ndarray, inside: np.ndarray, tint: Any, strength: Any = 1.0, label: Any = None) -> None:
        """Lay `tint` over the points `rows` (m,) as far as they lie `inside` (m,) an outline, in head units."""
        share = covered_share(inside / self.pixel)
        if label is not None:
            solid = share >= 0.5
            self.label[rows[solid]] = label[solid] if np.ndim(label) else label
        old = self.colour[rows]
        self.colour[rows] = old + (strength * share)[:, None] * (np.array(tint, np.float32) - old)

    def within(self, x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
        """The points of the front with x0 < |x| < x1 and y0 < y < y1, with a margin of a pixel."""
        across, margin = np.abs(self.x), self.pixel
        level = (self.y > y0 - margin) & (self.y < y1 + margin)
        return np.flatnonzero(self.front & level & (across > x0 - margin) & (across < x1 + margin))

    def paint(self) -> None:
        self.paint_cheeks_and_beard()
        self.paint_nose()
        self.paint_mouth()
        self.paint_brows()
        self.paint_eyes()
        if self.scene.glasses:
            self.paint_glasses()

    def paint_cheeks_and_beard(self) -> None:
        head, scene = self.head, self.scene
        rows = self.within(0.0, 1.0, head.nose_y - 0.4, 2.0)
        x, y = np.abs(self.x[rows]), self.y[rows]
        blush = np.exp(-(((x - head.eye_x - 0.08) / 0.2) ** 2) - ((y - head.nose_y + 0.05) / 0.17) ** 2)
        self.blend(rows, np.ones_like(x), scene.lip, 0.22 * blush)
        if scene.beard:
            # Over the lip, round the mouth and along the jaw up to the ears.
            upper = head.nose_y + 0.09 + 0.25 * np.maximum(x - 0.25, 0) - 0.9 * np.maximum(x - 0.45, 0)
            cheek = smoothstep((y - upper) / 0.1)
            self.blend(rows, np.ones_like(x), scene.hair, scene.beard * cheek)

    def paint_nose(self) -> None:
        head = self.head
        rows = self.within(0.0, head.nose_width + 0.1, head.eye_y, head.nose_y + 0.06)
        x, y = self.x[rows], self.y[rows]
        inside = head.nose_half_width(y) - np.abs(x)
        self.blend(rows, inside, self.scene.skin, 0.0, NOSE)
        nostril = 1 - np.hypot((np.abs(x) - 0.45 * head.nose_width) / 0.045, (y - head.nose_y - 0.005) / 0.022)
        self.blend(rows, 0.03 * nostril, darker(self.scene.skin, 0.35), 0.8)

    def paint_mouth(self) -> None:
        head, lip = self.head, np.array(self.scene.lip, np.float32)
        half = head.mouth_half_width
        rows = self.within(0.0, half, head.mouth_y - 0.2, head.mouth_y + 0.4)
        across, y = self.x[rows] / half, self.y[rows]
        ends = (1 - np.abs(across)) * half
        outer_top, inner_top, inner_bottom, outer_bottom = head.lips(np.clip(across, -1, 1))
        self.blend(rows, np.minimum(np.minimum(y - outer_top, inner_top - y), ends), 0.88 * lip, 1.0, UPPER_LIP)
        self.blend(rows, np.minimum(np.minimum(y - inner_bottom, outer_bottom - y), ends), lip, 1.0, LOWER_LIP)
        # The seam belongs to the upper lip, so that no skin shows between closed lips.
        seam = np.minimum(0.012 - np.abs(y - inner_top), ends)
        self.blend(rows, seam, 0.45 * lip, 0.8, np.where(y < inner_top, UPPER_LIP, LOWER_LIP))
        if head.mouth_opening:
            gap = np.minimum(y - inner_top, inner_bottom - y)
            self.blend(rows, gap, (60, 18, 20), 1.0, INNER_MOUTH)
            teeth = np.minimum(gap, inner_top + 0.75 * head.mouth_opening - y)
            self.blend(rows, teeth, (228, 222, 208), 0.95)

    def paint_brows(self) -> None:
        head = self.head
        inner, outer = head.brow_ends
        rows = self.within(inner, outer, head.brow_y - 0.3, head.brow_y + 0.1)
        x, y = self.x[rows], self.y[rows]
        along = np.clip((np.abs(x) - inner) / (outer - inner), 0, 1)
        middle, thickness = head.brow(along)
        inside = np.minimum(thickness - np.abs(y - middle), np.minimum(np.abs(x) - inner, outer - np.abs(x)))
        self.blend(rows, inside, [0.55 * channel for channel in self.scene.hair], 0.85, np.where(x < 0, BROW, BROW + 1))

    def paint_eyes(self) -> None:
        head, scene = self.head, self.scene
        reach = head.eye_width
        rows = self.within(head.eye_x - reach, head.eye_x + reach, head.eye_y - 0.18, head.eye_y + 0.12)
        x, y = self.x[rows], self.y[rows]
        side = np.sign(x)
        across = (np.abs(x) - head.eye_x) / reach
        upper, lower = head.lids(np.clip(across, -1, 1))
        inside = np.minimum(np.minimum(y - upper, lower - y), (1 - np.abs(across)) * reach)
        dark = darker(scene.skin, 0.4)
        crease = 0.012 - np.abs(y - upper + 0.045)
        self.blend(rows, np.minimum(crease, (0.95 - np.abs(across)) * reach), dark, 0.5)
        label = np.where(x < 0, EYE, EYE + 1)
        if attributes(scene)["eyes_closed"]:
            self.blend(rows, inside, dark, 0.25, label)
            self.blend(rows, np.minimum(0.016 - np.abs(y - lower + 0.012), inside + 0.02), (25, 18, 16), 0.9)
            return
        self.blend(rows, inside, (236, 232, 228), 0.92, label)
        right, down = x - side * head.eye_x - scene.gaze_x, y - head.eye_y - scene.gaze_y + 0.012
        from_pupil = np.hypot(right, down)
        self.blend(rows, np.minimum(0.066 - from_pupil, inside), scene.iris)
        self.blend(rows, np.minimum(0.03 - from_pupil, inside), (12, 10, 10))
        glint = 0.014 - np.hypot(right - 0.02 * np.sign(scene.light[0]), down + 0.022)
        self.blend(rows, np.minimum(glint, inside), (255, 255, 255), 0.9)
        lashes = np.minimum(0.014 - np.abs(y - upper), (1 - np.abs(across)) * reach + 0.01)
        self.blend(rows, lashes, (28, 20, 18), 0.85)

    def paint_glasses(self) -> None:
        head, colour = self.head, self.scene.glasses
        middle_y, rim = head.eye_y + 0.02, 0.02
        wide, high = head.eye_x - 0.06, 0.165
        rows = self.within(0.0, 2.0, middle_y - 0.3, middle_y + 0.3)
        x, y = np.abs(self.x[rows]), self.y[rows] - middle_y
        # A superellipse of the fourth degree: a rectangle with round corners.
        radius = np.sqrt(np.sqrt(((x - head.eye_x) / wide) ** 4 + (y / high) ** 4))
        self.blend(rows, (1 - radius) * high, (225, 232, 240), 0.12)
        self.blend(rows, rim - np.abs(radius - 1) * high, colour, 0.95)
        bridge = np.minimum(rim - np.abs(y + 0.05), 0.08 - x)
        temple = np.minimum(rim - np.abs(y + 0.03), x - head.eye_x - wide)
        self.blend(rows, np.maximum(bridge, temple), colour, 0.95)
