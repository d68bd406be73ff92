"""The plain parameters of one generated face, what is true of it, and its mirror image."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from math import radians

import numpy as np

from facerep_jax.face_world.action_units import Units
from facerep_jax.face_world.backdrop import Backdrop
from facerep_jax.face_world.geometry import Head, rotation
from facerep_jax.face_world.shapes import Colour, Shape

HAIR_COLOURS: dict[str, Colour] = {
    "black": (30, 25, 25),
    "brown": (92, 60, 38),
    "blond": (206, 168, 108),
    "grey": (158, 158, 162),
}
ATTRIBUTES = (
    *("smiling", "mouth_open", "eyes_closed", "glasses", "beard", "moustache", "hat", "earrings", "freckles"),
    *("bushy_brows", "fringe", "long_hair", "curly_hair", "bald", "black_hair", "brown_hair", "blond_hair"),
    *("grey_hair", "hand", "facing_left", "facing_right"),
)
BUSHY = 0.04  # half a brow's thickness, in head units
FRINGE = -0.5  # lowest height of a hairline that is none, in head units
TURNED = radians(20)
SMILE = 2.0  # intensity of AU12 from which a face is called smiling
_AU12 = 6  # its place among the action units


@dataclass(frozen=True)
class Skin:
    """Skin and what grows on it. Strengths are about 0 to 1."""

    colour: Colour
    lip: Colour
    hair: Colour  # of brows and beard
    place: tuple[float, float]  # of the middle of the face on the tiles, in texels
    mottle: float
    pores: float
    blush: float
    freckles: float  # 0 for none
    lines: float  # of age
    beard: float  # density on jaw and chin, 0 for none
    moustache: float


@dataclass(frozen=True)
class Hair:
    """Hair on the head. Lengths and heights are in head units, heights point down."""

    name: str  # a key of HAIR_COLOURS
    colour: Colour
    volume: float  # thickness over the skull
    lift: float  # how much more of it above
    length: float  # height at which it ends beside the face
    hairline: float  # height of its front edge
    temples: float  # how far the front edge recedes there
    parting: float  # how far the front edge rises to the image's right
    curl: float  # 0 straight strands, 1 curls
    wave: float  # how far strands swing sideways
    sheen: float
    back: float  # height at which the hair behind the face ends; 0 for none
    bun: float  # radius, 0 for none
    place: tuple[float, float]  # on the tile of strands, in texels


@dataclass(frozen=True)
class Glasses:
    """Spectacles; lengths in head units."""

    colour: Colour
    rim: float
    height: float  # half of it
    square: bool
    tint: float  # how much the lenses darken


@dataclass(frozen=True)
class Hat:
    """A hat without a brim, with one all around, or with a peak."""

    kind: str  # "beanie", "brimmed", "peaked"
    colour: Colour
    brim: float  # how far it stands out, in head units


@dataclass(frozen=True)
class Clothes:
    """What covers the shoulders."""

    kind: str  # "plain", "striped", "suit", "open"
    colour: Colour
    second: Colour
    slope: float  # how steeply the shoulders fall


@dataclass(frozen=True)
class Light:
    """A distant lamp and light from everywhere."""

    towards: tuple[float, float, float]  # direction to the lamp in camera axes, unit
    colour: Colour  # about 1
    ambient: float  # share of the light that comes from everywhere
    ambient_colour: Colour  # about 1


@dataclass(frozen=True)
class Photo:
    """What camera and file do to the picture."""

    blur: float  # standard deviation, as a share of the image's side
    noise: float  # standard deviation of a pixel's brightness, 0 to 255
    chroma: float  # the same of its colours
    grain: int  # pixels of a side of a grain of noise
    gain: Colour  # about 1
    gamma: float
    vignette: float  # how much darker the corners are, as a share
    quality: int  # of JPEG
    subsampling: str  # of JPEG's colours
    places: tuple[tuple[int, int], ...]  # of brightness's noise and three colours' on the tile of grain


@dataclass(frozen=True)
class Scene:
    """One face and all that surrounds it. Angles in radians; places and sizes are shares of the image, 0 to 1."""

    world: int  # whose textures it has
    identity: str
    session: int  # which of the identity's sessions
    frame: int  # place in the session
    head: Head
    units: Units  # that gave `head` its expression
    yaw: float  # positive to the image's right
    pitch: float  # positive down
    roll: float  # positive clockwise
    scale: float  # half the head's height
    x: float  # of the head's middle
    y: float
    light: Light
    skin: Skin
    iris: Colour
    gaze_x: float  # of the irises, in head units
    gaze_y: float
    hair: Hair | None
    glasses: Glasses | None
    hat: Hat | None
    earrings: Colour | None
    clothes: Clothes
    backdrop: Backdrop
    occluder: tuple[Shape, ...]  # in front of the person, from back to front
    hand: bool  # whether the occluder is a hand
    photo: Photo
    mirrored: bool = False  # whether textures, backdrop and noise change sides
    captions: tuple[str, ...] = ()
    oracle: str = ""

    @cached_property
    def turn(self) -> np.ndarray:
        """The rotation (3, 3) from head to camera axes."""
        return rotation(self.yaw, self.pitch, self.roll)


def attributes(scene: Scene) -> dict[str, bool]:
    """What holds of the scene, in the order of `ATTRIBUTES`, whether or not something covers it."""
    head, hair = scene.head, scene.hair
    named = {
        "smiling": scene.units[_AU12] >= SMILE,
        "mouth_open": head.mouth_open,
        "eyes_closed": head.eyes_closed,
        "glasses": scene.glasses is not None,
        "beard": scene.skin.beard > 0,
        "moustache": scene.skin.moustache > 0,
        "hat": scene.hat is not None,
        "earrings": scene.earrings is not None,
        "freckles": scene.skin.freckles > 0,
        "bushy_brows": head.brow_thickness > BUSHY,
        "fringe": hair is not None and hair.hairline > FRINGE and scene.hat is None,
        "long_hair": hair is not None and hair.back > 0,
        "curly_hair": hair is not None and hair.curl > 0.5,
        "bald": hair is None,
        **{f"{name}_hair": hair is not None and hair.name == name for name in HAIR_COLOURS},
        "hand": scene.hand,
        "facing_left": scene.yaw < -TURNED,
        "facing_right": scene.yaw > TURNED,
    }
    return {name: named[name] for name in ATTRIBUTES}


def mirror(scene: Scene) -> Scene:
    """The scene as seen in a mirror: left and right change places, in captions too."""
    across, up, towards = scene.light.towards
    return replace(
        scene,
        yaw=-scene.yaw,
        roll=-scene.roll,
        x=1 - scene.x,
        light=replace(scene.light, towards=(-across, up, towards)),
        hair=scene.hair and replace(scene.hair, parting=-scene.hair.parting),
        gaze_x=-scene.gaze_x,
        occluder=tuple(shape.mirrored() for shape in scene.occluder),
        mirrored=not scene.mirrored,
        captions=tuple(sides_changed(caption) for caption in scene.captions),
        oracle=sides_changed(scene.oracle),
    )


def sides_changed(caption: str) -> str:
    """The caption with the words left and right exchanged."""
    return re.sub(r"\b(left|right)\b", lambda side: {"left": "right", "right": "left"}[side[0]], caption)
