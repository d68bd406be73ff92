"""Generated faces: pixels, part labels, landmarks, vertices, attributes and captions from one geometry.

A scene (`face_scene`) is a head with a closed-form surface (`face_geometry`) under an orthographic camera, with hair,
clothes and surroundings made of ellipsoids. Each pixel's ray is cast against them; the parts of the face are found by
where on the head the ray ends. Labels follow LaPa: beard and glasses do not change them, and ears, neck, clothes, hats
and occluders are background.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np

from facerep_jax.data.face_colours import BACKGROUND, CLASSES, HAIR, FaceColours, covered_share, darker, smoothstep
from facerep_jax.data.face_geometry import LANDMARK_FLIP, VERTEX_FLIP, rotation
from facerep_jax.data.face_rays import Ellipsoid, Hit, cast_on_head, hidden_by_itself, visible_jaw
from facerep_jax.data.face_scene import ATTRIBUTES, Colour, Scene, Shape, attributes, draw, mirror

__all__ = ["ATTRIBUTES", "CLASSES", "META", "camera", "draw", "face", "mirror", "render"]

META: dict[str, Any] = {
    "classes": CLASSES,
    "landmarks": {"flip": LANDMARK_FLIP, "normaliser": {"kind": "box"}},
    "mask_flip": (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10),
    "attribute_flip": (*range(len(ATTRIBUTES) - 2), len(ATTRIBUTES) - 1, len(ATTRIBUTES) - 2),
    "vertex_flip": VERTEX_FLIP,
}


def face(seed: int, index: int, size: int) -> dict[str, Any]:
    """The record number `index` of the set `seed`, `size` x `size` pixels; the same face at any size.

    Returns the features of `render`, and `id`.
    """
    return {"id": f"{seed}-{index:08d}", **render(draw(seed, index), size)}


def camera(scene: Scene, size: int) -> np.ndarray:
    """The affine map (3, 4) from head coordinates to image pixels; z on the scale of x, smaller is nearer."""
    turn = rotation(scene.yaw, scene.pitch, scene.roll)
    middle = [scene.x * size - 0.5, scene.y * size - 0.5, 0.0]
    return np.column_stack([scene.scale * size * turn, middle]).astype(np.float32)


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
        identity: str. caption: tuple of one or two str.
    """
    matrix = camera(scene, size)
    canvas = _Canvas(scene, size)
    canvas.paint_backdrop()
    for shape in scene.shapes:
        canvas.paint_shape(shape)
    _paint_person(canvas)
    if scene.occluder:
        canvas.paint_shape(scene.occluder)

    vertices = _project(matrix, scene.head.vertices)
    landmarks = vertices[:68, :2].copy()
    landmarks[:17] = _project(matrix, visible_jaw(scene.head, canvas.turn))[:, :2]
    return {
        "image": canvas.noisy_image(),
        "mask": canvas.mask,
        "landmarks": landmarks,
        "landmarks_3d": vertices[:68].copy(),
        "visible": _visible(canvas, vertices[:68]),
        "bbox": _box(landmarks),
        "vertices": vertices,
        "camera": matrix,
        "attributes": np.array(list(attributes(scene).values()), np.float32),
        "identity": scene.identity,
        "caption": scene.captions,
    }


