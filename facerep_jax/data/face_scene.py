"""The plain parameters of one generated face: how they are drawn, mirrored, and told in words."""

import re
from dataclasses import dataclass, replace

import numpy as np

from facerep_jax.data.face_geometry import Head

Colour = tuple[float, float, float]  # RGB, 0 to 255

IMAGES_PER_IDENTITY = 4
HAIR_COLOURS: dict[str, Colour] = {
    "black": (30, 25, 25),
    "brown": (98, 62, 38),
    "blond": (214, 176, 108),
    "grey": (168, 168, 172),
}
ATTRIBUTES = (
    "smiling",
    "mouth_open",
    "eyes_closed",
    "glasses",
    "beard",
    "hat",
    "fringe",
    "long_hair",
    "bald",
    "black_hair",
    "brown_hair",
    "blond_hair",
    "grey_hair",
    "facing_left",
    "facing_right",
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
    backdrop: tuple[tuple[Colour, ...], ...]  # a coarse grid of colours, interpolated
    shapes: tuple[Shape, ...]  # behind the person
    occluder: Shape | None  # in front of it
    noise: float  # standard deviation of the pixels' noise, 0 to 255
    noise_seed: int
    captions: tuple[str, ...]


def draw(seed: int, index: int) -> Scene:
    """The scene of (seed, index); consecutive groups of `IMAGES_PER_IDENTITY` indices share an identity."""
    number = index // IMAGES_PER_IDENTITY
    person = _Identity(np.random.default_rng([seed, 1, number]))
    rng = np.random.default_rng([seed, index])

    smile = float(rng.uniform(0.45, 1)) if rng.random() < 0.4 else float(rng.uniform(-0.4, 0.2))
    mouth_opening = float(rng.uniform(0.045, 0.1)) if rng.random() < 0.3 else 0.0
    eye_opening = 0.0 if rng.random() < 0.1 else float(rng.uniform(0.4, 1))
    head = Head(
        **person.shape,
        smile=smile,
        mouth_opening=mouth_opening,
        eye_opening=eye_opening,
        brow_raise=float(rng.normal(0, 0.015)),
    )

    yaw = float(np.deg2rad(np.clip(rng.normal(0, 28), -60, 60)))
    scale = float(rng.uniform(0.25, 0.33))
    light = np.array([rng.normal(0, 0.7), rng.normal(-0.6, 0.4), -1.0])
    light /= np.linalg.norm(light)
    fringe = person.hairline > -0.5
    hat = rng.random() < 0.15
    scene = Scene(
        identity=f"{seed}-{number:07d}",
        head=head,
        yaw=yaw,
        pitch=float(np.deg2rad(np.clip(rng.normal(0, 8), -20, 20))),
        roll=float(np.deg2rad(np.clip(rng.normal(0, 7), -25, 25))),
        scale=scale,
        x=0.5 + float(rng.uniform(-0.06, 0.06)) - 0.05 * float(np.sin(yaw)),
        y=0.47 + float(rng.uniform(-0.05, 0.05)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        light_colour=_colour(rng.uniform(0.9, 1.12) * (1 + rng.normal(0, 0.04, 3))),
        ambient=float(rng.uniform(0.38, 0.6)),
        skin=person.skin,
        lip=person.lip,
        iris=person.iris,
        hair=person.hair,
        hair_name=person.hair_name,
        hair_volume=min(person.hair_volume, 0.08) if hat else person.hair_volume,
        hair_length=person.hair_length,
        hairline=min(person.hairline, -0.5) if hat else person.hairline,
        parting=0.0 if not fringe else float(rng.uniform(-0.12, 0.12)),
        gaze_x=float(np.clip(rng.normal(0, 0.025), -0.05, 0.05)),
        gaze_y=float(np.clip(rng.normal(0, 0.01), -0.02, 0.02)),
        beard=person.beard,
        glasses=_colour(rng.uniform(10, 90) * rng.uniform(0.5, 1, 3)) if rng.random() < 0.22 else None,
        hat=_muted(rng) if hat else None,
        brim=float(rng.uniform(0.3, 0.45)) if rng.random() < 0.4 else 0.0,
        shirt=_muted(rng),
        backdrop=_backdrop(rng),
        shapes=tuple(_background_shape(rng) for _ in range(rng.integers(1, 4))),
        occluder=_occluder(rng, scale) if rng.random() < 0.08 else None,
        noise=float(rng.uniform(0.5, 3)),
        noise_seed=int(rng.integers(2**31)),
        captions=(),
    )
    named = attributes(scene)
    return replace(scene, captions=tuple(_caption(rng, named) for _ in range(rng.integers(1, 3))))


class _Identity:
    """What the images of one person share."""

    def __init__(self, rng: np.random.Generator):
        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        eye_y, nose_y = between(-0.04, 0.05), between(0.36, 0.45)
        brow_thickness = between(0.022, 0.042)
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
            "brow_thickness": brow_thickness,
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
        skin = skin * (1 + rng.normal(0, 0.03, 3)) + np.array([14, 6, 0]) * np.sin(np.pi * tone)
        self.skin = _colour(skin)
        self.lip = _colour(skin * 0.62 + np.array([80, 22, 30]) * between(0.6, 1.1))
        self.iris = _colour(((70, 42, 25), (95, 70, 40), (80, 110, 130), (75, 100, 70))[rng.integers(4)])
        shade = between(0.8, 1.2)
        name = tuple(HAIR_COLOURS)[rng.integers(len(HAIR_COLOURS))]
        self.hair = _colour(np.array(HAIR_COLOURS[name]) * shade)
        kind = rng.random()
        bald = kind < 0.08
        self.hair_name = "" if bald else name
        long = kind > 0.6
        self.hair_volume = between(0.08, 0.2) if long else between(0.04, 0.16)
        self.hair_length = between(1.1, 1.8) if long else between(0.0, 0.35)
        self.hairline = between(-0.4, -0.3) if rng.random() < 0.3 and not bald else between(-0.72, -0.55)
        self.beard = between(0.45, 0.95) if not long and rng.random() < 0.4 else 0.0


def _colour(values) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _muted(rng: np.random.Generator) -> Colour:
    """A colour as things have it: grey, more or less tinted."""
    return _colour(np.clip(rng.uniform(25, 215) + rng.gamma(1.5, 16) * rng.normal(0, 1, 3), 8, 245))


def _backdrop(rng: np.random.Generator) -> tuple[tuple[Colour, ...], ...]:
    base = np.array(_muted(rng))
    grid = np.clip(base + rng.normal(0, 30, (4, 4, 1)) + rng.normal(0, 14, (4, 4, 3)), 5, 250)
    return tuple(tuple(_colour(cell) for cell in row) for row in grid)


def _background_shape(rng: np.random.Generator) -> Shape:
    x, y = rng.uniform(0, 1, 2)
    width, height = rng.uniform(0.05, 0.35, 2)
    colour = _muted(rng)
    turn, soft = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(0.0, 0.06))
    return Shape(float(x), float(y), float(width), float(height), turn, bool(rng.random() < 0.5), colour, soft)


def _occluder(rng: np.random.Generator, scale: float) -> Shape:
    """A hand-sized patch that reaches into the lower face or the side of it."""
    angle = rng.uniform(-0.2, np.pi + 0.2)
    x, y = 0.5 + scale * np.cos(angle), 0.5 + scale * np.sin(angle)
    width, height = scale * rng.uniform(0.25, 0.6, 2)
    colour = _muted(rng)
    return Shape(
        float(x),
        float(y),
        float(width),
        float(height),
        float(rng.uniform(-1, 1)),
        bool(rng.random() < 0.5),
        colour,
        0.0,
    )


def attributes(scene: Scene) -> dict[str, bool]:
    """What holds of the scene, in the order of `ATTRIBUTES`."""
    degrees = np.rad2deg(scene.yaw)
    named = {
        "smiling": scene.head.smile > 0.4,
        "mouth_open": scene.head.mouth_opening > 0.03,
        "eyes_closed": scene.head.eye_opening < 0.2,
        "glasses": scene.glasses is not None,
        "beard": scene.beard > 0,
        "hat": scene.hat is not None,
        "fringe": scene.hair_name != "" and scene.hairline > -0.5,
        "long_hair": scene.hair_name != "" and scene.hair_length > 1,
        "bald": scene.hair_name == "",
        **{f"{name}_hair": scene.hair_name == name for name in HAIR_COLOURS},
        "facing_left": bool(degrees < -20),
        "facing_right": bool(degrees > 20),
    }
    return {name: named[name] for name in ATTRIBUTES}


def _caption(rng: np.random.Generator, named: dict[str, bool]) -> str:
    """A caption as found on the web: one in five names only a place, the others some of what is true."""

    def one_of(options: tuple[str, ...]) -> str:
        return options[rng.integers(len(options))]

    opening, subject, place = one_of(_OPENINGS), one_of(_SUBJECTS), one_of(_PLACES)
    start = f"{opening} {subject}".strip()
    true = [name for name in ATTRIBUTES if named[name]]
    told = [name for name in true if rng.random() < 0.6] or [one_of(tuple(true))]
    rng.shuffle(told)
    if rng.random() < 0.2:
        return f"{start} {place}"
    has = [one_of(_WITH[name]) for name in told if name in _WITH]
    does = [one_of(_DOING[name]) for name in told if name in _DOING]
    if len(has) > 1:
        has = [*has[:-2], f"{has[-2]} and {has[-1]}"]
    text = f"{start} with {', '.join(has)}" if has else start
    text = ", ".join([text, *does])
    return f"{text}, {place}" if rng.random() < 0.25 else text


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
        backdrop=tuple(row[::-1] for row in scene.backdrop),
        shapes=tuple(reflected(shape) for shape in scene.shapes),
        occluder=scene.occluder and reflected(scene.occluder),
        captions=tuple(_sides_changed(caption) for caption in scene.captions),
    )


def _sides_changed(caption: str) -> str:
    return re.sub(r"\b(left|right)\b", lambda side: {"left": "right", "right": "left"}[side[0]], caption)
