"""Hair and hats as covers of the head: where they lie, and how the strands run over them."""

from dataclasses import dataclass
from math import pi

import numpy as np

from facerep_jax.face_world.geometry import Head
from facerep_jax.face_world.rays import Cover, Ellipsoid, Field
from facerep_jax.face_world.scene import FRINGE, Hair, Hat, Scene
from facerep_jax.face_world.shapes import Colour
from facerep_jax.face_world.textures import tile

STRAND_TEXELS = 105.0  # texels of the tile of strands to a head unit across the hair


@dataclass(frozen=True)
class HeadCover:
    """A piece of hair or of a hat, with its looks."""

    cover: Cover
    colour: Colour
    hair: bool  # whether it is hair; otherwise it is part of a hat
    behind: bool  # whether it is painted before the face is


def head_covers(scene: Scene, pixel: float | None) -> list[HeadCover]:
    """Return the pieces of hair and hat, from back to front.

    `pixel` is the side of a pixel in head units, which selects the resolution of the strands. None leaves strands and
    frayed edges out.
    """
    found = []
    hair, head = scene.hair, scene.head
    if hair:
        strands = _strands(scene, hair, pixel) if pixel else None
        fraying = (0.008 + 0.018 * hair.curl) if pixel else 0.0
        dark: Colour = tuple(0.72 * channel for channel in hair.colour)  # type: ignore[assignment]
        if hair.back:
            found.append(HeadCover(Cover(_curtain(head, hair), None, strands, fraying), dark, hair=True, behind=True))
        if hair.bun:
            bun = Ellipsoid((0.0, -1.0 - 0.5 * hair.bun, 0.35), (hair.bun, hair.bun, hair.bun))
            found.append(HeadCover(Cover(bun, None, strands, fraying), hair.colour, hair=True, behind=True))
        # No point of the front edge lies lower: the shell is not searched below this height.
        lowest = max(hair.length, hair.hairline + abs(hair.parting) + 0.5 * abs(hair.temples)) + 3 * fraying
        shell = Cover(_skull(head, hair.volume, hair.lift), _hair_edge(hair), strands, fraying, lowest)
        found.append(HeadCover(shell, hair.colour, hair=True, behind=False))
    if scene.hat:
        volume = hair.volume if hair else 0.02
        found += [
            HeadCover(cover, scene.hat.colour, hair=False, behind=False) for cover in _hat(head, scene.hat, volume)
        ]
    return found


def _skull(head: Head, volume: float, lift: float) -> Ellipsoid:
    """Return an ellipsoid around the skull, `volume` away from it and `lift` more above."""
    centre = (0.0, -0.06 - 0.5 * lift, 0.06)
    return Ellipsoid(centre, (head.width + volume, 0.96 + volume + 0.5 * lift, head.depth + 0.6 * volume))


def _curtain(head: Head, hair: Hair) -> Ellipsoid:
    """Return the ellipsoid of long hair behind the face and beside the neck."""
    half = 0.5 * hair.back
    return Ellipsoid((0.0, half - 0.4, 0.45), (head.width + hair.volume + 0.05, half + 0.5, 0.5))


def _hair_edge(hair: Hair) -> Field:
    """Return the height at which the hair over a point ends: the hairline in front, further down at the sides."""

    def edge(points: np.ndarray) -> np.ndarray:  # a `Field`; shapes of inner functions cannot be checked in threads
        x, _, z = points
        square = x * x
        frontal = -z / np.sqrt(square + z * z + 1e-6)  # cosine of the azimuth
        front = hair.hairline - 0.4 * hair.temples - hair.parting * x + hair.temples * square
        # A smooth step around the head: 0 over the forehead, 1 from the temples backwards, where the hair is longest.
        down = np.minimum(np.maximum((0.62 - frontal) * (1 / 0.45), 0), 1)
        return front + (hair.length - front) * (down * down * (3 - 2 * down))

    return edge


def _hat(head: Head, hat: Hat, volume: float) -> list[Cover]:
    """Return the crown of a hat, and its brim or peak if it has one."""
    axes = (head.width + volume + 0.05, 1.0 + volume, head.depth + 0.6 * volume + 0.05)
    crown = Cover(Ellipsoid((0.0, -0.1, 0.06), axes), _hat_edge(hat), lowest=0.0)
    if hat.kind == "brimmed":
        return [crown, Cover(Ellipsoid((0.0, -0.58, -0.02), (head.width + hat.brim, 0.055, head.depth + hat.brim)))]
    if hat.kind == "peaked":
        return [crown, Cover(Ellipsoid((0.0, -0.56, -0.75), (0.75 * head.width, 0.05, 0.2 + hat.brim)))]
    return [crown]


def _hat_edge(hat: Hat) -> Field:
    """Return the height at which a hat over a point ends: a slanted plane that is lower behind."""
    front = -0.36 if hat.kind == "beanie" else -0.42
    return lambda points: 0.25 * points[2] + front


def bare_from(scene: Scene) -> float:
    """Return a height above which hair or hat covers the whole head, so that the skin there need not be painted."""
    if scene.hat:
        return -0.85
    if scene.hair:
        hair = scene.hair
        return max(hair.hairline - 0.5 * abs(hair.temples) - 0.8 * abs(hair.parting) - 0.12, -1.0)
    return -1.0


def shade_below(scene: Scene) -> Field | None:
    """Return how far a point of the skin lies below the edge of hair or hat, in head units; None without either.

    The shadow at their edge is painted by it.
    """
    if scene.hat:
        hat_edge = _hat_edge(scene.hat)
        return lambda points: points[1] - hat_edge(points)
    if scene.hair:
        edge = _hair_edge(scene.hair)
        return lambda points: points[1] - edge(points)
    return None


def _strands(scene: Scene, hair: Hair, pixel: float) -> Field:
    """Return light and dark of the hair over a point, about -2 to 2."""
    texture = tile(scene.world, "curls" if hair.curl > 0.5 else "strands")
    along = 90.0 if hair.curl > 0.5 else 60.0  # texels to a head unit
    left, top = hair.place
    side = -1.0 if scene.mirrored else 1.0
    combed = 0.8 * hair.parting if hair.hairline < FRINGE else 0.3 * hair.parting  # strands lean away from the parting

    def strands(points: np.ndarray) -> np.ndarray:  # likewise
        x, y, z = points
        across = np.abs(x)
        # A cheap azimuth wraps the tile around the head: 0 in front, 1 at the side, 2 behind.
        azimuth = 1 + z / (across + np.abs(z) + 1e-6)
        u = np.copysign(azimuth, x) * 128 + (combed * STRAND_TEXELS) * y
        if hair.wave:
            u += np.copysign(np.float32(hair.wave * STRAND_TEXELS), x) * np.sin(2 * pi / 0.45 * y)
        return texture.at(side * u + left, along * y + top, STRAND_TEXELS * pixel)

    return strands
