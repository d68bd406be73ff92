"""Parallel rays against a head and against ellipsoids: what is seen, what is hidden, and where the contour runs.

Camera axes are x to the right, y down and z away from the camera; their origin is the middle of the head, and their
unit the head unit. `turn` is the rotation from head coordinates to camera axes, so that its rows are the camera axes in
head coordinates. A ray is given by its x and y in camera axes and runs along z; "depth" is z. The rays of an image come
as a row x "1 w" and a column y "h 1", other rays as two "n"; results have the shape to which x and y broadcast, "*p".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor, inf, sqrt

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from facerep_jax.face_world.geometry import FORWARD, Head, Relief
from facerep_jax.face_world.shapes import Window
from facerep_jax.face_world.surface_points import FixedPoints, jaw_line

Field = Callable[[Float[np.ndarray, "3 *p"]], Float[np.ndarray, "*p"]]  # a number for each point of the head
NOSE_STEPS = np.linspace(0, 1, 13, dtype=np.float32)[:, None]
NEARLY_FRONTAL = 0.97  # cosine of the angle between head and camera above which the nose hides nothing
UPRIGHT = np.eye(3, dtype=np.float32)


def overlap(one: Window, other: Window) -> Window:
    """Return what two windows share, which is empty if they do not meet."""
    rows, columns = (
        slice(max(a.start, b.start), max(min(a.stop, b.stop), a.start, b.start))
        for a, b in zip(one, other, strict=True)
    )
    return rows, columns


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the scalar product of two vectors of three plain numbers, for which NumPy would be slow."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def half_extent(axis: Sequence[float], half: Sequence[float]) -> float:
    """Return how far a box of half sizes `half` reaches from its middle along an axis."""
    return abs(axis[0] * half[0]) + abs(axis[1] * half[1]) + abs(axis[2] * half[2])


def span(middle: float, half: float, size: int) -> slice:
    """Return the pixels of a row of `size` whose centres lie within `half` of the middle; all are in pixels."""
    low = min(max(ceil(middle - half), 0), size)
    return slice(low, max(min(floor(middle + half) + 1, size), low))


@dataclass(frozen=True)
class ImagePlane:
    """The pixels of a square image, each of which is a ray around a turned head."""

    turn: Float32[np.ndarray, "3 3"]
    pixel: float  # side of a pixel in head units
    x: float  # of the middle of the head, in pixels
    y: float  # the same
    size: int  # of the image, in pixels

    def window(self, centre: Sequence[float], reach: Sequence[float]) -> Window:
        """Return the pixels of a rectangle in camera axes, with a margin of a pixel; `reach` is half its size."""
        rows = span(self.y + centre[1] / self.pixel, reach[1] / self.pixel + 1.5, self.size)
        return rows, span(self.x + centre[0] / self.pixel, reach[0] / self.pixel + 1.5, self.size)

    def window_of_box(self, middle: Sequence[float], half: Sequence[float]) -> Window:
        """Return the pixels that see a box in head coordinates; `half` is half its size."""
        right, down, _ = self.axes
        return self.window((dot(right, middle), dot(down, middle)), (half_extent(right, half), half_extent(down, half)))

    @cached_property
    def axes(self) -> list[list[float]]:
        """The camera axes in head coordinates: `turn` as plain numbers."""
        return self.turn.tolist()

    def rays(self, window: Window) -> tuple[Float32[np.ndarray, "1 w"], Float32[np.ndarray, "h 1"]]:
        """Return x and y of the rays of the pixels of a window."""
        x, y = self._all_rays
        return x[:, window[1]], y[window[0]]

    @cached_property
    def _all_rays(self) -> tuple[Float32[np.ndarray, "1 {self.size}"], Float32[np.ndarray, "{self.size} 1"]]:
        """The rays of the whole image."""
        place = np.arange(self.size, dtype=np.float32)
        return ((place - self.x) * self.pixel)[None], ((place - self.y) * self.pixel)[:, None]


@dataclass(frozen=True)
class Hit:
    """Where rays meet a surface; depth and normal of a ray that misses are meaningless."""

    depth: Float[np.ndarray, "*p"]
    normals: Float[np.ndarray, "3 *p"]  # unit, outward, in the axes of the surface
    outside: Float[np.ndarray, "*p"]  # about the distance from ray to surface in head units; negative if it is hit
    thickness: Float[np.ndarray, "..."]  # of an ellipsoid along the ray; empty for a head


def ray_points(
    turn: Float32[np.ndarray, "3 3"],
    x: Float[np.ndarray, "*#p"],
    y: Float[np.ndarray, "*#p"],
    depth: Float[np.ndarray, "*p"] | None = None,
) -> Float[np.ndarray, "3 *p"]:
    """Return the head coordinates of points in camera axes; without a depth, at that of the middle of the head."""
    points = np.multiply.outer(turn[0], x) + np.multiply.outer(turn[1], y)
    if depth is not None:
        points += np.multiply.outer(turn[2], depth)
    return points


def cast_on_head(
    head: Head, turn: Float32[np.ndarray, "3 3"], x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]
) -> Hit:
    """Return where rays meet the head.

    Three searches, because no formula gives the point: for the bare skull, which is nearly a quadric, then for the nose
    in front of it, then for the surface with all of its relief close to what was found.
    """
    # On the bare skull one step will do from a near start: the depth at which the ray would meet it in a frontal view.
    side, lower = x / head.width, np.maximum(y, 0)
    depth = FORWARD * lower * lower - head.depth * np.sqrt(np.maximum(1 - side * side - y * y, 0))
    points, gradient, depth, outside = _approach(head, turn, ray_points(turn, x, y, depth), depth, None)

    # In a turned view the nose may stand before the cheek, where a search that starts at the skull would miss it.
    near_nose, nose_depth = _nose_in_front(head, turn, x, y, np.where(outside < 0, depth, np.inf))
    depth[near_nose] = nose_depth
    _put(points, near_nose, ray_points(turn, x[near_nose], y[near_nose], nose_depth))
    outside[near_nose] = -1

    # Two steps on the surface with all of its relief. Crown and nape have none, and rays far from the skull miss it.
    face = np.flatnonzero((outside < 0.1) & (points[1] > head.brow_y - 0.2) & (points[2] < 0))
    trial, trial_depth = points.take(face, axis=1), depth[face]
    for _ in range(2):
        trial, slopes, trial_depth, missed = _approach(head, turn, trial, trial_depth, head.relief)
    depth[face] = trial_depth
    _put(gradient, face, slopes)
    outside[face] = np.minimum(outside[face], missed)  # the relief may reach beyond the contour of the bare skull
    gradient /= _length(gradient)
    return Hit(depth, gradient, outside, np.empty(0, np.float32))


def _approach(
    head: Head,
    turn: Float32[np.ndarray, "3 3"],
    points: Float[np.ndarray, "3 n"],
    depth: Float[np.ndarray, "n"],
    relief: Relief | None,
) -> tuple[Float[np.ndarray, "3 n"], Float[np.ndarray, "3 n"], Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Step along rays from points near the surface towards it.

    On a ray the implicit function of the surface is nearly a parabola, whose curvature is about that of an ellipsoid.
    With value and slope at the point this gives the front one of its two roots. Unlike a step of Newton's method, which
    takes a straight line instead, this one is defined for rays that graze or miss the surface as well.

    Returns:
        The points stepped to, the gradient where the step began, the new depth, and about the distance between ray and
        surface in head units, which is negative if the ray goes through.
    """
    along = turn[2]
    across, down, away = along.tolist()
    curvature = 2 * ((across / head.width) ** 2 + down**2 + (away / head.depth) ** 2)
    value, gradient = head.surface(points, relief)
    slope = along @ gradient
    lowest = value - slope * slope / (2 * curvature)  # of the parabola: positive if it has no root
    step = slope / -curvature - np.sqrt(np.maximum(lowest * (-2 / curvature), 0))
    lowest /= _length(gradient)  # a value by its gradient is about a distance
    return points + np.multiply.outer(along, step), gradient, depth + step, lowest


