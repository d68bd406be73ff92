"""Backgrounds behind the person: colours, textures, things, and shapes that resemble faces."""

from dataclasses import dataclass
from functools import cache, cached_property
from math import cos, sin

import numpy as np
from jaxtyping import Float32

from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.shapes import BOX, ELLIPSE, Colour, Shape, paint_shape, places
from facerep_jax.face_world.textures import BACKGROUNDS, tile


@dataclass(frozen=True)
class Backdrop:
    """A background that is painted on a coarse grid and enlarged; fewer cells look more out of focus."""

    world: int  # number of the world whose tiles it uses
    cells: int  # of a side of the grid
    colours: Float32[np.ndarray, "3 coarse coarse"]  # of points spread over the image, interpolated between them
    texture: str  # name of a tile
    span: float  # width of the part of the tile that fills the image, in texels
    turn: float  # of the tile, in radians
    place: tuple[float, float]  # of the middle of the image on the tile, in texels
    contrast: Colour  # what a value of 1 of the tile adds to each channel
    shapes: tuple[Shape, ...]  # from back to front

    @cached_property
    def painted(self) -> Float32[np.ndarray, "3 {self.cells} {self.cells}"]:
        """The painted grid, 0 to 255; the frames of a session share it."""
        weights = _interpolation(self.cells, self.colours.shape[1])
        image = weights @ self.colours @ weights.T
        if any(self.contrast):
            place = (places(self.cells) - 0.5) * self.span
            x, y = place[None], place[:, None]
            across, down = cos(self.turn), sin(self.turn)
            left, top = self.place
            at = (across * x + down * y + left, across * y - down * x + top)
            values = tile(self.world, self.texture).at(*at, self.span / self.cells)
            image += np.multiply.outer(np.array(self.contrast, np.float32), values)
        for shape in self.shapes:
            paint_shape(image, shape)
        return image

    def enlarged(self, size: int) -> Float32[np.ndarray, "3 {size} {size}"]:
        """Return the background in the resolution of the image."""
        weights = _interpolation(size, self.cells)
        return weights @ self.painted @ weights.T


def sample_backdrop(dice: Dice, world: int) -> Backdrop:
    """Sample a backdrop of a world."""
    between = dice.between
    base = np.array(sample_muted_colour(dice)).reshape(3, 1, 1)
    grid = base + dice.normals(28, 16).reshape(4, 4) + dice.normals(9, 48).reshape(3, 4, 4)
    grey, tint = between(-1, 1), dice.normals(0.18, 3)
    strength = between(0, 50) if dice.happens(0.7) else 0.0
    red, green, blue = (strength * (grey + tint)).tolist()
    shapes = [_sample_thing(dice) for _ in range(dice.one_of((0, 1, 2, 4)))]
    for _ in range(dice.one_of((0, 0, 1, 2))):
        shapes += _sample_face_like(dice, framed=world == 1 and dice.happens(0.5))
    return Backdrop(
        world=world,
        cells=dice.one_of(((24, 40, 56), (32, 48, 64))[world]),
        colours=np.minimum(np.maximum(grid, 8), 240).astype(np.float32),
        texture=dice.one_of(BACKGROUNDS[world]),
        span=between(60, 360),
        turn=between(-0.5, 0.5) if dice.happens(0.5) else 0.0,
        place=(between(0, 512), between(0, 512)),
        contrast=(red, green, blue),
        shapes=tuple(shapes),
    )


def sample_muted_colour(dice: Dice, darkest: float = 25.0, lightest: float = 205.0) -> Colour:
    """Sample a colour as most things have it: grey with a slight tint."""
    grey, tint = dice.between(darkest, lightest), 42 * dice.between(0, 1) ** 2
    red, green, blue = (dice.normal(grey, tint, max(8, grey - 60), min(245, grey + 60)) for _ in range(3))
    return red, green, blue


def _sample_thing(dice: Dice) -> Shape:
    """Sample a box or an ellipse somewhere in the image."""
    between = dice.between
    kind = BOX if dice.happens(0.5) else ELLIPSE
    x, y, width, height = between(0, 1), between(0, 1), between(0.03, 0.3), between(0.03, 0.3)
    round_ = between(0, 0.5) if kind == ELLIPSE else 0.0
    return Shape(kind, x, y, width, height, between(-0.6, 0.6), sample_muted_colour(dice), between(0.0, 0.03), round_)


def _sample_face_like(dice: Dice, framed: bool) -> list[Shape]:
    """Sample somebody in the background, or if `framed` a portrait on the wall.

    Either is made of ellipses where skin, hair, eyes and mouth would be.
    """
    between = dice.between
    x, y, size, turn = between(0.02, 0.98), between(0.08, 0.7), between(0.05, 0.14), dice.normal(0, 0.15)
    tone = between(60, 215)
    skin: Colour = (tone, 0.78 * tone, 0.65 * tone)
    dark: Colour = (0.35 * tone, 0.27 * tone, 0.25 * tone)
    hair, cloth = sample_muted_colour(dice, 15.0, 170.0), sample_muted_colour(dice)
    turned = dice.normal(0, 0.12)  # how far eyes, nose and mouth are shifted to a side

    def part(across: float, down: float, width: float, height: float, colour: Colour, *look: float) -> Shape:
        """Return an ellipse at a place in the turned face, whose unit is `size`."""
        right, up = size * across, size * down
        place = x + cos(turn) * right - sin(turn) * up, y + sin(turn) * right + cos(turn) * up
        return Shape(ELLIPSE, *place, size * width, size * height, turn, colour, 0.3 * size * 0.2, *look)

    frame = [Shape(BOX, x, y, 1.5 * size, 1.8 * size, 0.0, sample_muted_colour(dice), 0.0)] if framed else []
    eyes = [part(turned + side * 0.32, -0.08, 0.13, between(0.05, 0.09), dark) for side in (-1.0, 1.0)]
    return [
        *frame,
        *([] if framed else [part(0.0, 2.1, 1.6, 1.1, cloth, 0.3)]),
        part(0.0, -0.22, 0.95, between(1.0, 1.5), hair, 0.3),
        part(0.3 * turned, 0.0, 0.78, 1.02, skin, 0.4),
        *eyes,
        part(turned, 0.5, 0.27, between(0.04, 0.1), (0.75 * tone, 0.4 * tone, 0.38 * tone)),
        part(1.2 * turned, 0.22, 0.1, 0.06, dark, 0.0, 0.5),
    ]


@cache
def _interpolation(size: int, cells: int) -> Float32[np.ndarray, "{size} {cells}"]:
    """Return the weights of the cells of a coarse row at each pixel: linear between the two nearest cells."""
    place = places(size)[:, None] * (cells - 1)
    return np.maximum(1 - np.abs(place - np.arange(cells, dtype=np.float32)), 0)
