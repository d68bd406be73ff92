"""Skin: its colour, hollows, flush, texture, lines and freckles, the shadow of hair on it, and the beard.

All of these but the beard are maps of the window that add up: what a value of 1 of a map adds to each channel is a
share of the colour of the skin.
"""

from math import atan2, degrees

import numpy as np
from jaxtyping import Float, Float32

from facerep_jax.face_world.geometry import Head, Relief
from facerep_jax.face_world.hair import shade_below
from facerep_jax.face_world.layers import BEHIND, Face, smoothstep
from facerep_jax.face_world.scene import Skin
from facerep_jax.face_world.shapes import Colour, channels
from facerep_jax.face_world.textures import texels, tile

# What a map of value 1 adds to red, green and blue, as shares of the colour of the skin.
_HOLLOW = (-0.42, -0.5, -0.52)
_FLUSH = (0.02, -0.17, -0.14)
_MOTTLE = (0.035, 0.045, 0.045)
_PORES = (0.06, 0.06, 0.06)
_FRECKLES = (-0.3, -0.42, -0.48)


# From linear sRGB to the tristimulus values Y and Z as shares of those of white (D65).
_LUMINANCE = (0.2126, 0.7152, 0.0722)
_BLUE = (0.01775, 0.10947, 0.87277)


def typology_angle(colour: Colour) -> float:
    """Return the individual typology angle of a colour of skin in degrees: the higher, the lighter the skin.

    Source: Chardon, Cretois and Hourseau 1991: arctan((L* - 50) / b*), of CIE L*a*b*; very light above 55, light 41 to
    55, intermediate 28 to 41, tan 10 to 28, brown -30 to 10, dark below.
    """
    values = np.array(colour) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    y, z = (
        t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29
        for t in (float(np.dot(weights, light)) for weights in (_LUMINANCE, _BLUE))
    )
    return degrees(atan2(116 * y - 16 - 50, 200 * (y - z)))


def paint_skin(face: Face) -> None:
    """Fill the colours of the face with skin."""
    skin, found = face.scene.skin, texels(*face.place, face.step)
    world = face.scene.world
    shape = face.label.shape
    maps = np.empty((5, *shape), np.float32)
    maps[:2] = _hollows_and_flush(face.head, skin, face.across, face.y)
    blush = tile(world, "blush").of(found)
    maps[1] += (0.2 * skin.blush) * blush
    maps[2] = skin.mottle * tile(world, "mottle").of(found)
    maps[3] = skin.pores * tile(world, "pores").of(found)
    if skin.freckles:
        freckled = np.exp(-((face.y - 0.2) ** 2) * (1 / 0.35**2))
        maps[4] = skin.freckles * freckled * tile(world, "spots").of(found)
    else:
        maps[4] = 0
    _add_lines(face, maps[0])
    if (below := shade_below(face.scene)) is not None:
        depth = np.maximum(below(face.points), 0) * (1 / 0.09)
        maps[0] += 0.55 * np.exp(-depth * depth)
    # One product of matrices adds all maps to all channels.
    gains = np.array([_HOLLOW, _FLUSH, _MOTTLE, _PORES, _FRECKLES], np.float32).T
    share = (gains @ maps.reshape(5, -1)).reshape(3, *shape)
    share += 1
    np.maximum(share, 0.15, out=share)
    np.multiply(share, channels(skin.colour), out=face.colour)
    if skin.beard or skin.moustache:
        _add_beard(face, skin)


def _hollows_and_flush(
    head: Head, skin: Skin, across: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]
) -> Float32[np.ndarray, "2 h w"]:
    """Return the map of hollows, which light hardly reaches, and that of flush, where blood shows; about 0 to 1."""
    corner_y = head.mouth_y - 0.7 * head.corner_lift
    under_lip = head.mouth_y + 0.75 * head.lips_apart + head.lower_lip
    hollows = [
        (0.5, head.eye_x - 0.11, head.eye_y - 0.06, 0.09, 0.09),
        (0.28, head.eye_x + 0.02, head.eye_y - 0.1, 0.16, 0.06),
        (0.12 + 0.25 * skin.lines, head.eye_x - 0.02, head.eye_y + 0.1, 0.12, 0.04),
        (0.32, head.nose_width + 0.03, head.nose_y - 0.01, 0.05, 0.06),
        (0.5, 0.0, head.nose_y + 0.06, 0.1, 0.04),
        (0.35, 0.0, under_lip + 0.045, 0.15, 0.035),
        (0.3, head.mouth_half_width + 0.02, corner_y, 0.035, 0.045),
        (0.25, head.width, 0.45, 0.16, 0.4),
    ]
    flush = [
        (0.55 * skin.blush, head.eye_x + 0.1, head.nose_y - 0.08, 0.17, 0.14),
        (0.5 * skin.blush, 0.0, head.nose_y - 0.06, 0.11, 0.09),
        (0.25 * skin.blush, 0.0, head.chin_y - 0.12, 0.14, 0.1),
    ]
    # All bumps share one exponential; the readout adds each of them to one of the two maps.
    relief = Relief.of(hollows + flush)
    amplitudes = np.zeros((2, len(hollows + flush)), np.float32)
    amplitudes[0, : len(hollows)] = relief.readout[0, : len(hollows)]
    amplitudes[1, len(hollows) :] = relief.readout[0, len(hollows) :]
    return (amplitudes @ relief.bells(across.ravel(), y.ravel())).reshape(2, *y.shape)