def _project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Image pixels (n, 3) of head coordinates (3, n)."""
    return (matrix[:, :3] @ points + matrix[:, 3:]).T.astype(np.float32)


def _box(landmarks: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = landmarks.min(0), landmarks.max(0)
    return np.array([x0, y0 - 0.2 * (y1 - y0), x1, y1], np.float32)


def _visible(canvas: "_Canvas", points: np.ndarray) -> np.ndarray:
    """Whether landmarks (68, 3), in pixels, are seen."""
    scene = canvas.scene
    in_frame = ((points[:, :2] >= -0.5) & (points[:, :2] < canvas.size - 0.5)).all(1)
    covered = hidden_by_itself(scene.head, canvas.turn, scene.head.landmarks)
    x, y, depth = canvas.to_head_units(points.T)
    for cover in _covers(scene):
        hit = cover.cast(canvas.turn, x, y)
        covered |= (hit.outside < 0) & (hit.depth < depth)
    if scene.occluder:
        x, y = (points[:, :2].T + 0.5) / canvas.size
        covered |= _outside_shape(scene.occluder, x, y) < 0
    return in_frame & ~covered


@dataclass(frozen=True)
class _Cover:
    """A part of an ellipsoid around the head: where its points lie above `line`."""

    body: Ellipsoid
    line: Callable[[np.ndarray], np.ndarray]  # points (3, n) in head coordinates -> height (n,)

    def cast(self, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> Hit:
        """Rays against the front, and where that is cut away against the inside of the back."""
        front, back = (self._cut(self.body.cast(turn, x, y, side)) for side in (-1, 1))
        nearer = front.outside < np.maximum(back.outside, 0)
        return Hit(*(np.where(nearer, *pair) for pair in zip(_fields(front), _fields(back), strict=True)))

    def _cut(self, hit: Hit) -> Hit:
        return replace(hit, outside=np.maximum(hit.outside, hit.points[1] - self.line(hit.points)))


def _fields(hit: Hit) -> tuple[np.ndarray, ...]:
    return hit.depth, hit.points, hit.normals, hit.outside


def _hair(scene: Scene) -> _Cover:
    """The hair that grows around the face, a shell over the skull; what hangs behind it is `_curtain`."""
    head, volume = scene.head, scene.hair_volume
    fringe = scene.hairline > -0.5

    def line(points: np.ndarray) -> np.ndarray:
        x, _, z = points
        frontal = -z / np.sqrt(x * x + z * z + 1e-6)  # cosine of the azimuth
        front = scene.hairline - scene.parting * x + (0.02 * np.cos(16 * x) if fringe else 0.25 * x * x - 0.1)
        return front + (scene.hair_length - front) * smoothstep((0.62 - frontal) / 0.45)

    return _Cover(Ellipsoid((0.0, -0.06, 0.06), (head.width + volume, 0.96 + volume, head.depth + 0.6 * volume)), line)


def _curtain(scene: Scene) -> Ellipsoid:
    """Long hair behind the face and beside the neck."""
    length = scene.hair_length
    return Ellipsoid(
        (0.0, 0.5 * length - 0.4, 0.45), (scene.head.width + scene.hair_volume + 0.05, 0.5 * length + 0.5, 0.5)
    )


def _cap(scene: Scene) -> _Cover:
    head, volume = scene.head, scene.hair_volume

    def line(points: np.ndarray) -> np.ndarray:
        return -0.42 + 0.25 * points[2]

    body = Ellipsoid((0.0, -0.1, 0.06), (head.width + volume + 0.05, 1.0 + volume, head.depth + 0.6 * volume + 0.05))
    return _Cover(body, line)


def _brim(scene: Scene) -> Ellipsoid:
    return Ellipsoid((0.0, -0.58, -0.05), (scene.head.width + scene.brim, 0.06, scene.head.depth + scene.brim))


def _covers(scene: Scene) -> list[_Cover | Ellipsoid]:
    """What may stand in front of the face and turns with it."""
    covers: list[_Cover | Ellipsoid] = []
    if scene.hair_name:
        covers.append(_hair(scene))
        if scene.hair_length > 1:
            covers.append(_curtain(scene))
    if scene.hat:
        covers.append(_cap(scene))
        if scene.brim:
            covers.append(_brim(scene))
    return covers


def _outside_shape(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """About the distance to the shape, negative inside; all in shares of the image."""
    cos, sin = np.cos(shape.turn), np.sin(shape.turn)
    across = np.abs((x - shape.x) * cos + (y - shape.y) * sin) / shape.width
    down = np.abs((y - shape.y) * cos - (x - shape.x) * sin) / shape.height
    radius = np.maximum(across, down) if shape.corners else np.sqrt(across**2 + down**2)
    return (radius - 1) * min(shape.width, shape.height)


class _Canvas:
    """Image, labels and depth of a scene while it is painted."""

    def __init__(self, scene: Scene, size: int):
        self.scene, self.size = scene, size
        self.turn = rotation(scene.yaw, scene.pitch, scene.roll)
        self.pixel = 1 / (scene.scale * size)  # in head units
        place = np.arange(size, dtype=np.float32) + 0.5
        self.x = np.broadcast_to((place - scene.x * size) * self.pixel, (size, size))
        self.y = np.broadcast_to(((place - scene.y * size) * self.pixel)[:, None], (size, size))
        self.image = np.empty((size, size, 3), np.float32)
        self.mask = np.zeros((size, size), np.uint8)
        self.depth = np.full((size, size), np.inf, np.float32)

    def to_head_units(self, pixels: np.ndarray) -> np.ndarray:
        """Camera coordinates in head units about the head's middle (3, n), of image pixels (3, n)."""
        middle = np.array([[self.scene.x * self.size - 0.5], [self.scene.y * self.size - 0.5], [0]])
        return ((pixels - middle) * self.pixel).astype(np.float32)

    def window(self, middle: np.ndarray, half: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the pixels in a box of the camera's (x, y), in head units."""
        spans = []
        for place, centre, reach in zip((self.scene.y, self.scene.x), middle[::-1], half[::-1], strict=True):
            start = place * self.size - 0.5 + float(centre) / self.pixel
            reach = float(reach) / self.pixel + 1.5
            low, high = max(0, ceil(start - reach)), min(self.size, floor(start + reach) + 1)
            spans.append(slice(min(low, self.size), max(low, high)))
        return spans[0], spans[1]

    def rays(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """The camera's (x, y) of the window's pixels, (n,) each, in head units about the head's middle."""
        return self.x[window].ravel(), self.y[window].ravel()

    def cover(self, window: tuple[slice, slice], hit: Hit, colour: np.ndarray, label: np.ndarray | int) -> None:
        """Lay a surface of `colour` (n, 3) over the window where it is nearer than what is there."""
        shape = self.mask[window].shape
        share = covered_share(-hit.outside / self.pixel).reshape(shape)
        depth = hit.depth.reshape(shape)
        share = np.where(depth < self.depth[window], share, 0)
        image = self.image[window]
        image += share[..., None] * (colour.reshape(*shape, 3) - image)
        solid = share >= 0.5
        self.depth[window] = np.where(solid, depth, self.depth[window])
        self.mask[window] = np.where(solid, np.reshape(label, shape) if np.ndim(label) else label, self.mask[window])

    def shade(self, normals: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """The light (n, 3) on a surface with `normals` (3, n) in the axes that `frame` turns to the camera's."""
        facing = (frame.T @ np.array(self.scene.light, np.float32)) @ normals
        wrapped = np.maximum(facing + 0.25, 0) / 1.25  # skin and cloth scatter light beyond the terminator
        light = self.scene.ambient + (1.05 - 0.5 * self.scene.ambient) * wrapped
        return light[:, None] * np.array(self.scene.light_colour, np.float32)

    def paint_ellipsoid(self, body: Ellipsoid | _Cover, colour: Colour, label: int, streaks: float = 0.0) -> None:
        """An ellipsoid or a part of one, in one colour with `streaks` (0 to 1) from top to bottom."""
        outline = body.body if isinstance(body, _Cover) else body
        window = self.window(*outline.extent(self.turn))
        x, y = self.rays(window)
        if not len(x):
            return
        hit = body.cast(self.turn, x, y)
        light = self.shade(hit.normals, outline.frame(self.turn))
        if streaks:
            azimuth = np.arctan2(np.abs(hit.points[0]), -hit.points[2])
            # Strands finer than pixels would alias.
            strands = np.exp(-((23 * self.pixel) ** 2) / 3) * np.sin(23 * azimuth + 3 * hit.points[1])
            strands += np.exp(-((41 * self.pixel) ** 2) / 3) * np.sin(41 * azimuth - 5 * hit.points[1])
            light = light * (1 + 0.5 * streaks * strands)[:, None]
        self.cover(window, hit, np.array(colour, np.float32) * light, label)

    def paint_backdrop(self) -> None:
        grid = np.array(self.scene.backdrop, np.float32)
        place = (np.arange(self.size) + 0.5) / self.size * (len(grid) - 1)
        weights = np.maximum(1 - np.abs(place[:, None] - np.arange(len(grid))), 0).astype(np.float32)
        across = np.einsum("xj,ijc->ixc", weights, grid)
        self.image[:] = (weights @ across.reshape(len(grid), -1)).reshape(self.image.shape)

    def paint_shape(self, shape: Shape) -> None:
        """A flat shape over all that is there."""
        cos, sin = abs(np.cos(shape.turn)), abs(np.sin(shape.turn))
        blur = shape.softness * np.hypot(shape.width, shape.height) / min(shape.width, shape.height) + 1 / self.size
        reach_x = shape.width * cos + shape.height * sin + blur
        reach_y = shape.width * sin + shape.height * cos + blur
        x0, y0 = max(0, int((shape.x - reach_x) * self.size)), max(0, int((shape.y - reach_y) * self.size))
        x1, y1 = (int(end * self.size) + 1 for end in (shape.x + reach_x, shape.y + reach_y))
        x1, y1 = min(self.size, x1), min(self.size, y1)
        if x0 >= x1 or y0 >= y1:
            return
        x, y = ((np.arange(a, b, dtype=np.float32) + 0.5) / self.size for a, b in ((x0, x1), (y0, y1)))
        outside = _outside_shape(shape, x[None], y[:, None])
        share = covered_share(-outside / (2 * shape.softness + 1 / self.size))
        image = self.image[y0:y1, x0:x1]
        image += share[..., None] * (np.array(shape.colour, np.float32) - image)
        mask = self.mask[y0:y1, x0:x1]
        mask[share >= 0.5] = BACKGROUND

    def noisy_image(self) -> np.ndarray:
        rng = np.random.default_rng(self.scene.noise_seed)
        noise = rng.standard_normal((self.size, self.size, 1), dtype=np.float32)
        image = self.image + (self.scene.noise * noise + 0.5)
        return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _paint_person(canvas: _Canvas) -> None:
    scene, head = canvas.scene, canvas.scene.head
    neck_x, neck_y, neck_z = (float(place) for place in canvas.turn @ np.array([0, 0.75, 0.1], np.float32))
    shoulders = Ellipsoid((neck_x, neck_y + 1.15, 0.5), (1.55, 0.75, 0.5), turns=False)
    neck = Ellipsoid((neck_x, neck_y + 0.1, neck_z + 0.15), (0.45, 0.85, 0.42), turns=False)
    canvas.paint_ellipsoid(shoulders, scene.shirt, BACKGROUND)
    canvas.paint_ellipsoid(neck, darker(scene.skin, 0.72), BACKGROUND)
    if scene.hair_name and scene.hair_length > 1:
        canvas.paint_ellipsoid(_curtain(scene), darker(scene.hair, 0.75), HAIR, streaks=0.3)
    for side in (-1, 1):
        ear = Ellipsoid((side * (head.width + 0.01), head.eye_y + 0.17, 0.08), (0.07, 0.19, 0.11))
        canvas.paint_ellipsoid(ear, scene.skin, BACKGROUND)
    _paint_face(canvas)
    if scene.hair_name:
        canvas.paint_ellipsoid(_hair(scene), scene.hair, HAIR, streaks=0.3)
    if scene.hat:
        canvas.paint_ellipsoid(_cap(scene), scene.hat, BACKGROUND, streaks=0.05)
        if scene.brim:
            canvas.paint_ellipsoid(_brim(scene), scene.hat, BACKGROUND)


def _paint_face(canvas: _Canvas) -> None:
    """The head with its features."""
    scene, head = canvas.scene, canvas.scene.head
    bound = Ellipsoid((0.0, 0.05, -0.15), (head.width, head.chin_y + 0.02, head.depth + 0.25))
    window = canvas.window(*bound.extent(canvas.turn))
    x, y = canvas.rays(window)
    if not len(x):
        return
    hit = cast_on_head(head, canvas.turn, x, y)
    light = canvas.shade(hit.normals, canvas.turn)
    albedo = FaceColours(scene, hit.points, canvas.pixel)
    albedo.paint()
    halfway = np.array(scene.light, np.float32) + np.array([0, 0, -1], np.float32)
    halfway = canvas.turn.T @ (halfway / np.linalg.norm(halfway))
    gloss = np.maximum(halfway @ hit.normals, 0) ** 24
    colour = albedo.colour * light + (26 * gloss)[:, None]
    canvas.cover(window, hit, colour, albedo.label)