def _nose_in_front(
    head: Head,
    turn: Float32[np.ndarray, "3 3"],
    x: Float[np.ndarray, "n"],
    y: Float[np.ndarray, "n"],
    depth: Float[np.ndarray, "n"],
) -> tuple[Int[np.ndarray, "met"], Float[np.ndarray, "met"]]:
    """Return the indices of the rays that meet the nose before `depth`, and the depths at which they do."""
    if turn[2, 2] > NEARLY_FRONTAL:  # the nose hides nothing but itself
        return np.zeros(0, np.intp), np.zeros(0, np.float32)
    # Only rays through a box around the nose are searched: first those whose x and y fall into the outline of the box.
    half = (head.nose_width + 0.1, (head.nose_y - head.eye_y) / 2 + 0.075, 0.33 * head.depth)
    middle = (0.0, (head.nose_y + head.eye_y) / 2 + 0.025, -1.07 * head.depth)
    right, down, away = turn.tolist()
    near_x = np.abs(x - dot(right, middle)) < half_extent(right, half)
    near = np.flatnonzero(near_x & (np.abs(y - dot(down, middle)) < half_extent(down, half)))
    origins = ray_points(turn, x[near], y[near])
    # Then each is cut down to its stretch inside of the box: it enters once it has passed the front plane of every axis
    # (slab method), and leaves at the first back plane or where it meets the skull. A ray that misses the box gets a
    # stretch of length 0. Components of the direction that nearly vanish are moved away from 0 for the division.
    box = np.array([middle, half, [step if abs(step) > 1e-6 else 1e-6 for step in away]], np.float32)
    box_middle, box_half, along = box[:, :, None]
    to_middle = (box_middle - origins) / along
    to_face = np.abs(box_half / along)
    start = (to_middle - to_face).max(0)
    length = np.maximum(np.minimum((to_middle + to_face).min(0), depth[near]) - start, 0)

    # The first sign change of the implicit function on even steps brackets the surface; a straight line between the two
    # values refines it. Index 0 means that there is none: the ray stays outside, or starts inside.
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
    """An ellipsoid around or beside the head."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]  # half of its extents
    turns: bool = True  # whether it is given in head coordinates and turns with the head; otherwise in camera axes

    @property
    def size(self) -> float:
        """The radius of a ball of the same volume."""
        a, b, c = self.axes
        return (a * b * c) ** (1 / 3)

    def window(self, plane: ImagePlane) -> Window:
        """Return the pixels of the rectangle around the ellipsoid."""
        if not self.turns:
            return plane.window(self.centre, self.axes)
        a, b, c = self.axes
        reach = [sqrt((a * x) ** 2 + (b * y) ** 2 + (c * z) ** 2) for x, y, z in plane.axes[:2]]
        return plane.window([dot(axis, self.centre) for axis in plane.axes[:2]], reach)

    def cast(self, turn: Float32[np.ndarray, "3 3"], x: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]) -> Hit:
        """Return where rays meet the front of the ellipsoid."""
        # Camera axes and centre are taken to the coordinates in which the ellipsoid is a unit sphere. They are plain
        # numbers, because NumPy is slow on three.
        a, b, c = self.axes
        frame = turn if self.turns else UPRIGHT
        right, down, along, centre = ((u / a, v / b, w / c) for u, v, w in (*frame.tolist(), self.centre))
        square = dot(along, along)
        depth_x, depth_y, depth_0 = (dot(vector, along) / square for vector in (right, down, centre))
        # Each vector is split into a part along the rays, which is depth, and the rest. The rests lead from the centre
        # to the point of a ray that is nearest to it; the distance between the two tells whether the ray misses.
        vectors = [
            [u - share * v for u, v in zip(vector, along, strict=True)]
            for vector, share in ((right, depth_x), (down, depth_y), (centre, depth_0))
        ]
        shape = (3, *(1,) * x.ndim)
        to_right, to_down, to_centre, away = np.array([*vectors, along], np.float32).reshape(4, *shape)

        # From the nearest point half the chord leads back to the front of the sphere (Pythagoras).
        points = to_right * x + (to_down * y - to_centre)
        miss = np.einsum("i...,i...->...", points, points)
        step = np.sqrt(np.maximum(1 - miss, 0) * (1 / square))
        points -= away * step
        points /= np.array(self.axes, np.float32).reshape(shape)  # the gradient of (x / axes)², hence the normals
        points /= _length(points)
        depth = (depth_0 - depth_x * x) - depth_y * y
        return Hit(depth - step, points, (np.sqrt(miss) - 1) * self.size, 2 * step)


@dataclass(frozen=True)
class Cover:
    """A shell over the head, such as hair or a hat: the part of an ellipsoid that lies above an edge."""

    body: Ellipsoid
    edge: Field | None = None  # height at which the shell over a point ends; None keeps the whole ellipsoid
    strands: Field | None = None  # light and dark of the surface, about -2 to 2
    fraying: float = 0.0  # how far a strand of value 1 reaches beyond outline and edge, in head units
    lowest: float = inf  # a height below all of the edge

    def window(self, plane: ImagePlane) -> Window:
        """Return the pixels of the rectangle around the cover."""
        whole, (x, y, z), (a, b, c) = self.body.window(plane), self.body.centre, self.body.axes
        top, bottom = y - b, min(y + b, self.lowest)
        return overlap(whole, plane.window_of_box((x, (top + bottom) / 2, z), (a, (bottom - top) / 2, c)))

    def cast(
        self, turn: Float32[np.ndarray, "3 3"], x: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]
    ) -> tuple[Hit, Float[np.ndarray, "*p"] | float, Bool[np.ndarray, "*p"] | bool]:
        """Return where rays meet the front of the cover, or if that is cut away there the inside of its back.

        Returns:
            The hit, the value of the strands there (0.0 without strands), and which rays end on the inside (False if
            the cover has no edge).
        """
        body = self.body.cast(turn, x, y)
        points = ray_points(turn, x, y, body.depth)
        strands = self.strands(points) if self.strands else 0.0
        front = self._outside(body, points) - self.fraying * strands
        if not self.edge:
            return replace(body, outside=front), strands, False
        # Rays through the ellipsoid that pass below the edge in front look into the shell: they may meet its far side.
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

    def cast_front(
        self, turn: Float32[np.ndarray, "3 3"], x: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]
    ) -> Hit:
        """Return where rays meet the front of the cover, without strands."""
        body = self.body.cast(turn, x, y)
        return replace(body, outside=self._outside(body, ray_points(turn, x, y, body.depth)))

    def _outside(self, body: Hit, points: Float[np.ndarray, "3 *p"]) -> Float[np.ndarray, "*p"]:
        """Return about the distance from points, where rays meet or pass the body, to the part of it above the edge."""
        return np.maximum(body.outside, points[1] - self.edge(points)) if self.edge else body.outside


def hidden_by_itself(
    head: Head,
    turn: Float32[np.ndarray, "3 3"],
    points: Float[np.ndarray, "3 n"],
    normals: Float[np.ndarray, "3 n"],
) -> Bool[np.ndarray, "n"]:
    """Return which points of its own surface the head hides: they face away, or a part of the head stands before them.

    Points seen at less than six degrees count as facing away.
    """
    facing_away = turn[2] @ normals > -0.1
    # A few steps from each point towards the camera: a negative value of the implicit function is inside of the head.
    before = points[:, None] - np.multiply.outer(turn[2], _STEPS_BEFORE)[:, :, None]
    value = head.signed(before.reshape(3, -1), head.relief).reshape(len(_STEPS_BEFORE), -1)
    return facing_away | (value.min(0) < -0.01)


_STEPS_BEFORE = np.linspace(0.06, 0.62, 9, dtype=np.float32)
_SLIDE = np.linspace(0, 1, 25, dtype=np.float32)[:, None]


def visible_jaw(head: Head, points: FixedPoints, turn: Float32[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 17"]:
    """Return the landmarks of the jaw, those that face away moved over the surface to the contour that is seen.

    A hidden point slides at its own height towards the mid-plane until it is seen, points of the chin also upwards.
    Annotators of photographs do the same (iBUG) if they cannot see the jaw.
    """
    jaw = points.landmarks[:, :17].copy()
    hidden = np.flatnonzero(turn[2] @ points.landmark_normals[:, :17] > 0)
    if not len(hidden):
        return jaw
    side, y = (values[hidden].astype(np.float32) for values in jaw_line(head))
    path_y = (y - _SLIDE * np.maximum(y - 0.5, 0)).ravel()
    path = head.on_front(head.side_x((side * (1 - _SLIDE)).ravel(), path_y), path_y)
    # The contour is where the normal turns from facing away to facing the camera: a sign change on the path, refined by
    # a straight line between the two values.
    away = (turn[2] @ head.surface(path, head.relief)[1]).reshape(len(_SLIDE), -1)
    seen, column = np.maximum(np.argmax(away < 0, axis=0), 1), np.arange(len(hidden))
    before, after = away[seen - 1, column], away[seen, column]
    weight = before / (before - after)
    path = path.reshape(3, len(_SLIDE), -1)
    jaw[:, hidden] = path[:, seen - 1, column] * (1 - weight) + path[:, seen, column] * weight
    return jaw


def _put(
    vectors: Float[np.ndarray, "3 n"], columns: Int[np.ndarray, "some"], values: Float[np.ndarray, "3 some"]
) -> None:
    """Do `vectors[:, columns] = values`, faster."""
    for row, new in zip(vectors, values, strict=True):
        row[columns] = new


def _length(vectors: Float[np.ndarray, "3 *p"]) -> Float[np.ndarray, "*p"]:
    """Return the lengths of vectors."""
    return np.sqrt(np.einsum("i...,i...->...", vectors, vectors))
