"""Parallel rays against a head and against ellipsoids: what is seen, what is hidden, and where the contour runs.

Rays are given by the camera's (x, y) in head units about the head's origin, and `turn`, the rotation from head to
camera axes; they run along the camera's z.
"""

from dataclasses import dataclass

import numpy as np

from facerep_jax.data.face_geometry import NOSE_BUMPS, Head


@dataclass(frozen=True)
class Hit:
    """Where n parallel rays meet a surface; what lies at a missed surface is meaningless."""

    depth: np.ndarray  # (n,) along the ray, in head units
    points: np.ndarray  # (3, n) in the surface's own axes
    normals: np.ndarray  # (3, n) unit, outward, in the surface's own axes
    outside: np.ndarray  # (n,) about the distance from the ray to the surface in head units; negative: hit


def ray_points(turn: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Head coordinates (3, n) of the camera's (x, y, depth), each (n,) in head units about the head's origin."""
    right, down, away = turn[:, :, None]
    return right * x + down * y + away * depth


def cast_on_head(head: Head, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> Hit:
    """Rays through the camera's (x, y), in head units about the head's origin, against the head.

    The bare skull is found first; rays near the nose are then searched from the front for it, as it may hide a cheek;
    last, the relief is added where the face is.
    """
    depth, bare = np.zeros_like(x), head.bumps[:0]
    for _ in range(2):
        points, gradient, depth, outside = _approach(head, turn, x, y, depth, bare)

    near_nose = np.flatnonzero(_near_nose(head, turn, x, y))
    depth[near_nose], on_nose = _nose_depth(head, turn, x[near_nose], y[near_nose], depth[near_nose])

    # Crown and nape have no relief.
    face = np.flatnonzero((outside < 0.1) & (points[1] > head.brow_y - 0.2) & (points[2] < 0))
    x, y, trial = x[face], y[face], depth[face]
    for _ in range(2):
        points[:, face], gradient[:, face], trial, missed = _approach(head, turn, x, y, trial, head.bumps)
    depth[face] = trial
    outside[face] = np.minimum(outside[face], missed)  # the relief may reach beyond the bare skull's contour
    outside[near_nose[on_nose]] = -1
    return Hit(depth, points, gradient / _length(gradient), outside)


def _approach(
    head: Head, turn: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray, bumps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step from `depth` (n,) to the front root of the parabola that the surface's function nearly is on a ray.

    Returns:
        The points (3, n) stepped to, the gradient (3, n) where the step began, the new depth (n,), and about the
        distance (n,) between ray and surface in head units, negative where the ray goes through.
    """
    along = turn[2]
    curvature = 2 * float(along @ (along / np.array([head.width, 1, head.depth], np.float32) ** 2))
    points = ray_points(turn, x, y, depth)
    value, gradient = head.surface(points, bumps)
    slope = along @ gradient
    lowest = value - slope**2 / (2 * curvature)  # of the parabola
    step = -slope / curvature - np.sqrt(np.maximum(-2 / curvature * lowest, 0))
    missed = lowest / _length(gradient)
    return points + along[:, None] * step, gradient, depth + step, missed


def _near_nose(head: Head, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether rays pass the box around the nose."""
    reach = head.nose_width + 0.1
    corners = np.stack(
        np.meshgrid([-reach, reach], [head.eye_y - 0.05, head.nose_y + 0.1], [-1.3 * head.depth, -0.75 * head.depth])
    ).reshape(3, 8)
    (left, top), (right, bottom) = (turn @ corners)[:2].min(1), (turn @ corners)[:2].max(1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def _nose_depth(
    head: Head, turn: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the first point of nose or face on each ray, searched in front of `depth`, and whether there is one."""
    # Turned aside, the bridge is a narrow ridge to a ray.
    steps = np.linspace(-0.5, 0, 22 if abs(turn[0, 2]) > 0.3 else 8, dtype=np.float32)
    trial = depth + steps[:, None]
    columns = (np.broadcast_to(values, trial.shape).ravel() for values in (x, y, trial))
    value = head.signed(ray_points(turn, *columns), head.bumps[:NOSE_BUMPS]).reshape(trial.shape)
    first = np.argmax(value < 0, axis=0)
    found, ray = first > 0, np.arange(len(x))
    after, before = value[first, ray], value[first - 1, ray]
    back = np.where(found, after / np.where(found, after - before, 1), 0)
    return np.where(found, depth + steps[first] - back * (steps[1] - steps[0]), depth), found


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid that turns with the head (or, `turns` False, stays with the camera)."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    turns: bool = True

    def frame(self, turn: np.ndarray) -> np.ndarray:
        """Its rotation to camera axes, given the head's."""
        return turn if self.turns else np.eye(3, dtype=np.float32)

    def extent(self, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half sizes, (2,) each, of its box in the camera's (x, y)."""
        frame = self.frame(turn)[:2]
        return frame @ np.array(self.centre, np.float32), np.sqrt(
            ((frame * np.array(self.axes, np.float32)) ** 2).sum(1)
        )

    def cast(self, turn: np.ndarray, x: np.ndarray, y: np.ndarray, side: int = -1) -> Hit:
        """Rays through the camera's (x, y) against its front (side -1) or, from within, its back (side 1)."""
        frame = self.frame(turn)
        centre, axes = np.array(self.centre, np.float32)[:, None], np.array(self.axes, np.float32)[:, None]
        inverse = frame.T / axes  # from camera axes to those in which the ellipsoid is a unit sphere
        along = inverse[:, 2]
        start = inverse[:, :1] * x + inverse[:, 1:2] * y - centre / axes
        square = float(along @ along)
        deepest = -(along @ start) / square
        miss = (
            np.einsum("in,in->n", start, start) - square * deepest**2
        )  # squared distance from the centre, in units of the axes
        depth = deepest + side * np.sqrt(np.maximum(1 - miss, 0) / square)
        unit = start + along[:, None] * depth
        normals = unit / axes
        normals /= _length(normals)
        radius = (self.axes[0] * self.axes[1] * self.axes[2]) ** (1 / 3)
        return Hit(depth, unit * axes + centre, normals, (np.sqrt(np.maximum(miss, 0)) - 1) * radius)


def hidden_by_itself(head: Head, turn: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether the head covers points (3, n) of its own surface: they face away, or a part stands in front.

    Points seen at less than six degrees count as facing away.
    """
    gradient = head.surface(points, head.bumps)[1]
    away = turn[2] @ gradient > -0.1 * _length(gradient)
    steps = np.linspace(0.06, 0.66, 11, dtype=np.float32)
    before = points[:, None] - turn[2][:, None, None] * steps[:, None]
    value = head.signed(before.reshape(3, -1).astype(np.float32), head.bumps).reshape(len(steps), -1)
    return away | (value < -0.01).any(0)


def visible_jaw(head: Head, turn: np.ndarray) -> np.ndarray:
    """The jaw's landmarks (3, 17), those that face away moved over the surface to the contour that is seen.

    A point slides at its own height towards the mid-plane, points of the chin also upwards, as far as it is hidden:
    what annotators of photographs do (iBUG) where they cannot see the jaw.
    """
    jaw = head.landmarks[:, :17].copy()
    hidden = np.flatnonzero(turn[2] @ head.surface(jaw, head.bumps)[1] > 0)
    if not len(hidden):
        return jaw
    side, y = (values[hidden] for values in head.jaw_line)
    share = np.linspace(0, 1, 25)[:, None]
    path_y = (y - share * np.maximum(y - 0.5, 0)).ravel()
    path_x = head.side_x((side * (1 - share)).ravel(), path_y)
    path = head.on_front(path_x.astype(np.float32), path_y.astype(np.float32))
    away = (turn[2] @ head.surface(path, head.bumps)[1]).reshape(len(share), -1)
    seen, column = np.argmax(away < 0, axis=0), np.arange(len(hidden))
    before, after = away[seen - 1, column], away[seen, column]
    weight = before / (before - after)
    path = path.reshape(3, len(share), -1)
    jaw[:, hidden] = path[:, seen - 1, column] * (1 - weight) + path[:, seen, column] * weight
    return jaw


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("in,in->n", vectors, vectors))
