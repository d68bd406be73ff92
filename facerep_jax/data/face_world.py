"""Generated faces: pixels, part labels, landmarks, vertices, attributes and captions from one geometry.

A scene (`face_scene`) is a head with a closed-form surface (`face_geometry`) under an orthographic camera, with hair,
clothes and surroundings made of ellipsoids. Each pixel's ray is cast against them; the parts of the face are found by
where on the head the ray ends. Labels follow LaPa: beard and glasses do not change them, and ears, neck, clothes, hats
and occluders are background.
"""

from functools import cache
from math import cos, exp, sin
from typing import Any

import numpy as np

from facerep_jax.data.face_colours import (
    BACKGROUND,
    CLASSES,
    HAIR,
    FaceColours,
    channels,
    covered_share,
    scaled,
    smoothstep,
)
from facerep_jax.data.face_geometry import LANDMARK_FLIP, VERTEX_FLIP
from facerep_jax.data.face_rays import (
    Cover,
    Ellipsoid,
    Hit,
    View,
    Window,
    cast_on_head,
    hidden_by_itself,
    ray_points,
    span,
    visible_jaw,
)
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
        identity: str. caption: tuple of one or two str.
    """
    canvas = _Canvas(scene, size)
    canvas.paint_backdrop()
    for shape in scene.shapes:
        canvas.paint_shape(shape)
    _paint_person(canvas)
    if scene.occluder:
        canvas.paint_shape(scene.occluder)

    matrix = camera(scene, size)
    vertices = _project(matrix, scene.head.vertices)
    landmarks = vertices[:68, :2].copy()
    landmarks[:17] = _project(matrix, visible_jaw(scene.head, canvas.view.turn))[:, :2]
    return {
        "image": canvas.noisy_image(),
        "mask": canvas.mask,
        "landmarks": landmarks,
        "landmarks_3d": vertices[:68].copy(),
        "visible": _visible(canvas.view, scene, vertices[:68]),
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
    (x0, y0), (x1, y1) = landmarks.min(0).tolist(), landmarks.max(0).tolist()
    return np.array([x0, y0 - 0.2 * (y1 - y0), x1, y1], np.float32)


def _visible(view: View, scene: Scene, pixels: np.ndarray) -> np.ndarray:
    """Whether landmarks, at `pixels` (68, 3), are seen."""
    in_frame = ((pixels[:, :2] >= -0.5) & (pixels[:, :2] < view.size - 0.5)).all(1)
    covered = hidden_by_itself(scene.head, view.turn, scene.head.landmarks, scene.head.landmark_normals)
    x, y, depth = view.turn @ scene.head.landmarks
    for cover in _covers(scene):
        hit = cover.cast_front(view.turn, x, y)
        covered |= (hit.outside < 0) & (hit.depth < depth)
    if scene.occluder:
        x, y = (pixels[:, :2].T + 0.5) / view.size
        covered |= _outside_shape(scene.occluder, x, y) < 0
    return in_frame & ~covered


def _hair(scene: Scene) -> Cover:
    """The hair that grows around the face, a shell over the skull; what hangs behind it is `_curtain`."""
    head, volume = scene.head, scene.hair_volume
    temples = 0.0 if scene.hairline > -0.5 else 0.25  # a fringe is straight, a hairline recedes from the temples

    def edge(points: np.ndarray) -> np.ndarray:
        x, _, z = points
        square = x * x
        frontal = -z / np.sqrt(square + z * z + 1e-6)  # cosine of the azimuth
        front = scene.hairline - 0.4 * temples - scene.parting * x + temples * square
        return front + (scene.hair_length - front) * smoothstep((0.62 - frontal) * (1 / 0.45))

    body = Ellipsoid((0.0, -0.06, 0.06), (head.width + volume, 0.96 + volume, head.depth + 0.6 * volume))
    return Cover(body, edge, strands=0.25, fraying=0.025)


def _curtain(scene: Scene) -> Cover:
    """Long hair behind the face and beside the neck."""
    half = 0.5 * scene.hair_length
    body = Ellipsoid((0.0, half - 0.4, 0.45), (scene.head.width + scene.hair_volume + 0.05, half + 0.5, 0.5))
    return Cover(body, strands=0.25, fraying=0.02)


def _cap(scene: Scene) -> Cover:
    head, volume = scene.head, scene.hair_volume
    body = Ellipsoid((0.0, -0.1, 0.06), (head.width + volume + 0.05, 1.0 + volume, head.depth + 0.6 * volume + 0.05))
    return Cover(body, lambda points: 0.25 * points[2] - 0.42)


def _brim(scene: Scene) -> Cover:
    return Cover(Ellipsoid((0.0, -0.58, -0.05), (scene.head.width + scene.brim, 0.06, scene.head.depth + scene.brim)))


def _covers(scene: Scene) -> list[Cover]:
    """What may stand in front of the face and turns with it."""
    hair = [_hair(scene)] if scene.hair_name else []
    curtain = [_curtain(scene)] if scene.hair_name and scene.hair_length > 1 else []
    hat = [_cap(scene)] if scene.hat else []
    brim = [_brim(scene)] if scene.hat and scene.brim else []
    return hair + curtain + hat + brim


def _outside_shape(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """About the distance to the shape, negative inside; all in shares of the image."""
    across_x, across_y = cos(shape.turn) / shape.width, sin(shape.turn) / shape.width
    down_x, down_y = -sin(shape.turn) / shape.height, cos(shape.turn) / shape.height
    x, y = x - shape.x, y - shape.y
    across, down = np.abs(x * across_x + y * across_y), np.abs(x * down_x + y * down_y)
    radius = np.maximum(across, down) if shape.corners else np.sqrt(across * across + down * down)
    return (radius - 1) * min(shape.width, shape.height)


@cache
def _places(size: int) -> np.ndarray:
    """Where a row's pixels lie, as shares of the image."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size


