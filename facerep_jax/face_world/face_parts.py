"""Nose, mouth, eyes, brows and glasses: painted over the skin and labelled.

Each is given by signed distances in the frontal plane: how far a point lies inside of an outline, in head units. The
minimum of two of them is the intersection of what they bound, the maximum is the union.
"""

from math import copysign

import numpy as np
from jaxtyping import Float, Integer

from facerep_jax.face_world.layers import (
    BEHIND,
    BROW,
    EYE,
    INNER_MOUTH,
    LOWER_LIP,
    NOSE,
    UPPER_LIP,
    Face,
    Layer,
    covered_share,
    limited,
)
from facerep_jax.face_world.scene import Glasses
from facerep_jax.face_world.shapes import Colour, scaled
from facerep_jax.face_world.textures import tile

EYE_WHITE: Colour = (212.0, 204.0, 198.0)
GLINT: Colour = (255.0, 255.0, 255.0)
PUPIL: Colour = (10.0, 9.0, 9.0)
LASHES: Colour = (24.0, 17.0, 15.0)
LENS: Colour = (225.0, 232.0, 240.0)
SHADE: Colour = (30.0, 28.0, 30.0)
MOUTH: Colour = (48.0, 14.0, 16.0)
TONGUE: Colour = (150.0, 74.0, 74.0)
TEETH: Colour = (224.0, 216.0, 200.0)


def paint_face_parts(face: Face) -> None:
    """Paint all parts of the face over the skin."""
    _paint_nose(face)
    _paint_mouth(face)
    _paint_eyes_and_brows(face)
    if face.scene.glasses:
        _paint_glasses(face, face.scene.glasses)


def _paint_nose(face: Face) -> None:
    """Label the nose, which has the colour of the skin, and darken its nostrils."""
    head = face.head
    area = face.area(head.nose_width + 0.1, head.eye_y, head.nose_y + 0.06, -0.7 * head.depth)
    x, y = face.across[area], face.y[area]
    np.copyto(face.label[area], NOSE, where=x < head.nose_half_width(y))
    right, down = (x - 0.45 * head.nose_width) * (1 / 0.048), (y - head.nose_y - 0.008) * (1 / 0.022)
    nostril = 1 - np.sqrt(right * right + down * down)
    face.tint(area, 0.85 * covered_share(nostril * (0.03 / face.plane.pixel)), scaled(face.scene.skin.colour, 0.25))


def _paint_mouth(face: Face) -> None:
    """Paint lips, their shine and seam, and if they part the inside of the mouth with teeth and tongue."""
    head, lip = face.head, face.scene.skin.lip
    half = head.mouth_half_width
    area = face.area(half, head.mouth_y - 0.2, head.chin_y, -0.6 * head.depth)
    across, y = face.across[area] * (1 / half), face.y[area]
    ends = (1 - across) * half
    outer_top, inner_top, inner_bottom, outer_bottom = head.lips(np.minimum(across, 1))
    upper, lower = np.minimum(y - outer_top, inner_top - y), np.minimum(y - inner_bottom, outer_bottom - y)
    # The seam belongs to the lips, so that no skin shows between them when they are closed.
    seam = np.minimum(0.012 - np.abs(y - inner_top), ends)
    shine = np.minimum(
        0.25 * head.lower_lip - np.abs(y - inner_bottom - 0.45 * head.lower_lip), 0.4 * half * (0.6 - across)
    )
    layers = [
        Layer(np.minimum(upper, ends), scaled(lip, 0.8), label=UPPER_LIP),
        Layer(np.minimum(lower, ends), lip, label=LOWER_LIP),
        Layer(shine, scaled(lip, 1.25), 0.5),
        Layer(seam, scaled(lip, 0.4), 0.85, np.where(y < inner_top, UPPER_LIP, LOWER_LIP)),
    ]
    if head.lips_apart > 0.004:
        # The further the mouth opens or smiles, the more of the teeth hangs into the gap; a shadow lies on their top.
        gap = np.minimum(np.minimum(y - inner_top, inner_bottom - y), ends)
        shown = 0.03 + 0.35 * head.lips_apart + 0.2 * max(head.corner_lift, 0.0)
        teeth = np.minimum(gap, inner_top + shown - y)
        layers += [Layer(gap, MOUTH, label=INNER_MOUTH)]
        if head.lips_apart > 0.09:
            layers += [Layer(np.minimum(gap, y - inner_bottom + 0.05), TONGUE, 0.6)]
        layers += [Layer(teeth, TEETH, 0.92), Layer(np.minimum(teeth, inner_top + 0.012 - y), MOUTH, 0.5)]
    face.lay(area, *layers)


