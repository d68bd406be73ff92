"""Parallel rays against a head and against ellipsoids: what is seen, what is hidden, and where the contour runs.

Rays are given by the camera's (x, y) in head units about the head's origin, and `turn`, the rotation from head to
camera axes; they run along the camera's z. The rays of an image come as a row x (1, w) and a column y (h, 1), others
as two (n,): results have the shape to which x and y broadcast, written (...) here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor, inf, sqrt

import numpy as np

from facerep_jax.face_world.geometry import FORWARD, Head, Relief
from facerep_jax.face_world.surface_points import FixedPoints, jaw_line

NOSE_STEPS = np.linspace(0, 1, 13, dtype=np.float32)[:, None]
NEARLY_FRONTAL = 0.97  # cosine of the angle between the head's and the camera's axis
UPRIGHT = np.eye(3, dtype=np.float32)
Window = tuple[slice, slice]  # rows and columns of an image


def overlap(one: Window, other: Window) -> Window:
    """What two windows share; empty where they do not meet."""
    rows, columns = (
        slice(max(a.start, b.start), max(min(a.stop, b.stop), a.start, b.start))
        for a, b in zip(one, other, strict=True)
    )
    return rows, columns


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """The scalar product of two vectors of three plain numbers."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def half_extent(axis: Sequence[float], half: Sequence[float]) -> float:
    """How far a box of half sizes `half` reaches along an axis."""
    return abs(axis[0] * half[0]) + abs(axis[1] * half[1]) + abs(axis[2] * half[2])


def span(middle: float, half: float, size: int) -> slice:
    """The pixels of a row of `size` whose centres lie within `half` of the middle."""
    low = min(max(ceil(middle - half), 0), size)
    return slice(low, max(min(floor(middle + half) + 1, size), low))


