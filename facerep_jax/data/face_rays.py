"""Parallel rays against a head and against ellipsoids: what is seen, what is hidden, and where the contour runs.

Rays are given by the camera's (x, y) in head units about the head's origin, and `turn`, the rotation from head to
camera axes; they run along the camera's z. The rays of an image come as a row x (1, w) and a column y (h, 1), others
as two (n,): results have the shape to which x and y broadcast, written (...) here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, sqrt

import numpy as np

from facerep_jax.data.face_geometry import FORWARD, Head, Relief

NOSE_STEPS = np.linspace(0, 1, 16, dtype=np.float32)[:, None]
UPRIGHT = np.eye(3, dtype=np.float32)
Window = tuple[slice, slice]  # rows and columns of an image


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """The scalar product of two vectors of three plain numbers."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@dataclass(frozen=True)
class View:
    """The pixels of a square image as parallel rays around a turned head."""

    turn: np.ndarray
    pixel: float  # its side in head units
    x: float  # the head's middle in pixels
    y: float
    size: int

    def window(self, centre: Sequence[float], reach: Sequence[float]) -> Window:
        """The pixels in a box of the camera's (x, y), with a margin of a pixel."""
        spans = []
        for origin, middle, half in ((self.y, centre[1], reach[1]), (self.x, centre[0], reach[0])):
            middle, half = origin + middle / self.pixel, half / self.pixel + 1.5
            low, high = max(0, ceil(middle - half)), min(self.size, floor(middle + half) + 1)
            spans.append(slice(min(low, self.size), max(low, high)))
        return spans[0], spans[1]

    def window_of_box(self, middle: Sequence[float], half: Sequence[float]) -> Window:
        """The pixels that see a box of head coordinates."""
        centre = [dot(axis, middle) for axis in self.axes[:2]]
        return self.window(
            centre, [abs(x * half[0]) + abs(y * half[1]) + abs(z * half[2]) for x, y, z in self.axes[:2]]
        )

    @cached_property
    def axes(self) -> list[list[float]]:
        """The camera's axes in head coordinates: `turn` as plain numbers."""
        return self.turn.tolist()

    def rays(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The camera's x (1, w) and y (h, 1) of the window's pixels."""
        rows, columns = window
        x = np.arange(columns.start, columns.stop, dtype=np.float32)
        y = np.arange(rows.start, rows.stop, dtype=np.float32)
        return ((x - self.x) * self.pixel)[None], ((y - self.y) * self.pixel)[:, None]


@dataclass(frozen=True)
class Hit:
    """Where parallel rays meet a surface; what lies at a missed surface is meaningless."""

    depth: np.ndarray  # (...) along the ray, in head units
    normals: np.ndarray  # (3, ...) unit, outward, in the surface's own axes
    outside: np.ndarray  # (...) about the distance from the ray to the surface in head units; negative: hit


def ray_points(turn: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray | None = None) -> np.ndarray:
    """Head coordinates (3, ...) of the camera's (x, y, depth); the depth of the head's middle if not given."""
    points = np.multiply.outer(turn[0], x) + np.multiply.outer(turn[1], y)
    if depth is not None:
        points += np.multiply.outer(turn[2], depth)
    return points


def cast_on_head(head: Head, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> Hit:
    """Rays x, y (n,) against the head.

    The bare skull is found first, from the depth that it has in a frontal view; then the nose is searched from the
    front, as it may hide a cheek; last, the relief is added where the face is.
    """
    side, lower = x / head.width, np.maximum(y, 0)
    depth = FORWARD * lower * lower - head.depth * np.sqrt(np.maximum(1 - side * side - y * y, 0))
    points, gradient, depth, outside = _approach(head, turn, ray_points(turn, x, y, depth), depth, None)

    near_nose, nose_depth = _nose_in_front(head, turn, x, y, np.where(outside < 0, depth, np.inf))
    depth[near_nose] = nose_depth
    points[:, near_nose] = ray_points(turn, x[near_nose], y[near_nose], nose_depth)
    outside[near_nose] = -1

    # Crown and nape have no relief.
    face = np.flatnonzero((outside < 0.1) & (points[1] > head.brow_y - 0.2) & (points[2] < 0))
    trial, trial_depth = points[:, face], depth[face]
    for _ in range(2):
        trial, slopes, trial_depth, missed = _approach(head, turn, trial, trial_depth, head.relief)
    depth[face], gradient[:, face] = trial_depth, slopes
    outside[face] = np.minimum(outside[face], missed)  # the relief may reach beyond the bare skull's contour
    gradient /= _length(gradient)
    return Hit(depth, gradient, outside)


def _approach(
    head: Head, turn: np.ndarray, points: np.ndarray, depth: np.ndarray, relief: Relief | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step from `points` (3, n) to the front root of the parabola that the surface's function nearly is on a ray.

    Returns:
        The points (3, n) stepped to, the gradient (3, n) where the step began, the new depth (n,), and about the
        distance (n,) between ray and surface in head units, negative where the ray goes through.
    """
    along = turn[2]
    across, down, away = along.tolist()
    curvature = 2 * ((across / head.width) ** 2 + down**2 + (away / head.depth) ** 2)
    value, gradient = head.surface(points, relief)
    slope = along @ gradient
    lowest = value - slope * slope / (2 * curvature)  # of the parabola
    step = slope / -curvature - np.sqrt(np.maximum(lowest * (-2 / curvature), 0))
    lowest /= _length(gradient)
    return points + np.multiply.outer(along, step), gradient, depth + step, lowest


def _nose_in_front(
    head: Head, turn: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which rays meet the nose before `depth`, and at what depth."""
    half = np.array([head.nose_width + 0.1, (head.nose_y - head.eye_y) / 2 + 0.075, 0.33 * head.depth])
    middle = np.array([0.0, (head.nose_y + head.eye_y) / 2 + 0.025, -1.07 * head.depth])
    (left, top), reach = turn[:2] @ middle, np.abs(turn[:2]) @ half
    near = np.flatnonzero((np.abs(x - left) < reach[0]) & (np.abs(y - top) < reach[1]))
    origins = ray_points(turn, x[near], y[near])
    along = np.where(np.abs(turn[2]) > 1e-6, turn[2], np.float32(1e-6))[:, None]
    to_middle = (middle.astype(np.float32)[:, None] - origins) / along
    to_face = np.abs(half.astype(np.float32)[:, None] / along)
    start = (to_middle - to_face).max(0)
    length = np.maximum(np.minimum((to_middle + to_face).min(0), depth[near]) - start, 0)

    trial = start + NOSE_STEPS * length
    points = origins[:, None] + np.multiply.outer(turn[2], trial)
    value = head.signed(points.reshape(3, -1), head.nose).reshape(trial.shape)
    first = (value < 0).argmax(0)
    found = np.flatnonzero(first)
    first = first[found]
    before, after = value[first - 1, found], value[first, found]
    share = (first - after / (after - before)) / (len(NOSE_STEPS) - 1)
    return near[found], start[found] + share.astype(np.float32) * length[found]


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid that turns with the head (or, `turns` False, stays with the camera)."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    turns: bool = True

    def frame(self, turn: np.ndarray) -> np.ndarray:
        """Its rotation to camera axes, given the head's."""
        return turn if self.turns else UPRIGHT

    def window(self, view: View) -> Window:
        """The pixels of its box."""
        if not self.turns:
            return view.window(self.centre, self.axes)
        a, b, c = self.axes
        reach = [sqrt((a * x) ** 2 + (b * y) ** 2 + (c * z) ** 2) for x, y, z in view.axes[:2]]
        return view.window([dot(axis, self.centre) for axis in view.axes[:2]], reach)

    def cast(self, turn: np.ndarray, x: np.ndarray, y: np.ndarray, side: int = -1) -> Hit:
        """Rays against its front (side -1) or, from within, its back (side 1)."""
        # The camera's right and down, the centre, and the camera's depth, where the ellipsoid is a unit sphere.
        axes = np.array(self.axes, np.float32)
        basis = np.empty((4, 3), np.float32)
        basis[[0, 1, 3]] = self.frame(turn)
        basis[2] = self.centre
        basis /= axes
        away = basis[3]
        shares = basis @ away
        square = float(shares[3])
        shares /= square
        right, down, centre = (basis[:3] - np.multiply.outer(shares[:3], away)).reshape(3, 3, *(1,) * x.ndim)
        depth_x, depth_y, depth, _ = shares.tolist()

        points = right * x + (down * y - centre)  # of the rays where they are nearest to the centre
        miss = np.einsum("i...,i...->...", points, points)
        step = np.sqrt(np.maximum(1 - miss, 0) * (1 / square))
        step *= side
        points += np.multiply.outer(away, step)
        points /= axes.reshape(3, *(1,) * x.ndim)  # now normals
        points /= _length(points)
        radius = (self.axes[0] * self.axes[1] * self.axes[2]) ** (1 / 3)
        return Hit(step + ((depth - depth_x * x) - depth_y * y), points, (np.sqrt(miss) - 1) * radius)


def hidden_by_itself(head: Head, turn: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether the head covers points (3, n) of its own surface: they face away, or a part stands in front.

    Points seen at less than six degrees count as facing away.
    """
    gradient = head.surface(points, head.relief)[1]
    away = turn[2] @ gradient > -0.1 * _length(gradient)
    before = points[:, None] - np.multiply.outer(turn[2], _STEPS_BEFORE)[:, :, None]
    value = head.signed(before.reshape(3, -1), head.relief).reshape(len(_STEPS_BEFORE), -1)
    return away | (value.min(0) < -0.01)


_STEPS_BEFORE = np.linspace(0.06, 0.66, 11, dtype=np.float32)
_SLIDE = np.linspace(0, 1, 25, dtype=np.float32)[:, None]


def visible_jaw(head: Head, turn: np.ndarray) -> np.ndarray:
    """The jaw's landmarks (3, 17), those that face away moved over the surface to the contour that is seen.

    A point slides at its own height towards the mid-plane, points of the chin also upwards, as far as it is hidden:
    what annotators of photographs do (iBUG) where they cannot see the jaw.
    """
    jaw = head.landmarks[:, :17].copy()
    hidden = np.flatnonzero(turn[2] @ head.surface(jaw, head.relief)[1] > 0)
    if not len(hidden):
        return jaw
    side, y = (values[hidden].astype(np.float32) for values in head.jaw_line)
    path_y = (y - _SLIDE * np.maximum(y - 0.5, 0)).ravel()
    path = head.on_front(head.side_x((side * (1 - _SLIDE)).ravel(), path_y), path_y)
    away = (turn[2] @ head.surface(path, head.relief)[1]).reshape(len(_SLIDE), -1)
    seen, column = np.maximum(np.argmax(away < 0, axis=0), 1), np.arange(len(hidden))
    before, after = away[seen - 1, column], away[seen, column]
    weight = before / (before - after)
    path = path.reshape(3, len(_SLIDE), -1)
    jaw[:, hidden] = path[:, seen - 1, column] * (1 - weight) + path[:, seen, column] * weight
    return jaw


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("i...,i...->...", vectors, vectors))