def _paint_eyes_and_brows(face: Face) -> None:
    """Paint eyes and brows in one pass, as their areas nearly coincide."""
    head = face.head
    top = head.brow_y - max(head.brow_inner, head.brow_outer, 0.0) - 0.2
    area = face.area(head.brow_ends[1], top, head.eye_y + 0.12, -0.4 * head.depth)
    x, across, y = face.x[area], face.across[area], face.y[area]
    right = x >= 0
    right_of, down = face.place
    hairs = tile(face.scene.world, "pores").at(right_of[area], down[area], face.step)
    brows = _brows(face, across, y, right + BROW, hairs)
    face.lay(area, brows, *_eyes(face, x, across - head.eye_x, y, right + EYE))


def _brows(
    face: Face,
    across: Float[np.ndarray, "h w"],
    y: Float[np.ndarray, "h w"],
    label: Integer[np.ndarray, "h w"],
    hairs: Float[np.ndarray, "h w"],
) -> Layer:
    """Return the layer of both brows; `hairs` is noise that frays their edge."""
    inner, outer = face.head.brow_ends
    middle, thickness = face.head.brow(limited((across - inner) / (outer - inner), 0, 1))
    inside = np.minimum(thickness - np.abs(y - middle), np.minimum(across - inner, outer - across))
    # Hairs and not a bar: the edge of the colour is about 0.02 wide. The label keeps a sharp edge.
    soft = 0.6 / (1 + 0.02 / face.plane.pixel)
    return Layer((inside + 0.004 * hairs) * (0.4 + soft), scaled(face.scene.skin.hair, 0.6), 0.8, label)


def _eyes(
    face: Face,
    x: Float[np.ndarray, "h w"],
    outward: Float[np.ndarray, "h w"],
    y: Float[np.ndarray, "h w"],
    label: Integer[np.ndarray, "h w"],
) -> list[Layer]:
    """Return the layers of both eyes; `outward` is how far points lie beyond the middle of their eye."""
    head, scene, reach = face.head, face.scene, face.head.eye_width
    across = np.abs(outward) * (1 / reach)
    upper, lower = head.lids(limited(outward * (1 / reach), -1, 1))
    ends = (1 - across) * reach
    inside = np.minimum(np.minimum(y - upper, lower - y), ends)
    dark = scaled(scene.skin.colour, 0.4)
    crease = Layer(np.minimum(0.01 - np.abs(y - upper + 0.045), ends - 0.05 * reach), dark, 0.45)
    if head.eyes_closed:
        lashes = np.minimum(0.016 - np.abs(y - lower + 0.012), inside + 0.02)
        return [crease, Layer(inside, dark, 0.25, label), Layer(lashes, LASHES, 0.9)]
    # Both eyes look into the same direction: the gaze is added in x, which is not mirrored between them.
    iris = 0.42 * reach
    right, down = x - np.copysign(np.float32(head.eye_x), x) - scene.gaze_x, y - (head.eye_y + scene.gaze_y - 0.012)
    from_pupil = np.sqrt(right * right + down * down)
    # The glint is the mirror image of the lamp: it lies towards it, above the pupil.
    right, down = right - copysign(0.02, scene.light.towards[0]), down + 0.02
    from_glint = np.sqrt(right * right + down * down)
    return [
        crease,
        Layer(inside, EYE_WHITE, 0.84, label),
        Layer(np.minimum(iris - from_pupil, inside), scaled(scene.iris, 0.45)),
        Layer(np.minimum(iris - 0.012 - from_pupil, inside), scene.iris),
        Layer(np.minimum(0.42 * iris - from_pupil, inside), PUPIL),
        Layer(np.minimum(0.03 - (y - upper), inside), SHADE, 0.4),  # of the upper lid
        Layer(np.minimum(0.013 - from_glint, inside), GLINT, 0.9),
        Layer(np.minimum(0.006 - np.abs(y - lower), ends), dark, 0.5),
        Layer(np.minimum(0.014 - np.abs(y - upper), ends + 0.01), LASHES, 0.85),
    ]


def _paint_glasses(face: Face, glasses: Glasses) -> None:
    """Paint lenses, rims, bridge and temples; labels stay as they are."""
    head, rim = face.head, glasses.rim
    middle_y, wide, high = head.eye_y + 0.02, head.eye_x - 0.055, glasses.height
    area = face.area(1.0, middle_y - 0.3, middle_y + 0.3)
    x, y = face.across[area], face.y[area] - middle_y
    right, down = (x - head.eye_x) * (1 / wide), y * (1 / high)
    right, down = right * right, down * down
    # An ellipse, or a superellipse of the fourth degree: a rectangle with round corners.
    radius = np.sqrt(np.sqrt(right * right + down * down)) if glasses.square else np.sqrt(right + down)
    bridge = np.minimum(rim - np.abs(y + 0.05), 0.08 - x)
    temple = np.minimum(rim - np.abs(y + 0.03), np.minimum(x - (head.eye_x + wide), BEHIND - 1 - x))
    frame = np.maximum(rim - np.abs(radius - 1) * high, np.maximum(bridge, temple))
    lens = SHADE if glasses.tint > 0.2 else LENS
    face.lay(area, Layer((1 - radius) * high, lens, glasses.tint), Layer(frame, glasses.colour, 0.95))