@dataclass(frozen=True)
class ImagePlane:
    """The pixels of a square image as parallel rays around a turned head."""

    turn: np.ndarray
    pixel: float  # its side in head units
    x: float  # the head's middle in pixels
    y: float
    size: int

    def window(self, centre: Sequence[float], reach: Sequence[float]) -> Window:
        """The pixels in a box of the camera's (x, y), with a margin of a pixel."""
        rows = span(self.y + centre[1] / self.pixel, reach[1] / self.pixel + 1.5, self.size)
        return rows, span(self.x + centre[0] / self.pixel, reach[0] / self.pixel + 1.5, self.size)

    def window_of_box(self, middle: Sequence[float], half: Sequence[float]) -> Window:
        """The pixels that see a box of head coordinates."""
        right, down, _ = self.axes
        return self.window((dot(right, middle), dot(down, middle)), (half_extent(right, half), half_extent(down, half)))

    @cached_property
    def axes(self) -> list[list[float]]:
        """The camera's axes in head coordinates: `turn` as plain numbers."""
        return self.turn.tolist()

    def rays(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The camera's x (1, w) and y (h, 1) of the window's pixels."""
        x, y = self._all_rays
        return x[:, window[1]], y[window[0]]

    @cached_property
    def _all_rays(self) -> tuple[np.ndarray, np.ndarray]:
        place = np.arange(self.size, dtype=np.float32)
        return ((place - self.x) * self.pixel)[None], ((place - self.y) * self.pixel)[:, None]


@dataclass(frozen=True)
class Hit:
    """Where parallel rays meet a surface; what lies at a missed surface is meaningless."""

    depth: np.ndarray  # (...) along the ray, in head units
    normals: np.ndarray  # (3, ...) unit, outward, in the surface's own axes
    outside: np.ndarray  # (...) about the distance from the ray to the surface in head units; negative: hit
    thickness: np.ndarray  # (...) along the ray, of a closed surface; empty of others


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
    _put(points, near_nose, ray_points(turn, x[near_nose], y[near_nose], nose_depth))
    outside[near_nose] = -1

    # Crown and nape have no relief.
    face = np.flatnonzero((outside < 0.1) & (points[1] > head.brow_y - 0.2) & (points[2] < 0))
    trial, trial_depth = points.take(face, axis=1), depth[face]
    for _ in range(2):
        trial, slopes, trial_depth, missed = _approach(head, turn, trial, trial_depth, head.relief)
    depth[face] = trial_depth
    _put(gradient, face, slopes)
    outside[face] = np.minimum(outside[face], missed)  # the relief may reach beyond the bare skull's contour
    gradient /= _length(gradient)
    return Hit(depth, gradient, outside, np.empty(0, np.float32))


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
    if turn[2, 2] > NEARLY_FRONTAL:  # the nose hides nothing but itself
        return np.zeros(0, np.intp), np.zeros(0, np.float32)
    half = (head.nose_width + 0.1, (head.nose_y - head.eye_y) / 2 + 0.075, 0.33 * head.depth)
    middle = (0.0, (head.nose_y + head.eye_y) / 2 + 0.025, -1.07 * head.depth)
    right, down, away = turn.tolist()
    near_x = np.abs(x - dot(right, middle)) < half_extent(right, half)
    near = np.flatnonzero(near_x & (np.abs(y - dot(down, middle)) < half_extent(down, half)))
    origins = ray_points(turn, x[near], y[near])
    box = np.array([middle, half, [step if abs(step) > 1e-6 else 1e-6 for step in away]], np.float32)
    box_middle, box_half, along = box[:, :, None]
    to_middle = (box_middle - origins) / along
    to_face = np.abs(box_half / along)
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

    @property
    def size(self) -> float:
        """The radius of a ball of its volume."""
        a, b, c = self.axes
        return (a * b * c) ** (1 / 3)

    def window(self, plane: ImagePlane) -> Window:
        """The pixels of its box."""
        if not self.turns:
            return plane.window(self.centre, self.axes)
        a, b, c = self.axes
        reach = [sqrt((a * x) ** 2 + (b * y) ** 2 + (c * z) ** 2) for x, y, z in plane.axes[:2]]
        return plane.window([dot(axis, self.centre) for axis in plane.axes[:2]], reach)

    def cast(self, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> Hit:
        """Rays against its front."""
        # The camera's axes and the centre where the ellipsoid is a unit sphere. Plain numbers: NumPy is slow on three.
        a, b, c = self.axes
        frame = turn if self.turns else UPRIGHT
        right, down, along, centre = ((u / a, v / b, w / c) for u, v, w in (*frame.tolist(), self.centre))
        square = dot(along, along)
        depth_x, depth_y, depth_0 = (dot(vector, along) / square for vector in (right, down, centre))
        # The same without what lies along the rays: x and y lead to where a ray is nearest to the centre.
        vectors = [
            [u - share * v for u, v in zip(vector, along, strict=True)]
            for vector, share in ((right, depth_x), (down, depth_y), (centre, depth_0))
        ]
        shape = (3, *(1,) * x.ndim)
        to_right, to_down, to_centre, away = np.array([*vectors, along], np.float32).reshape(4, *shape)

        points = to_right * x + (to_down * y - to_centre)
        miss = np.einsum("i...,i...->...", points, points)
        step = np.sqrt(np.maximum(1 - miss, 0) * (1 / square))
        points -= away * step
        points /= np.array(self.axes, np.float32).reshape(shape)  # now normals
        points /= _length(points)
        depth = (depth_0 - depth_x * x) - depth_y * y
        return Hit(depth - step, points, (np.sqrt(miss) - 1) * self.size, 2 * step)


@dataclass(frozen=True)
class Cover:
    """Hair or hat: the part of an ellipsoid around the head that lies above an edge, maybe with strands."""

    body: Ellipsoid
    edge: Callable[[np.ndarray], np.ndarray] | None = None  # points (3, ...) in head coordinates -> height (...)
    strands: Callable[[np.ndarray], np.ndarray] | None = None  # points (3, ...) -> light and dark, about -2 to 2
    fraying: float = 0.0  # how far a strand of 1 reaches beyond outline and edge, in head units
    lowest: float = inf  # height that the edge does not reach

    def window(self, plane: ImagePlane) -> Window:
        """The pixels of its box."""
        whole, (x, y, z), (a, b, c) = self.body.window(plane), self.body.centre, self.body.axes
        top, bottom = y - b, min(y + b, self.lowest)
        return overlap(whole, plane.window_of_box((x, (top + bottom) / 2, z), (a, (bottom - top) / 2, c)))

    def cast(self, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[Hit, np.ndarray | float, np.ndarray | bool]:
        """Rays against its front, or where that is cut away against the inside of its back.

        Returns:
            The hit, the strands there, and which rays end inside.
        """
        body = self.body.cast(turn, x, y)
        points = ray_points(turn, x, y, body.depth)
        strands = self.strands(points) if self.strands else 0.0
        front = self._outside(body, points) - self.fraying * strands
        if not self.edge:
            return replace(body, outside=front), strands, False
        depth, inside = body.depth, np.zeros(front.shape, bool)
        cut = np.flatnonzero((front > 0) & (body.outside < 0))
        far = points.reshape(3, -1)[:, cut] + np.multiply.outer(turn[2], body.thickness.take(cut))
        back = far[1] - self.edge(far) + self.fraying
        through = back < front.take(cut)
        cut, back = cut[through], np.maximum(back[through], body.outside.take(cut[through]))
        inside.ravel()[cut] = True
        front.ravel()[cut] = back
        depth.ravel()[cut] += body.thickness.take(cut)
        return replace(body, depth=depth, outside=front), strands, inside

    def cast_front(self, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> Hit:
        """Rays against its front alone, without strands."""
        body = self.body.cast(turn, x, y)
        return replace(body, outside=self._outside(body, ray_points(turn, x, y, body.depth)))

    def _outside(self, body: Hit, points: np.ndarray) -> np.ndarray:
        """About the distance to the part that is there, of points (3, ...) where rays pass the body."""
        return np.maximum(body.outside, points[1] - self.edge(points)) if self.edge else body.outside


def hidden_by_itself(head: Head, turn: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Whether the head covers points (3, n) of its own surface: they face away, or a part stands in front.

    Points seen at less than six degrees count as facing away.
    """
    facing_away = turn[2] @ normals > -0.1
    before = points[:, None] - np.multiply.outer(turn[2], _STEPS_BEFORE)[:, :, None]
    value = head.signed(before.reshape(3, -1), head.relief).reshape(len(_STEPS_BEFORE), -1)
    return facing_away | (value.min(0) < -0.01)


_STEPS_BEFORE = np.linspace(0.06, 0.62, 9, dtype=np.float32)
_SLIDE = np.linspace(0, 1, 25, dtype=np.float32)[:, None]


def visible_jaw(head: Head, points: FixedPoints, turn: np.ndarray) -> np.ndarray:
    """The jaw's landmarks (3, 17), those that face away moved over the surface to the contour that is seen.

    A point slides at its own height towards the mid-plane, points of the chin also upwards, as far as it is hidden:
    what annotators of photographs do (iBUG) where they cannot see the jaw.
    """
    jaw = points.landmarks[:, :17].copy()
    hidden = np.flatnonzero(turn[2] @ points.landmark_normals[:, :17] > 0)
    if not len(hidden):
        return jaw
    side, y = (values[hidden].astype(np.float32) for values in jaw_line(head))
    path_y = (y - _SLIDE * np.maximum(y - 0.5, 0)).ravel()
    path = head.on_front(head.side_x((side * (1 - _SLIDE)).ravel(), path_y), path_y)
    away = (turn[2] @ head.surface(path, head.relief)[1]).reshape(len(_SLIDE), -1)
    seen, column = np.maximum(np.argmax(away < 0, axis=0), 1), np.arange(len(hidden))
    before, after = away[seen - 1, column], away[seen, column]
    weight = before / (before - after)
    path = path.reshape(3, len(_SLIDE), -1)
    jaw[:, hidden] = path[:, seen - 1, column] * (1 - weight) + path[:, seen, column] * weight
    return jaw


def _put(vectors: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
    """`vectors[:, columns] = values`, faster."""
    for row, new in zip(vectors, values, strict=True):
        row[columns] = new


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("i...,i...->...", vectors, vectors))
