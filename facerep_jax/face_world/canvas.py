"""The picture while it is painted: backdrop, person, and what comes before the person, with labels and depth."""

from math import sqrt

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8

from facerep_jax.face_world.face_parts import paint_face_parts
from facerep_jax.face_world.hair import HeadCover, bare_from, head_covers
from facerep_jax.face_world.layers import BACKGROUND, HAIR, Face, covered_share
from facerep_jax.face_world.photo import photograph
from facerep_jax.face_world.rays import Ellipsoid, Hit, ImagePlane, cast_on_head, overlap, ray_points
from facerep_jax.face_world.scene import Clothes, Scene
from facerep_jax.face_world.shapes import Colour, Window, channels, paint_shape, scaled
from facerep_jax.face_world.skin import paint_skin

_SCATTER = channels((0.34, 0.24, 0.2))  # how far red, green and blue light creeps around the edge of shade


class Canvas:
    """The image of a scene, its labels, and its depth, which is infinite where no part of the person is painted."""

    image: Float32[np.ndarray, "3 size size"]  # light, 0 to 255 and more
    mask: UInt8[np.ndarray, "size size"]
    depth: Float32[np.ndarray, "size size"]  # of what is painted, along the camera's z in head units

    def __init__(self, scene: Scene, plane: ImagePlane):
        self.scene, self.plane = scene, plane
        size = plane.size
        self.image = scene.backdrop.enlarged(size)
        if scene.mirrored:
            self.image = self.image[:, :, ::-1].copy()
        self.mask = np.zeros((size, size), np.uint8)
        self.depth = np.full((size, size), np.inf, np.float32)
        light = scene.light
        towards = np.array(light.towards, np.float32)
        halfway = towards + np.array([0, 0, -1], np.float32)
        self.ambient = light.ambient * channels(light.ambient_colour)
        self.lamp = (1.08 - 0.5 * light.ambient) * channels(light.colour)
        # Shading is linear in the normal but for clamps and powers, so that one matrix (7, 3) serves all of a surface.
        # Its rows give the red, green and blue of the lamp, the same of the ambient light, of which more comes from
        # above, and the cosine between the normal and the direction halfway to the lamp, for highlights (Blinn-Phong).
        # Light creeps around the edge of shade: the lamp's cosine c counts as (c + scatter) / (1 + scatter).
        lamp, ambient = (self.lamp / (1 + _SCATTER)).ravel(), self.ambient.ravel()
        upward = np.array([0, -0.2, 0], np.float32)
        mirrored = halfway / sqrt(halfway @ halfway)
        self.by_normal = np.concatenate([np.outer(lamp, towards), np.outer(ambient, upward), mirrored[None]])
        self.by_normal_of_head = self.by_normal @ scene.turn
        self.creeping, self.even = _SCATTER * lamp.reshape(3, 1, 1), 0.9 * self.ambient

    def paint(self) -> None:
        """Paint the scene, from back to front."""
        covers = head_covers(self.scene, self.plane.pixel)
        self._paint_body()
        for part in covers:
            if part.behind:
                self._paint_cover(part)
        if not (self.scene.hair and self.scene.hair.back):  # long hair hides the ears
            self._paint_ears()
        self._paint_face()
        for part in covers:
            if not part.behind:
                self._paint_cover(part)
        around = self.ambient + 0.6 * self.lamp  # flat shapes have no normals, so one light has to do
        for shape in self.scene.occluder:
            window, share = paint_shape(self.image, shape, around)
            self.mask[window][share >= 0.5] = BACKGROUND

    def photograph(self) -> UInt8[np.ndarray, "size size 3"]:
        """Return the photograph of what has been painted."""
        return photograph(self.scene.photo, self.image, self.scene.world, self.scene.mirrored)

    def lay(
        self,
        window: Window,
        hit: Hit,
        colour: Float32[np.ndarray, "3 h w"],
        label: Integer[np.ndarray, "h w"] | int,
    ) -> None:
        """Lay a surface over the window wherever it is nearer than what is there.

        The edge of the surface is blended into the picture; labels and depth change from half a pixel on.
        """
        depth, image = self.depth[window], self.image[:, *window]
        share = covered_share(hit.outside * (-1 / self.plane.pixel))
        share *= hit.depth < depth
        image += share * (colour - image)
        solid = share >= 0.5
        np.copyto(depth, hit.depth, where=solid)
        np.copyto(self.mask[window], label, where=solid)

    def lit(
        self,
        colour: Float32[np.ndarray, "3 #h #w"],
        normals: Float32[np.ndarray, "3 h w"],
        turns: bool,
        gloss: float = 0.0,
    ) -> Float32[np.ndarray, "3 h w"]:
        """Return surfaces in the light of the scene.

        Args:
            colour: of the surfaces.
            normals: unit, in head coordinates if `turns`, otherwise in camera axes.
            turns: whether the surfaces turn with the head.
            gloss: brightness of highlights.
        """
        by_normal = self.by_normal_of_head if turns else self.by_normal
        found = (by_normal @ normals.reshape(3, -1)).reshape(7, *normals.shape[1:])
        light, ambient, mirrored = found[:3], found[3:6], found[6]
        light += self.creeping
        np.maximum(light, 0, out=light)
        ambient += self.even
        light += ambient
        light *= colour
        if gloss:
            np.maximum(mirrored, 0, out=mirrored)
            for _ in range(3):  # to the eighth power
                np.multiply(mirrored, mirrored, out=mirrored)
            light += mirrored * (gloss * self.lamp)
        return light

    def _paint_ellipsoid(self, body: Ellipsoid, colour: Colour, hollow: float = 0.0) -> None:
        """Paint an ellipsoid; `hollow` is how much darker its middle is than its edge, as a share."""
        window = body.window(self.plane)
        hit = body.cast(self.plane.turn, *self.plane.rays(window))
        if hit.outside.size:
            albedo = channels(colour)
            if hollow:
                deep = np.maximum(hit.outside * (-1 / body.size) - 0.2, 0)
                albedo = albedo * (1 - hollow * np.minimum(2.5 * deep, 1))
            self.lay(window, hit, self.lit(albedo, hit.normals, body.turns), BACKGROUND)

    def _paint_body(self) -> None:
        """Paint neck and shoulders, which stay upright while the head turns."""
        scene = self.scene
        # They hang on the joint of head and neck, which moves with the head.
        x, y, z = (scene.turn @ np.array([0, 0.75, 0.1], np.float32)).tolist()
        slope = scene.clothes.slope
        neck = Ellipsoid((x, y + 0.17, z + 0.18), (0.43, 0.75, 0.42), turns=False)
        self._paint_ellipsoid(neck, scaled(scene.skin.colour, 0.7))
        chest = Ellipsoid((x, y + 0.62 + 0.62 * slope, 0.4), (1.75, 0.3 + 0.45 * slope, 0.62), turns=False)
        window = chest.window(self.plane)
        hit = chest.cast(self.plane.turn, *self.plane.rays(window))
        if hit.outside.size:
            across, down = self.plane.rays(window)
            albedo = _cloth(scene.clothes, scene.skin.colour, across - x, down - (y + 0.32))
            self.lay(window, hit, self.lit(albedo, hit.normals, turns=False), BACKGROUND)

    def _paint_ears(self) -> None:
        """Paint the ears that the face does not hide, with earrings if there are any."""
        scene, head = self.scene, self.scene.head
        for side in (-1, 1):
            if side * scene.yaw > 0.6:  # turned away behind the face
                continue
            ear = Ellipsoid((side * (head.width + 0.02), head.eye_y + 0.17, 0.08), (0.075, 0.2, 0.115))
            self._paint_ellipsoid(ear, scene.skin.colour, hollow=0.5)
            if scene.earrings:
                ring = Ellipsoid((side * (head.width + 0.05), head.eye_y + 0.43, 0.05), (0.045, 0.07, 0.045))
                self._paint_ellipsoid(ring, scene.earrings)

    def _paint_face(self) -> None:
        """Paint the head without ears and hair: find the points that pixels see, colour these, then light them."""
        scene, head, plane = self.scene, self.scene.head, self.plane
        # The smallest window that is sure to hold the head: that of an ellipsoid around it, less what hair covers.
        whole = Ellipsoid((0.0, 0.05, -0.15), (head.width, head.chin_y + 0.02, head.depth + 0.25))
        top, bottom = bare_from(scene), 0.07 + head.chin_y
        seen = plane.window_of_box((0.0, (top + bottom) / 2, -0.15), (head.width, (bottom - top) / 2, whole.axes[2]))
        window = overlap(whole.window(plane), seen)
        x, y = plane.rays(window)
        shape = height, width = y.shape[0], x.shape[1]
        if not height * width:
            return
        flat = cast_on_head(head, plane.turn, x.repeat(height, 0).ravel(), y.ravel().repeat(width))
        depth, outside = flat.depth.reshape(shape), flat.outside.reshape(shape)
        hit = Hit(depth, flat.normals.reshape(3, *shape), outside, flat.thickness)
        face = Face(scene, plane, window, ray_points(plane.turn, x, y, hit.depth))
        paint_skin(face)
        paint_face_parts(face)
        self.lay(window, hit, self.lit(face.colour, hit.normals, turns=True, gloss=22.0), face.label)

    def _paint_cover(self, part: HeadCover) -> None:
        """Paint a piece of hair or of a hat."""
        window = part.cover.window(self.plane)
        hit, strands, inside = part.cover.cast(self.plane.turn, *self.plane.rays(window))
        if not hit.outside.size:
            return
        colour: Float32[np.ndarray, "3 #h #w"] = channels(part.colour)
        gloss = 0.0
        if part.hair and self.scene.hair:
            colour = colour * np.maximum(1 + 0.2 * strands, 0.25)
            gloss = 45.0 * self.scene.hair.sheen
        light = self.lit(colour, hit.normals, True, gloss)
        if inside is not False:
            light = np.where(inside, 0.9 * self.ambient * channels(part.colour), light)  # the lamp does not shine in
        self.lay(window, hit, light, HAIR if part.hair else BACKGROUND)


def _cloth(
    clothes: Clothes, skin: Colour, across: Float[np.ndarray, "1 w"], down: Float[np.ndarray, "h 1"]
) -> Float32[np.ndarray, "3 h w"]:
    """Return the colours of clothes at places relative to the pit of the neck, in camera axes and head units."""
    away = np.abs(across)
    neck = 0.36 - away - 0.55 * down  # positive inside of a neckline in the shape of a V
    main = clothes.colour
    palette = [main, scaled(main, 0.82), clothes.second, scaled(skin, 0.75), (215.0, 215.0, 218.0)]
    plain, dark, second, bare, white = range(5)
    if clothes.kind == "striped":
        choice = np.where(np.sin(26 * down) > 0.2, second, plain).repeat(away.shape[1], 1)
    elif clothes.kind == "open":
        choice = np.where(neck > 0, bare, plain)
    elif clothes.kind == "suit":
        choice = np.where(neck > 0, np.where(away < 0.085, second, white), np.where(neck > -0.12, dark, plain))
    else:
        choice = np.where(neck > -0.03, dark, plain)
    return np.array(palette, np.float32).T.take(choice, axis=1)