@cache
def _interpolation(size: int, cells: int) -> np.ndarray:
    """Weights (size, cells) of a coarse grid's cells at each pixel, linear between the cells."""
    place = _places(size)[:, None] * (cells - 1)
    return np.maximum(1 - np.abs(place - np.arange(cells, dtype=np.float32)), 0)


class _Canvas:
    """Image, labels and depth of a scene while it is painted."""

    def __init__(self, scene: Scene, size: int):
        self.scene, self.size = scene, size
        self.view = View(scene.turn, 1 / (scene.scale * size), scene.x * size - 0.5, scene.y * size - 0.5, size)
        self.image = np.empty((3, size, size), np.float32)
        self.mask = np.zeros((size, size), np.uint8)
        self.depth = np.full((size, size), np.inf, np.float32)
        self.light_colour = channels(scene.light_colour)
        self.towards_light = np.array(scene.light, np.float32)
        self.towards_light_of_head = self.towards_light @ scene.turn  # in head coordinates

    def lay(self, window: Window, hit: Hit, colour: np.ndarray, label: np.ndarray | int) -> None:
        """Lay a surface of `colour` (3, h, w) or (3, 1, 1) over the window where it is nearer than what is there."""
        depth, image = self.depth[window], self.image[:, *window]
        share = covered_share(hit.outside * (-1 / self.view.pixel))
        share *= hit.depth < depth
        image += share * (colour - image)
        solid = share >= 0.5
        np.copyto(depth, hit.depth, where=solid)
        np.copyto(self.mask[window], label, where=solid)

    def light(self, normals: np.ndarray, turns: bool = True) -> np.ndarray:
        """How bright (...) a surface is with `normals` (3, ...) in head coordinates, or else the camera's."""
        towards = self.towards_light_of_head if turns else self.towards_light
        facing = (towards @ normals.reshape(3, -1)).reshape(normals.shape[1:])
        # Skin and cloth scatter light beyond the terminator.
        strength = (1.05 - 0.5 * self.scene.ambient) / 1.25
        return self.scene.ambient + strength * np.maximum(facing + 0.25, 0)

    def lit(self, colour: Colour) -> np.ndarray:
        """The colour (3, 1, 1) of a surface at full light."""
        return channels(colour) * self.light_colour

    def paint_ellipsoid(self, body: Ellipsoid, colour: Colour) -> None:
        window = body.window(self.view)
        hit = body.cast(self.view.turn, *self.view.rays(window))
        self.lay(window, hit, self.lit(colour) * self.light(hit.normals, body.turns), BACKGROUND)

    def paint_cover(self, cover: Cover, colour: Colour, label: int) -> None:
        turn, window = self.view.turn, cover.body.window(self.view)
        hit, strands, inside = cover.cast(turn, *self.view.rays(window))
        light = self.light(hit.normals)
        if cover.strands:
            fading = exp(-((36 * self.view.pixel) ** 2) / 8)  # strands finer than pixels would alias
            light *= 1 + cover.strands * fading * strands
        np.copyto(light, self.scene.ambient, where=inside)  # no light falls in
        self.lay(window, hit, self.lit(colour) * light, label)

    def paint_backdrop(self) -> None:
        grid = self.scene.backdrop
        weights = _interpolation(self.size, grid.shape[1])
        np.matmul(weights @ grid, weights.T, out=self.image)

    def paint_shape(self, shape: Shape) -> None:
        """A flat shape over all that is there."""
        across, down = abs(cos(shape.turn)), abs(sin(shape.turn))
        ratio = (shape.width**2 + shape.height**2) ** 0.5 / min(shape.width, shape.height)
        blur = shape.softness * ratio + 1 / self.size
        reach_x = shape.width * across + shape.height * down + blur
        reach_y = shape.width * down + shape.height * across + blur
        rows = span(shape.y * self.size - 0.5, reach_y * self.size, self.size)
        columns = span(shape.x * self.size - 0.5, reach_x * self.size, self.size)
        x, y = _places(self.size)[columns], _places(self.size)[rows, None]
        outside = _outside_shape(shape, x, y)
        share = covered_share(outside * (-1 / (2 * shape.softness + 1 / self.size)))
        image = self.image[:, rows, columns]
        image += share * (channels(shape.colour) - image)
        self.mask[rows, columns][share >= 0.5] = BACKGROUND

    def noisy_image(self) -> np.ndarray:
        rng = np.random.default_rng(self.scene.noise_seed)
        noise = rng.standard_normal((self.size, self.size), dtype=np.float32)
        noisy = self.image + (self.scene.noise * noise + 0.5)
        image = np.empty((self.size, self.size, 3), np.uint8)
        for channel, values in enumerate(np.clip(noisy, 0, 255, out=noisy)):
            image[..., channel] = values
        return image


