"""Generated faces: pixels, part labels, landmarks, vertices, attributes, expression and captions from one geometry.

A scene (`scene`, drawn by `draws`) is a head with a closed-form surface (`geometry`) under an orthographic camera, with
hair, clothes and surroundings made of ellipsoids and flat shapes. Each pixel's ray is cast against them; the parts of
the face are found by where on the head the ray ends. Labels follow LaPa: beard and glasses do not change them, and
ears, neck, clothes, hats, hands and things are background. docs/generated_faces.md is the card of all that varies.
"""

from typing import Any

import numpy as np

from facerep_jax.face_world.action_units import ACTION_UNITS, EXPRESSIONS, arousal, expression, valence
from facerep_jax.face_world.canvas import Canvas
from facerep_jax.face_world.hair import head_covers
from facerep_jax.face_world.layers import CLASSES
from facerep_jax.face_world.rays import ImagePlane, hidden_by_itself, visible_jaw
from facerep_jax.face_world.sampling import DEFAULT, Settings, sample_scene
from facerep_jax.face_world.scene import ATTRIBUTES, Scene, attributes, mirror
from facerep_jax.face_world.shapes import covered
from facerep_jax.face_world.surface_points import LANDMARK_FLIP, VERTEX_FLIP, FixedPoints, fixed_points

__all__ = ["ATTRIBUTES", "CLASSES", "DEFAULT", "META", "Settings", "camera", "face", "mirror", "render", "sample_scene"]

META: dict[str, Any] = {
    "classes": CLASSES,
    "landmarks": {"flip": LANDMARK_FLIP, "normaliser": {"kind": "box"}},
    "mask_flip": (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10),
    "attributes": ATTRIBUTES,
    "attribute_flip": (*range(len(ATTRIBUTES) - 2), len(ATTRIBUTES) - 1, len(ATTRIBUTES) - 2),
    "action_units": ACTION_UNITS,
    "action_unit_flip": tuple(range(len(ACTION_UNITS))),  # each acts on both sides alike
    "expressions": EXPRESSIONS,
    "vertex_flip": VERTEX_FLIP,
}


def face(seed: int, index: int, size: int, settings: Settings = DEFAULT) -> dict[str, Any]:
    """The record number `index` of the set `seed`, `size` x `size` pixels; the same face at any size.

    Returns the features of `render`, and `id`.
    """
    return {"id": record_id(seed, index, settings), **render(sample_scene(seed, index, settings), size)}


def record_id(seed: int, index: int, settings: Settings) -> str:
    """The id of a record."""
    return f"{settings.world}-{seed}-{index:08d}"


def camera(scene: Scene, size: int) -> np.ndarray:
    """The affine map (3, 4) from head coordinates to image pixels; z on the scale of x, smaller is nearer."""
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = scene.scale * size * scene.turn
    matrix[:, 3] = scene.x * size - 0.5, scene.y * size - 0.5, 0
    return matrix


def render(scene: Scene, size: int) -> dict[str, Any]:
    """What a photograph of the scene holds.

    Returns:
        image: uint8 (size, size, 3).
        mask: uint8 (size, size), of `CLASSES`.
        landmarks: float32 (68, 2), pixels, iBUG's order; jaw points that face away lie on the contour that is seen.
        landmarks_3d: float32 (68, 3), pixels; the fixed points of the head, hidden or not.
        visible: bool (68,), whether the fixed point is in the frame and nothing but glasses covers it.
        bbox: float32 (4,), x0 y0 x1 y1: the tight box of `landmarks`, its top raised by a fifth of its height.
        vertices: float32 (V, 3), pixels; the first 68 are `landmarks_3d`.
        camera: float32 (3, 4), see `camera`.
        attributes: float32 (A,), 0 or 1, of `ATTRIBUTES`.
        action_units: float32 (U,), 0 to 5, of `ACTION_UNITS`.
        expression: int, index in `EXPRESSIONS`. valence, arousal: float, -1 to 1; all three follow from action_units.
        identity: str. session, frame: int.
        caption: tuple of one or two str. oracle_caption: str.
    """
    plane = ImagePlane(scene.turn, 1 / (scene.scale * size), scene.x * size - 0.5, scene.y * size - 0.5, size)
    canvas = Canvas(scene, plane)
    canvas.paint()
    fixed = fixed_points(scene.head)
    matrix = camera(scene, size)
    vertices = _project(matrix, fixed.vertices)
    landmarks = vertices[:68, :2].copy()
    landmarks[:17] = _project(matrix, visible_jaw(scene.head, fixed, scene.turn))[:, :2]
    return {
        "image": canvas.photograph(),
        "mask": canvas.mask,
        "landmarks": landmarks,
        "landmarks_3d": vertices[:68].copy(),
        "visible": _visible(scene, size, fixed, vertices[:68]),
        "bbox": _box(landmarks),
        "vertices": vertices,
        "camera": matrix,
        "attributes": np.array(list(attributes(scene).values()), np.float32),
        "action_units": np.array(scene.units, np.float32),
        "expression": expression(scene.units),
        "valence": valence(scene.units),
        "arousal": arousal(scene.units),
        "identity": scene.identity,
        "session": scene.session,
        "frame": scene.frame,
        "caption": scene.captions,
        "oracle_caption": scene.oracle,
    }


def _project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Image pixels (n, 3) of head coordinates (3, n)."""
    return (matrix[:, :3] @ points + matrix[:, 3:]).T.astype(np.float32)


def _box(landmarks: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = landmarks.min(0).tolist(), landmarks.max(0).tolist()
    return np.array([x0, y0 - 0.2 * (y1 - y0), x1, y1], np.float32)


def _visible(scene: Scene, size: int, fixed: FixedPoints, pixels: np.ndarray) -> np.ndarray:
    """Whether landmarks, at `pixels` (68, 3), are seen."""
    in_frame = ((pixels[:, :2] >= -0.5) & (pixels[:, :2] < size - 0.5)).all(1)
    hidden = hidden_by_itself(scene.head, scene.turn, fixed.landmarks, fixed.landmark_normals)
    x, y, depth = scene.turn @ fixed.landmarks
    for part in head_covers(scene, None):
        hit = part.cover.cast_front(scene.turn, x, y)
        hidden |= (hit.outside < 0) & (hit.depth < depth)
    if scene.occluder:
        hidden |= covered(scene.occluder, *(pixels[:, :2].T + 0.5) / size)
    return in_frame & ~hidden
