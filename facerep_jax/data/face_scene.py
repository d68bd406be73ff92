"""The plain parameters of one generated face: how they are drawn, mirrored, and told in words."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import cos, inf, pi, radians, sin, sqrt
from typing import Any, TypeVar

import numpy as np

from facerep_jax.data.face_geometry import Head, rotation

Colour = tuple[float, float, float]  # RGB, 0 to 255
_Number = int | float
_T = TypeVar("_T")

IMAGES_PER_IDENTITY = 4
HAIR_COLOURS: dict[str, Colour] = {
    "black": (30, 25, 25),
    "brown": (98, 62, 38),
    "blond": (214, 176, 108),
    "grey": (168, 168, 172),
}
ATTRIBUTES = (
    *("smiling", "mouth_open", "eyes_closed", "glasses", "beard", "hat", "fringe", "long_hair", "bald"),
    *("black_hair", "brown_hair", "blond_hair", "grey_hair", "facing_left", "facing_right"),
)

_PLACES = (
    *("at the park", "at the office", "at a wedding", "on stage at the festival", "at the press conference"),
    *("in the city", "at home", "at the airport", "during the match", "at the premiere", "in the classroom"),
)
_SUBJECTS = ("a person", "a person", "someone", "an actor", "a guest", "a student", "a musician", "a tourist")
_OPENINGS = ("photo of", "portrait of", "a picture of", "close-up of", "headshot of", "")
_WITH = {  # what a person has
    "glasses": ("glasses", "eyeglasses", "spectacles"),
    "beard": ("a beard", "facial hair", "a full beard"),
    "hat": ("a hat", "a hat on", "a knitted hat"),
    "fringe": ("a fringe", "bangs"),
    "long_hair": ("long hair", "hair down to the shoulders"),
    "bald": ("a bald head", "no hair"),
    "black_hair": ("black hair", "dark black hair"),
    "brown_hair": ("brown hair", "brunette hair"),
    "blond_hair": ("blond hair", "blonde hair"),
    "grey_hair": ("grey hair", "gray hair"),
}
_DOING = {  # what a person does
    "smiling": ("smiling", "with a big smile", "smiling at the camera"),
    "mouth_open": ("mouth open", "with an open mouth", "talking"),
    "eyes_closed": ("eyes closed", "with closed eyes"),
    "facing_left": ("facing left", "looking to the left", "turned to the left"),
    "facing_right": ("facing right", "looking to the right", "turned to the right"),
}
WORDINGS = {**_WITH, **_DOING}  # attribute -> the phrases that name it; no phrase names anything else


@dataclass(frozen=True)
class Shape:
    """A shape drawn flat into the image: an ellipse, or a rectangle if `corners`. Lengths are shares of the image."""

    x: float
    y: float
    width: float  # half of it
    height: float
    turn: float  # radians, clockwise
    corners: bool
    colour: Colour
    softness: float  # of the edge


@dataclass(frozen=True)
class Scene:
    """One face and all that surrounds it. Angles in radians; places and sizes are shares of the image, 0 to 1."""

    identity: str
    head: Head
    yaw: float  # positive to the image's right
    pitch: float  # positive down
    roll: float  # positive clockwise
    scale: float  # half the head's height
    x: float  # of the head's middle
    y: float
    light: tuple[float, float, float]  # direction towards it in camera axes, unit
    light_colour: Colour  # about 1
    ambient: float
    skin: Colour
    lip: Colour
    iris: Colour
    hair: Colour
    hair_name: str  # a key of HAIR_COLOURS, or "" for none
    hair_volume: float  # thickness over the skull, in head units
    hair_length: float  # height at which it ends beside the face, in head units; above 1: long
    hairline: float  # height of its front edge, in head units
    parting: float  # how far the front edge rises to the image's right, in head units
    gaze_x: float  # of the irises, in head units
    gaze_y: float
    beard: float  # 0 none, up to 1 dense
    glasses: Colour | None
    hat: Colour | None
    brim: float  # of the hat in head units, 0 none
    shirt: Colour
    backdrop: np.ndarray  # (3, rows, columns), a coarse grid of colours, interpolated
    shapes: tuple[Shape, ...]  # behind the person
    occluder: Shape | None  # in front of it
    noise: float  # standard deviation of the pixels' noise, 0 to 255
    noise_seed: int
    captions: tuple[str, ...]

    @cached_property
    def turn(self) -> np.ndarray:
        """The rotation (3, 3) from head to camera axes."""
        return rotation(self.yaw, self.pitch, self.roll)


class _Dice:
    """Random numbers one at a time, drawn many at a time: a call to a generator costs more than a hundred numbers."""

    def __init__(self, *seed: int):
        rng = np.random.default_rng(seed)
        self._uniforms = _endless(rng.random)
        self._normals = _endless(rng.standard_normal)

    def between(self, low: _Number, high: _Number) -> float:
        return low + (high - low) * next(self._uniforms)

    def normal(self, mean: _Number, deviation: _Number, low: _Number = -inf, high: _Number = inf) -> float:
        return float(min(max(mean + deviation * next(self._normals), low), high))

    def normals(self, deviation: _Number, count: int) -> np.ndarray:
        return deviation * np.array([next(self._normals) for _ in range(count)])

    def happens(self, probability: float) -> bool:
        return next(self._uniforms) < probability

    def one_of(self, options: Sequence[_T]) -> _T:
        return options[int(next(self._uniforms) * len(options))]

    def shuffled(self, values: Iterable[_T]) -> list[_T]:
        return sorted(values, key=lambda _: next(self._uniforms))


def _endless(numbers: Callable[[int], np.ndarray]) -> Iterator[float]:
    while True:
        yield from numbers(128).tolist()


def draw(seed: int, index: int) -> Scene:
    """The scene of (seed, index); consecutive groups of `IMAGES_PER_IDENTITY` indices share an identity."""
    number = index // IMAGES_PER_IDENTITY
    person = _identity(seed, number)
    dice = _Dice(seed, index)
    between = dice.between

    head = Head(
        **person.shape,
        smile=between(0.45, 1) if dice.happens(0.4) else between(-0.4, 0.2),
        mouth_opening=between(0.045, 0.1) if dice.happens(0.3) else 0.0,
        eye_opening=0.0 if dice.happens(0.1) else between(0.4, 1),
        brow_raise=dice.normal(0, 0.015),
    )
    yaw = radians(dice.normal(0, 28, -60, 60))
    scale = between(0.25, 0.33)
    across, up = dice.normal(0, 0.7), dice.normal(-0.6, 0.4)
    distance = sqrt(across**2 + up**2 + 1)
    fringe = person.hairline > -0.5
    hat = dice.happens(0.15)
    scene = Scene(
        identity=f"{seed}-{number:07d}",
        head=head,
        yaw=yaw,
        pitch=radians(dice.normal(0, 8, -20, 20)),
        roll=radians(dice.normal(0, 7, -25, 25)),
        scale=scale,
        x=0.5 + between(-0.06, 0.06) - 0.05 * sin(yaw),
        y=0.47 + between(-0.05, 0.05),
        light=(across / distance, up / distance, -1 / distance),
        light_colour=_colour(between(0.9, 1.1) * (1 + dice.normals(0.04, 3))),
        ambient=between(0.38, 0.6),
        skin=person.skin,
        lip=person.lip,
        iris=person.iris,
        hair=person.hair,
        hair_name=person.hair_name,
        hair_volume=min(person.hair_volume, 0.08) if hat else person.hair_volume,
        hair_length=person.hair_length,
        hairline=min(person.hairline, -0.5) if hat else person.hairline,
        parting=between(-0.12, 0.12) if fringe else between(-0.06, 0.06),
        gaze_x=dice.normal(0, 0.025, -0.05, 0.05),
        gaze_y=dice.normal(0, 0.01, -0.02, 0.02),
        beard=person.beard,
        glasses=_muted(dice, 10, 90) if dice.happens(0.22) else None,
        hat=_muted(dice, 25, 190) if hat else None,
        brim=between(0.3, 0.45) if dice.happens(0.4) else 0.0,
        shirt=_muted(dice, 25, 190),
        backdrop=_backdrop(dice),
        shapes=tuple(_background_shape(dice) for _ in range(dice.one_of((1, 2, 3)))),
        occluder=_occluder(dice, scale) if dice.happens(0.08) else None,
        noise=between(0.5, 3),
        noise_seed=int(between(0, 2**31)),
        captions=(),
    )
    named = attributes(scene)
    return replace(scene, captions=tuple(_caption(dice, named) for _ in range(dice.one_of((1, 2)))))


@lru_cache(maxsize=16)
def _identity(seed: int, number: int) -> "_Identity":
    return _Identity(_Dice(seed, 1, number))


class _Identity:
    """What the images of one person share."""

    def __init__(self, dice: _Dice):
        between = dice.between
        eye_y, nose_y = between(-0.04, 0.05), between(0.36, 0.45)
        self.shape = {
            "width": between(0.68, 0.78),
            "depth": between(0.8, 0.9),
            "chin": between(0.98, 1.12),
            "jaw": between(0.0, 0.55),
            "eye_x": between(0.275, 0.32),
            "eye_y": eye_y,
            "eye_width": between(0.125, 0.155),
            "eye_tilt": between(-0.008, 0.022),
            "brow_y": eye_y - between(0.17, 0.21),
            "brow_arch": between(0.01, 0.045),
            "brow_thickness": between(0.022, 0.042),
            "nose_y": nose_y,
            "nose_width": between(0.14, 0.19),
            "nose_relief": between(0.75, 1.25),
            "mouth_y": nose_y + between(0.22, 0.27),
            "mouth_width": between(0.22, 0.28),
            "upper_lip": between(0.04, 0.07),
            "lower_lip": between(0.055, 0.09),
        }
        tone = between(0.0, 1.0)  # from dark to light skin
        skin = np.array([70, 42, 28]) * (1 - tone) + np.array([246, 208, 184]) * tone
        skin = skin * (1 + dice.normals(0.03, 3)) + np.array([14, 6, 0]) * sin(pi * tone)
        self.skin = _colour(skin)
        self.lip = _colour(skin * 0.62 + np.array([80, 22, 30]) * between(0.6, 1.1))
        self.iris = _colour(dice.one_of(((70, 42, 25), (95, 70, 40), (80, 110, 130), (75, 100, 70))))
        name = dice.one_of(tuple(HAIR_COLOURS))
        self.hair = _colour(np.array(HAIR_COLOURS[name]) * between(0.8, 1.2))
        kind = between(0, 1)
        bald, long = kind < 0.08, kind > 0.6
        self.hair_name = "" if bald else name
        self.hair_volume = between(0.08, 0.2) if long else between(0.04, 0.16)
        self.hair_length = between(1.1, 1.8) if long else between(0.0, 0.35)
        self.hairline = between(-0.4, -0.3) if dice.happens(0.3) and not bald else between(-0.72, -0.55)
        self.beard = between(0.45, 0.95) if not long and dice.happens(0.4) else 0.0


def _colour(values: Iterable[Any]) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _muted(dice: _Dice, darkest: _Number = 25, lightest: _Number = 215) -> Colour:
    """A colour as things have it: grey, mostly little tinted."""
    grey, tint = dice.between(darkest, lightest), 42 * dice.between(0, 1) ** 2
    red, green, blue = (dice.normal(grey, tint, max(8, grey - 60), min(245, grey + 60)) for _ in range(3))
    return red, green, blue


def _backdrop(dice: _Dice) -> np.ndarray:
    base = np.array(_muted(dice)).reshape(3, 1, 1)
    grid = base + dice.normals(30, 16).reshape(4, 4) + dice.normals(8, 48).reshape(3, 4, 4)
    return np.minimum(np.maximum(grid, 5), 250).astype(np.float32)


def _background_shape(dice: _Dice) -> Shape:
    between = dice.between
    x, y, width, height = between(0, 1), between(0, 1), between(0.05, 0.35), between(0.05, 0.35)
    turn, softness = between(-0.6, 0.6), between(0.0, 0.06)
    return Shape(x, y, width, height, turn, dice.happens(0.5), _muted(dice), softness)


def _occluder(dice: _Dice, scale: float) -> Shape:
    """A hand-sized patch that reaches into the lower face or the side of it."""
    angle = dice.between(-0.2, pi + 0.2)
    x, y = 0.5 + scale * cos(angle), 0.5 + scale * sin(angle)
    width, height = scale * dice.between(0.25, 0.6), scale * dice.between(0.25, 0.6)
    return Shape(x, y, width, height, dice.between(-1, 1), dice.happens(0.5), _muted(dice), softness=0.0)


def attributes(scene: Scene) -> dict[str, bool]:
    """What holds of the scene, in the order of `ATTRIBUTES`."""
    named = {
        "smiling": scene.head.smile > 0.4,
        "mouth_open": scene.head.mouth_opening > 0.03,
        "eyes_closed": scene.head.eyes_closed,
        "glasses": scene.glasses is not None,
        "beard": scene.beard > 0,
        "hat": scene.hat is not None,
        "fringe": scene.hair_name != "" and scene.hairline > -0.5,
        "long_hair": scene.hair_name != "" and scene.hair_length > 1,
        "bald": scene.hair_name == "",
        **{f"{name}_hair": scene.hair_name == name for name in HAIR_COLOURS},
        "facing_left": scene.yaw < radians(-20),
        "facing_right": scene.yaw > radians(20),
    }
    return {name: named[name] for name in ATTRIBUTES}


def _caption(dice: _Dice, named: dict[str, bool]) -> str:
    """A caption as found on the web: one in five names only a place, the others some of what is true."""
    start = f"{dice.one_of(_OPENINGS)} {dice.one_of(_SUBJECTS)}".strip()
    place = dice.one_of(_PLACES)
    if dice.happens(0.2):
        return f"{start} {place}"
    true = [name for name in ATTRIBUTES if named[name]]
    told = dice.shuffled([name for name in true if dice.happens(0.6)] or [dice.one_of(true)])
    has = [dice.one_of(_WITH[name]) for name in told if name in _WITH]
    does = [dice.one_of(_DOING[name]) for name in told if name in _DOING]
    if len(has) > 1:
        has = [*has[:-2], f"{has[-2]} and {has[-1]}"]
    text = f"{start} with {', '.join(has)}" if has else start
    text = ", ".join([text, *does])
    return f"{text}, {place}" if dice.happens(0.25) else text


def mirror(scene: Scene) -> Scene:
    """The scene as seen in a mirror: left and right change places, captions included. Pixel noise stays as it is."""
    across, up, towards = scene.light

    def reflected(shape: Shape) -> Shape:
        return replace(shape, x=1 - shape.x, turn=-shape.turn)

    return replace(
        scene,
        yaw=-scene.yaw,
        roll=-scene.roll,
        x=1 - scene.x,
        light=(-across, up, towards),
        parting=-scene.parting,
        gaze_x=-scene.gaze_x,
        backdrop=scene.backdrop[:, :, ::-1],
        shapes=tuple(reflected(shape) for shape in scene.shapes),
        occluder=scene.occluder and reflected(scene.occluder),
        captions=tuple(_sides_changed(caption) for caption in scene.captions),
    )


def _sides_changed(caption: str) -> str:
    return re.sub(r"\b(left|right)\b", lambda side: {"left": "right", "right": "left"}[side[0]], caption)