def _paint_person(canvas: _Canvas) -> None:
    """All that turns with the head or carries it, from behind to the front."""
    scene, head = canvas.scene, canvas.scene.head
    neck_x, neck_y, neck_z = (canvas.view.turn @ np.array([0, 0.75, 0.1], np.float32)).tolist()
    shoulders = Ellipsoid((neck_x, neck_y + 1.15, 0.5), (1.55, 0.75, 0.5), turns=False)
    neck = Ellipsoid((neck_x, neck_y + 0.1, neck_z + 0.15), (0.45, 0.85, 0.42), turns=False)
    canvas.paint_ellipsoid(shoulders, scene.shirt)
    canvas.paint_ellipsoid(neck, scaled(scene.skin, 0.72))
    if scene.hair_name and scene.hair_length > 1:
        canvas.paint_cover(_curtain(scene), scaled(scene.hair, 0.75), HAIR)
    else:  # long hair hides the ears
        for side in (-1, 1):
            if side * scene.yaw < 0.6:  # else the face hides it
                ear = Ellipsoid((side * (head.width + 0.01), head.eye_y + 0.17, 0.08), (0.07, 0.19, 0.11))
                canvas.paint_ellipsoid(ear, scene.skin)
    _paint_face(canvas)
    if scene.hair_name:
        canvas.paint_cover(_hair(scene), scene.hair, HAIR)
    if scene.hat:
        canvas.paint_cover(_cap(scene), scene.hat, BACKGROUND)
        if scene.brim:
            canvas.paint_cover(_brim(scene), scene.hat, BACKGROUND)


def _paint_face(canvas: _Canvas) -> None:
    """The head with its features."""
    scene, head, view = canvas.scene, canvas.scene.head, canvas.view
    window = Ellipsoid((0.0, 0.05, -0.15), (head.width, head.chin_y + 0.02, head.depth + 0.25)).window(view)
    x, y = view.rays(window)
    shape = height, width = y.shape[0], x.shape[1]
    if not height * width:
        return
    flat = cast_on_head(head, view.turn, x.repeat(height, 0).ravel(), y.ravel().repeat(width))
    hit = Hit(flat.depth.reshape(shape), flat.normals.reshape(3, *shape), flat.outside.reshape(shape))
    albedo = FaceColours(scene, view, window, ray_points(view.turn, x, y, hit.depth))
    albedo.paint()
    colour = albedo.colour
    colour *= canvas.light(hit.normals) * canvas.light_colour
    colour += 26 * _gloss(canvas, hit.normals)
    canvas.lay(window, hit, colour, albedo.label)


def _gloss(canvas: _Canvas, normals: np.ndarray) -> np.ndarray:
    """How far a surface (normals in head coordinates) mirrors the light to the camera, 0 to 1."""
    halfway = canvas.towards_light + np.array([0, 0, -1], np.float32)
    halfway = canvas.view.turn.T @ (halfway / np.sqrt(halfway @ halfway))
    gloss = np.maximum(halfway @ normals.reshape(3, -1), 0)
    eighth = ((gloss**2) ** 2) ** 2
    return (eighth * eighth * eighth).reshape(normals.shape[1:])
