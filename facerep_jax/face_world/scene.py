"""The parameters of one generated face as plain data, its attributes, and its mirror image."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from math import radians

import numpy as np
from jaxtyping import Float32

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
BUSHY = 0.04  # half the thickness above which brows are called bushy, in head units
FRINGE = -0.5  # height below which a hairline is called a fringe, in head units
TURNED = radians(20)  # yaw beyond which a face is called facing left or right
SMILE = 2.0  # intensity of AU12 from which a face is called smiling
_AU12 = 6  # place of AU12 in ACTION_UNITS


@dataclass(frozen=True)
class Skin:
    """Skin and the hair that grows on it. Strengths are about 0 to 1."""

    colour: Colour
    lip: Colour
    hair: Colour  # of brows and beard
    place: tuple[float, float]  # of the middle of the face on the tiles of texture, in texels
    mottle: float
    pores: float
    blush: float
    freckles: float  # 0 for none
    lines: float  # strength of the lines of age
    beard: float  # density on jaw and chin, 0 for none
    moustache: float


@dataclass(frozen=True)
class Hair:
    """Hair on the head. Lengths and heights are in head units; heights point down."""

    name: str  # a key of HAIR_COLOURS
    colour: Colour
    volume: float  # thickness over the skull
    lift: float  # additional thickness above the skull
    length: float  # height at which the hair ends beside the face
    hairline: float  # height of its front edge
    temples: float  # how far the front edge recedes at the temples
    parting: float  # how far the front edge rises to the right of the image
    curl: float  # 0 straight strands, 1 curls
    wave: float  # how far strands swing sideways
    sheen: float
    back: float  # height at which the hair behind the face ends; 0 for none
    bun: float  # radius of the bun; 0 for none
    place: tuple[float, float]  # of the hair on the tile of strands, in texels


@dataclass(frozen=True)
class Glasses:
    """Spectacles. Lengths are in head units."""

    colour: Colour
    rim: float  # half the thickness of the frame
    height: float  # half the height of a lens
    square: bool  # whether lenses are rectangles with round corners; otherwise ellipses
    tint: float  # how much the lenses darken


@dataclass(frozen=True)
class Hat:
    """A hat without a brim, with one all around, or with a peak."""

    kind: str  # "beanie", "brimmed", "peaked"
    colour: Colour
    brim: float  # how far brim or peak stand out, in head units


@dataclass(frozen=True)
class Clothes:
    """Clothes on the shoulders."""

    kind: str  # "plain", "striped", "suit", "open"
    colour: Colour
    second: Colour  # of stripes and ties
    slope: float  # how steeply the shoulders fall


@dataclass(frozen=True)
class Light:
    """A distant lamp, and light that comes from everywhere."""

    towards: tuple[float, float, float]  # unit vector to the lamp, in camera axes
    colour: Colour  # each channel about 1
    ambient: float  # share of the light that comes from everywhere
    ambient_colour: Colour  # each channel about 1


@dataclass(frozen=True)
class Photo:
    """The way in which camera and file change the picture."""

    blur: float  # standard deviation, as a share of the side of the image
    noise: float  # standard deviation of the brightness of a pixel, of 255
    chroma: float  # noise of the colours, as a share of that of the brightness
    grain: int  # side of a grain of noise, in pixels
    gain: Colour  # exposure of each channel, about 1
    gamma: float
    vignette: float  # how much darker the corners are, as a share
    quality: int  # of the JPEG file
    subsampling: str  # of the colours in the JPEG file, "444" or "420"
    places: tuple[tuple[int, int], ...]  # on the tile of grain: of the noise of brightness, then of three colours


@dataclass(frozen=True)
class Scene:
    """One face and all that surrounds it. Angles are in radians; places and sizes are shares of the image, 0 to 1."""

    world: int  # number of the world whose textures it uses
    identity: str  # label of the person
    session: int  # number of the session of the person
    frame: int  # place in the session
    head: Head
    units: Units  # the action units that gave `head` its expression
    yaw: float  # positive to the right of the image
    pitch: float  # positive down
    roll: float  # positive clockwise
    scale: float  # half the height of the head, which is the head unit
    x: float  # of the middle of the head
    y: float  # the same
    light: Light
    skin: Skin
    iris: Colour
    gaze_x: float  # how far the irises are moved to the right of the image, in head units
    gaze_y: float  # the same downwards
    hair: Hair | None
    glasses: Glasses | None
    hat: Hat | None
    earrings: Colour | None  # None for no earrings
    clothes: Clothes
    backdrop: Backdrop
    occluder: tuple[Shape, ...]  # what is in front of the person, from back to front
    hand: bool  # whether the occluder is a hand
    photo: Photo
    mirrored: bool = False  # whether textures, backdrop and noise are mirrored
    captions: tuple[str, ...] = ()
    oracle: str = ""  # the caption that tells every attribute

    @cached_property
    def turn(self) -> Float32[np.ndarray, "3 3"]:
        """The rotation from head coordinates to camera axes."""
        return rotation(self.yaw, self.pitch, self.roll)


def attributes(scene: Scene) -> dict[str, bool]:
    """Return which of `ATTRIBUTES` hold of the scene, in their order, whether or not something covers them."""
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
    """Return the mirror image of the scene: left and right change places, in captions too."""
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
    """Return the caption with the words "left" and "right" exchanged."""
    return re.sub(r"\b(left|right)\b", lambda side: {"left": "right", "right": "left"}[side[0]], caption)