def _add_lines(face: Face, hollows: Float32[np.ndarray, "h w"]) -> None:
    """Add the lines of age and of expression to the map of hollows.

    They are the fold from nose to mouth, and lines on the forehead, between the brows, on the bridge of the nose and
    beside the eyes. Each is searched in the area around it alone.
    """
    head, skin = face.head, face.scene.skin
    smile = max(head.corner_lift, 0.0) / 0.12
    fold = 0.1 + 0.3 * skin.lines + 0.5 * smile + 10 * head.nose_wrinkle
    top, bottom = head.nose_y - 0.06, head.mouth_y + 0.02
    area = face.area(head.mouth_half_width + 0.25, top, bottom, -0.5 * head.depth)
    x, y = face.across[area], face.y[area]
    along = (y - top) * (1 / (bottom - top))
    start, width = head.nose_width + 0.035, head.mouth_half_width + 0.05 - head.nose_width
    away = (x - start - width * along * along) * (1 / 0.025)
    fade = np.maximum(along * (1 - along), 0)
    hollows[area] += (2.5 * fold) * fade * np.exp(-away * away)

    # Raised brows fold the forehead into parallel waves that hang down at the sides.
    raised = max(head.brow_inner, 0.0) + max(head.brow_outer, 0.0)
    forehead = 0.3 * skin.lines + 4.0 * raised
    if forehead > 0.08:
        area = face.area(0.5, -0.62, head.brow_y - 0.1, -0.4 * head.depth)
        x, y = face.across[area], face.y[area]
        waves = np.sin((2 * np.pi / 0.085) * (y + 0.12 * x * x)) - 0.3
        hollows[area] += (0.8 * forehead) * np.maximum(waves, 0) * np.maximum(1 - 4 * x * x, 0)
    if head.brow_knit > 0.008:  # knit brows: one upright line on each side of the mid-plane
        area = face.area(0.12, head.brow_y - 0.12, head.eye_y - 0.02, -0.7 * head.depth)
        x, y = (face.across[area] - 0.05) * (1 / 0.02), (face.y[area] - head.brow_y - 0.03) * (1 / 0.09)
        hollows[area] += (14 * head.brow_knit) * np.exp(-x * x - y * y)
    if head.nose_wrinkle > 0.008:  # a wrinkled nose: waves across its bridge
        area = face.area(0.2, head.eye_y - 0.06, head.eye_y + 0.2, -0.7 * head.depth)
        x, y = face.across[area] * (1 / 0.13), face.y[area] - head.eye_y
        waves = np.maximum(np.sin((2 * np.pi / 0.07) * (y + 0.05 * x)) - 0.1, 0)
        hollows[area] += (16 * head.nose_wrinkle) * waves * np.maximum(1 - x * x, 0)
    # Crow's feet: a fan of rays from the outer corner of the eye.
    crow = 0.3 * skin.lines + 14 * head.cheek_raise
    if crow > 0.1:
        outer = head.eye_x + head.eye_width
        area = face.area(outer + 0.15, head.eye_y - 0.1, head.eye_y + 0.1, 0.0)
        x, y = face.across[area] - outer, face.y[area] - head.eye_y
        fan = np.sin(24 * np.arctan2(y, x + 0.06)) * np.maximum(x * (0.14 - x) * 150, 0) * (np.abs(y) < 0.09)
        hollows[area] += (0.3 * crow) * np.maximum(fan, 0)


def _add_beard(face: Face, skin: Skin) -> None:
    """Add hair on jaw and chin up to the ears, and over the lip."""
    head = face.head
    area = face.area(1.0, head.nose_y - 0.4, 1.4)
    x, y = face.across[area], face.y[area]
    across, down = (place[area] for place in face.place)
    noise = tile(face.scene.world, "pores").at(1.3 * across, 0.7 * down, face.step)
    rough = np.maximum(1 + 0.35 * noise, 0)
    corner = head.mouth_half_width
    share = np.zeros_like(x)
    if skin.beard:
        # The upper edge rises from the corners of the mouth to the ears, and runs below the lower lip between them.
        edge = head.mouth_y + 0.02 - 1.1 * np.maximum(x - corner - 0.03, 0) + 1.6 * np.maximum(corner - x, 0) * (x > 0)
        edge = np.where(x < corner, np.minimum(edge, head.mouth_y + head.lower_lip + 0.045), edge)
        share = skin.beard * smoothstep((y - edge) * (1 / 0.07)) * (x < BEHIND)
    if skin.moustache:
        lip = head.mouth_y - head.upper_lip
        down = (y - 0.5 * (head.nose_y + 0.05 + lip) - 0.9 * np.maximum(x - 0.12, 0) ** 1.5) * (1 / 0.075)
        ends = np.minimum(np.maximum((corner + 0.06 - x) * (1 / 0.06), 0), 1)
        share = np.maximum(share, skin.moustache * ends * np.exp(-(down**4)))
    face.tint(area, np.minimum(share * rough, 1), skin.hair)
