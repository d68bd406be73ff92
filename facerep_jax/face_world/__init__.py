"""Generated faces, whose pixels, labels, landmarks, vertices, attributes and captions all follow from one geometry.

A scene (`scene`, sampled by `sampling`) is a head with a closed-form surface (`geometry`) under an orthographic camera.
Hair, clothes and surroundings are ellipsoids and flat shapes. To render it (`canvas`), a ray of each pixel is cast
against them (`rays`); the point of the head where the ray ends tells which part of the face the pixel shows.

Labels are those of LaPa: beard and glasses do not change them, and ears, neck, clothes, hats, hands and things are
background. docs/generated_faces.md lists all that varies.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from facerep_jax.face_world.action_units import ACTION_UNITS, EXPRESSIONS, arousal, expression, valence
from facerep_jax.face_world.canvas import Canvas
from facerep_jax.face_world.hair import head_covers
from facerep_jax.face_world.layers import CLASSES
from facerep_jax.face_world.rays import ImagePlane, hidden_by_itself, visible_jaw
from facerep_jax.face_world.sampling import DEFAULT, Settings, sample_scene
from facerep_jax.face_world.scene import ATTRIBUTES, Scene, attributes, mirror
from facerep_jax.face_world.shapes import covered
from facerep_jax.face_world.skin import typology_angle
from facerep_jax.face_world.surface_points import LANDMARK_FLIP, VERTEX_FLIP, FixedPoints, fixed_points

__all__ = ["ATTRIBUTES", "CLASSES", "DEFAULT", "META", "Settings", "camera", "face", "mirror", "render", "sample_scene"]

META: dict[str, Any] = {
    "classes": CLASSES,
    "landmarks": {"flip": LANDMARK_FLIP, "normaliser": {"kind": "box"}},
    "mask_flip": (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10),
    "attributes": ATTRIBUTES,
    "attribute_flip": (*range(len(ATTRIBUTES) - 2), len(ATTRIBUTES) - 1, len(ATTRIBUTES) - 2),
    "action_units": ACTION_UNITS,
    "action_unit_flip": tuple(range(len(ACTION_UNITS))),  # each unit acts on both sides alike
    "expressions": EXPRESSIONS,
    "vertex_flip": VERTEX_FLIP,
    "vertex_landmarks": tuple(range(68)),
}


def face(seed: int, index: int, size: int, settings: Settings = DEFAULT) -> dict[str, Any]:
    """Return the record of a face: all that `render` returns, and `id`.

    Args:
        seed: of the set of faces.
        index: place in the set.
        size: pixels of a side; the face is the same at any size.
        settings: see `Settings`.
    """
    return {"id": record_id(seed, index, settings), **render(sample_scene(seed, index, settings), size)}


def record_id(seed: int, index: int, settings: Settings) -> str:
    """Return the id of a record."""
    return f"{settings.world}-{seed}-{index:08d}"


def camera(scene: Scene, size: int) -> Float32[np.ndarray, "3 4"]:
    """Return the affine map from head coordinates to pixels; its z has the scale of x and grows with the distance."""
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = scene.scale * size * scene.turn
    matrix[:, 3] = scene.x * size - 0.5, scene.y * size - 0.5, 0
    return matrix


def render(scene: Scene, size: int) -> dict[str, Any]:
    """Render the photograph of a scene, with all of its annotations.

    Returns:
        image: uint8 (size, size, 3).
        mask: uint8 (size, size), of `CLASSES`.
        landmarks: float32 (68, 2), pixels, iBUG's order; jaw points that face away lie on the contour that is seen.
        landmarks_3d: float32 (68, 3), pixels; the fixed points of the head, hidden or not.
        visible: bool (68,), whether the fixed point is in the frame and covered by nothing or by glasses alone.
        bbox: float32 (4,), x0 y0 x1 y1: the tight box of `landmarks`, its top raised by a fifth of its height.
        vertices: float32 (vertices, 3), pixels; the first 68 are `landmarks_3d`.
        camera: float32 (3, 4), see `camera`.
        attributes: float32 (attributes,), 0 or 1, of `ATTRIBUTES`.
        action_units: float32 (units,), 0 to 5, of `ACTION_UNITS`.
        expression: int, index in `EXPRESSIONS`. valence, arousal: float, -1 to 1; all three follow from action_units.
        skin_tone: float, individual typology angle of the skin in degrees. occlusion: float, share of the landmarks
            that a hand or a thing in front of the face covers. blur: float, as in `Photo`. lines_of_age: float, 0 to 1.
        identity: str. session, frame: int.
        caption: tuple of one or two str. oracle_caption: str, which tells every attribute.
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
        "skin_tone": typology_angle(scene.skin.colour),
        "occlusion": float(covered_landmarks(scene, size, vertices[:68]).mean()),
        "blur": scene.photo.blur,
        "lines_of_age": scene.skin.lines,
        "identity": scene.identity,
        "session": scene.session,
        "frame": scene.frame,
        "caption": scene.captions,
        "oracle_caption": scene.oracle,
    }


def _project(matrix: Float32[np.ndarray, "3 4"], points: Float[np.ndarray, "3 n"]) -> Float32[np.ndarray, "n 3"]:
    """Return head coordinates as pixels; `matrix` is that of `camera`."""
    return (matrix[:, :3] @ points + matrix[:, 3:]).T.astype(np.float32)


def _box(landmarks: Float32[np.ndarray, "k 2"]) -> Float32[np.ndarray, "4"]:
    """Return the box around landmarks, whose top is raised by a fifth of its height."""
    (x0, y0), (x1, y1) = landmarks.min(0).tolist(), landmarks.max(0).tolist()
    return np.array([x0, y0 - 0.2 * (y1 - y0), x1, y1], np.float32)


def _visible(
    scene: Scene, size: int, fixed: FixedPoints, pixels: Float32[np.ndarray, "68 3"]
) -> Bool[np.ndarray, "68"]:
    """Return which landmarks are seen; `pixels` is where they lie in the image."""
    in_frame = ((pixels[:, :2] >= -0.5) & (pixels[:, :2] < size - 0.5)).all(1)
    hidden = hidden_by_itself(scene.head, scene.turn, fixed.landmarks, fixed.landmark_normals)
    x, y, depth = scene.turn @ fixed.landmarks
    for part in head_covers(scene, None):
        hit = part.cover.cast_front(scene.turn, x, y)
        hidden |= (hit.outside < 0) & (hit.depth < depth)
    return in_frame & ~hidden & ~covered_landmarks(scene, size, pixels)


def covered_landmarks(scene: Scene, size: int, pixels: Float32[np.ndarray, "68 3"]) -> Bool[np.ndarray, "68"]:
    """Return which landmarks lie behind the hand or thing in front of the face, turned towards it or not."""
    if not scene.occluder:
        return np.zeros(len(pixels), bool)
    return covered(scene.occluder, *(pixels[:, :2].T + 0.5) / size)
