"""Sampling of scenes: people, the sessions of a person, the frames of a session, and the captions of a frame.

Each person, session and frame has a stream of random numbers of its own, seeded by (world, seed, person, ...). So a
scene is a function of seed, index and settings, whatever has been sampled before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, pi, radians, sin, sqrt, tanh
from typing import Any

import numpy as np

from facerep_jax.face_world.action_units import (
    ACTION_UNITS,
    EXPRESSIONS,
    PROTOTYPES,
    STRONGEST,
    Units,
    displacements,
)
from facerep_jax.face_world.backdrop import sample_backdrop, sample_muted_colour
from facerep_jax.face_world.captioning import sample_caption, sample_name, sample_oracle_caption
from facerep_jax.face_world.chance import CAPTION, FRAME, PATH, PERSON, SESSION, Dice, Paths
from facerep_jax.face_world.geometry import Head
from facerep_jax.face_world.occluders import sample_occluder
from facerep_jax.face_world.scene import (
    HAIR_COLOURS,
    Clothes,
    Glasses,
    Hair,
    Hat,
    Light,
    Photo,
    Scene,
    Skin,
    attributes,
)
from facerep_jax.face_world.shapes import Colour
from facerep_jax.face_world.worlds import WORLDS, Style, World

LARGEST = 256  # side of the largest picture in pixels: its noise fits into the tile of grain at every place
BLOCK = 10_000_000  # indices of a block; each split has a block, and no person lies in two
DONORS = 16  # people in a row who exchange their captions if these are mismatched
_MOODS = (0.2, 0.24, 0.11, 0.12, 0.11, 0.11, 0.11)  # how often a session has the mood of each of EXPRESSIONS
_CHANNELS = ("yaw", "pitch", "roll", "scale", "x", "y", "gaze_x", "gaze_y", "mood", "occluder", *ACTION_UNITS)


@dataclass(frozen=True)
class Settings:
    """The choices beside the seed."""

    world: str = "pretrain"  # or "evaluate"
    sessions: int = 2  # of each person
    frames: int = 4  # of each session
    correlation: float = 2.0  # lag in frames at which pose and expression correlate by 1 / e
    informativeness: float = 0.37  # share of the captions that are not mismatched that name attributes
    mismatched: float = 0.1  # share of the captions that are those of another scene
    spread: float = 1.0  # how far pose, place and the lamp's side reach, in what the world has
    degradation: float = 1.0  # how much blur, noise, JPEG loss, wrong tone and things in front there is


DEFAULT = Settings()


def sample_scene(seed: int, index: int, settings: Settings = DEFAULT) -> Scene:
    """Sample the scene of an index. Consecutive indices are the frames of a session, then the sessions of a person."""
    scene, name = _scene_without_captions(seed, index, settings)
    world = WORLDS[settings.world]
    dice = Dice(CAPTION, world.number, seed, index)
    told = sample_oracle_caption(dice, attributes(scene))  # sampled first, so that no setting changes it
    captions = []
    for _ in range(dice.one_of((1, 1, 2))):
        about, called = scene, name
        if dice.happens(settings.mismatched):
            about, called = _scene_without_captions(seed, _sample_donor(dice, index, settings), settings)
        captions.append(sample_caption(dice, attributes(about), called, world, settings.informativeness)[0])
    return replace(scene, captions=tuple(captions), oracle=told)


def person_of(index: int, settings: Settings) -> int:
    """Return the number of the person at an index; people of different blocks have different numbers."""
    block, place = divmod(index, BLOCK)
    return block * BLOCK + place // (settings.sessions * settings.frames)


def identity(world: str, seed: int, person: int) -> str:
    """Return the label of the person of this number."""
    return f"{world}-{seed}-{person:08d}"


def _sample_donor(dice: Dice, index: int, settings: Settings) -> int:
    """Sample an index of another one of the `DONORS` people in a row to whom the person at `index` belongs."""
    each = settings.sessions * settings.frames
    block, place = divmod(index, BLOCK)
    group, own = divmod(place // each, DONORS)
    other = (own + 1 + int(dice.between(0, DONORS - 1))) % DONORS
    return block * BLOCK + (group * DONORS + other) * each + int(dice.between(0, each))


def _scene_without_captions(seed: int, index: int, settings: Settings) -> tuple[Scene, str]:
    """Sample the scene of an index without captions, and return it with the name of the person."""
    number = person_of(index, settings)
    session, frame = divmod(index % BLOCK % (settings.sessions * settings.frames), settings.frames)
    person = _person(settings.world, seed, number)
    dials = (settings.correlation, settings.spread, settings.degradation)
    return _session(settings.world, seed, number, session, *dials).scene(frame), person.name


@lru_cache(maxsize=64)
def _person(world: str, seed: int, number: int) -> "_Person":
    """Return a person, who is kept for the sessions that follow."""
    return _Person(WORLDS[world], Dice(PERSON, WORLDS[world].number, seed, number))


class _Person:
    """All that stays the same in every picture of a person."""

    def __init__(self, world: World, dice: Dice):
        between = dice.between
        shape = {name: dice.within(bounds) for name, bounds in world.shape.items()}
        shape["brow_y"] += shape["eye_y"]
        shape["mouth_rest_y"] += shape["nose_rest_y"]
        self.shape = shape
        tone = between(0.0, 1.0)  # from dark to light skin
        skin = np.array([74, 48, 36]) * (1 - tone) + np.array([230, 188, 163]) * tone
        skin = skin * (1 + dice.normals(0.025, 3)) + np.array([20, 10, 4]) * sin(pi * tone)
        self.skin = colour(skin)
        self.lip = colour(skin * 0.72 + np.array([52, 8, 14]) * between(0.3, 1.0))
        self.place = (between(0, 512), between(0, 512))
        self.mottle, self.pores, self.blush = between(0.1, 1), between(0.1, 1), between(0.1, 1)
        self.freckles = between(0.35, 1) if dice.happens(0.15) else 0.0
        self.lines = between(0, 1) ** 2
        self.iris = colour(dice.one_of(((62, 38, 22), (62, 38, 22), (95, 70, 40), (80, 110, 130), (75, 100, 70))))
        self.hair_name = dice.one_of(tuple(HAIR_COLOURS))
        self.hair_colour = colour(
            np.array(HAIR_COLOURS[self.hair_name]) * between(0.8, 1.2) * (1 + dice.normals(0.02, 3))
        )
        self.bald = dice.happens(0.08)
        self.style = dice.weighted(world.styles, [style.weight for style in world.styles])
        self.beard = between(0.4, 0.95) if dice.happens(0.3) else 0.0
        self.moustache = between(0.5, 0.95) if dice.happens(0.85 if self.beard else 0.08) else 0.0
        self.wears_glasses = dice.happens(0.3)
        self.name = sample_name(dice, world)


@lru_cache(maxsize=64)
def _session(
    world: str, seed: int, number: int, session: int, correlation: float, spread: float, degradation: float
) -> "_Session":
    """Return a session, which is kept for the frames that follow."""
    return _Session(world, seed, number, session, correlation, spread, degradation)


class _Session:
    """An occasion to photograph a person: light, place, clothes and hair stay, pose and expression change."""

    def __init__(
        self, name: str, seed: int, number: int, session: int, correlation: float, spread: float, degradation: float
    ):
        world = WORLDS[name]
        self.spread, self.degradation = spread, degradation
        self.person = person = _person(name, seed, number)
        self.key = (world.number, seed, number, session)
        dice = Dice(SESSION, *self.key)
        self.paths = Paths(len(_CHANNELS), correlation, PATH, *self.key)
        self.mood = PROTOTYPES[dice.weighted(EXPRESSIONS, _MOODS)]
        hat = _sample_hat(dice) if dice.happens(0.15) else None
        self.scale = dice.within(world.scale)
        self.x, self.y = dice.normal(0.5, spread * world.shift), dice.normal(0.49, spread * world.shift)
        self.occluder, self.hand = sample_occluder(dice, person.skin)
        self.photo = _degraded(_sample_photo(dice, world), degradation)
        fresh = dice.between(0.85, 1.15)  # how long the beard has grown
        self.fixed: dict[str, Any] = {
            "world": world.number,
            "identity": identity(name, seed, number),
            "session": session,
            "light": _sample_light(dice, world, spread),
            "skin": Skin(
                colour=person.skin,
                lip=person.lip,
                hair=person.hair_colour,
                place=person.place,
                mottle=person.mottle,
                pores=person.pores,
                blush=person.blush * dice.between(0.6, 1.4),
                freckles=person.freckles,
                lines=person.lines,
                beard=min(person.beard * fresh, 1.0),
                moustache=min(person.moustache * fresh, 1.0),
            ),
            "iris": person.iris,
            "hair": None if person.bald else _sample_hair(dice, person, hat is not None),
            "glasses": _sample_glasses(dice) if dice.happens(0.65 if person.wears_glasses else 0.04) else None,
            "hat": hat,
            "earrings": sample_muted_colour(dice, 120.0, 230.0) if dice.happens(0.15) else None,
            "clothes": Clothes(
                dice.one_of(("plain", "striped", "suit", "suit", "open")),
                sample_muted_colour(dice, 20.0, 190.0),
                sample_muted_colour(dice, 30.0, 230.0),
                dice.between(0.7, 1.2),
            ),
            "backdrop": sample_backdrop(dice, world.number),
        }

    def scene(self, frame: int) -> Scene:
        """Return the scene of a frame."""
        at = dict(zip(_CHANNELS, self.paths.at(frame), strict=True))
        # Paths are normal; a tanh turns one into an angle within bounds that is spread evenly over most of them.
        units = self.units(at)
        yaw = radians(60) * tanh(0.52 * self.spread * at["yaw"])
        near = self.degradation * at["occluder"] - 1.25
        present = near > 0
        dice = Dice(FRAME, *self.key, frame)
        return Scene(
            **self.fixed,
            frame=frame,
            head=Head(**self.person.shape, **displacements(units)),
            units=units,
            yaw=yaw,
            pitch=radians(28) * tanh(0.32 * self.spread * at["pitch"]),
            roll=radians(35) * tanh(0.25 * self.spread * at["roll"]),
            scale=self.scale * exp(0.03 * at["scale"]),
            x=self.x + 0.012 * at["x"] - 0.16 * self.scale * sin(yaw),
            y=self.y + 0.012 * at["y"],
            gaze_x=0.05 * tanh(0.5 * at["gaze_x"]),
            gaze_y=0.02 * tanh(0.5 * at["gaze_y"]),
            occluder=self.occluder.shapes(self.x, self.y, self.scale, near) if present else (),
            hand=present and self.hand,
            photo=replace(self.photo, places=_sample_grain_places(dice)),
        )

    def units(self, at: dict[str, float]) -> Units:
        """Return the intensities of the action units: those of the mood, and what each unit adds now and then.

        `at` holds the values of the paths at the time of the frame.
        """
        strength = 0.5 + 0.5 * tanh(0.9 * at["mood"] + 0.3)
        own = {unit: 3.0 * max(at[unit] - 0.7, 0.0) for unit in ACTION_UNITS}
        own["AU43"] *= 3  # eyes are open or shut, seldom half closed
        mood = {unit: STRONGEST * strength * self.mood.get(unit, 0.0) for unit in ACTION_UNITS}
        return tuple(min(mood[unit] + own[unit], STRONGEST) for unit in ACTION_UNITS)


def colour(values: Iterable[Any]) -> Colour:
    """Return three numbers as plain floats."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _sample_light(dice: Dice, world: World, spread: float) -> Light:
    """Sample a lamp on the camera's side of the face, mostly from above, and ambient light."""
    across, up = dice.normal(0, spread * world.sidewards), dice.normal(-0.5, 0.5)
    distance = sqrt(across**2 + up**2 + 1)
    warm = dice.normal(0, 0.05)
    around = dice.normals(0.04, 3)
    return Light(
        towards=(across / distance, up / distance, -1 / distance),
        colour=(1 + warm, 1.0, 1 - warm),
        ambient=dice.within(world.ambient),
        ambient_colour=colour(1 + around),
    )


def _sample_photo(dice: Dice, world: World) -> Photo:
    """Sample camera and file of a session; the places of the noise are those of a frame."""
    return Photo(
        blur=dice.within(world.blur) if dice.happens(world.blurred) else 0.0,
        noise=dice.within(world.noise),
        chroma=world.chroma,
        grain=dice.one_of(world.grain),
        gain=colour(dice.between(0.8, 1.3) * (1 + dice.normals(0.025, 3))),
        gamma=dice.within(world.gamma),
        vignette=dice.within(world.vignette),
        quality=int(dice.between(*world.quality)),
        subsampling=dice.one_of(("444", "420")),
        places=(),
    )


def _degraded(photo: Photo, share: float) -> Photo:
    """Return a photo of which camera and file change a share of what they changed; at 1 it is the photo."""
    if share == 1:
        return photo
    return replace(
        photo,
        blur=share * photo.blur,
        noise=share * photo.noise,
        gain=colour(max(1 + share * (gain - 1), 0.05) for gain in photo.gain),
        gamma=photo.gamma**share,
        vignette=min(share * photo.vignette, 1.0),
        quality=round(max(100 - share * (100 - photo.quality), 5)),
    )


def _sample_grain_places(dice: Dice) -> tuple[tuple[int, int], ...]:
    """Sample `Photo.places`."""
    return tuple((int(dice.between(0, LARGEST)), int(dice.between(0, LARGEST))) for _ in range(4))


def _sample_hair(dice: Dice, person: _Person, under_hat: bool) -> Hair:
    """Sample the hair of a session in the style of the person; a hat presses it flat."""
    style: Style = person.style
    curly = style.curl > 0
    return Hair(
        name=person.hair_name,
        colour=person.hair_colour,
        volume=min(dice.within(style.volume), 0.1 if under_hat else 1.0),
        lift=0.0 if under_hat else dice.within(style.lift),
        length=dice.within(style.length),
        hairline=dice.within(style.hairline),
        temples=dice.within(style.temples),
        parting=dice.within(style.parting),
        curl=style.curl,
        wave=dice.within(style.wave),
        sheen=dice.between(0.0, 0.15) if curly else dice.between(0.1, 0.6),
        back=dice.within(style.back),
        bun=0.0 if under_hat else dice.within(style.bun),
        place=(dice.between(0, 512), dice.between(0, 512)),
    )


def _sample_glasses(dice: Dice) -> Glasses:
    """Sample glasses, a few of them tinted."""
    return Glasses(
        colour=sample_muted_colour(dice, 10.0, 110.0),
        rim=dice.between(0.008, 0.024),
        height=dice.between(0.12, 0.17),
        square=dice.happens(0.5),
        tint=dice.between(0.3, 0.6) if dice.happens(0.15) else dice.between(0.02, 0.12),
    )


def _sample_hat(dice: Dice) -> Hat:
    """Sample a hat."""
    kind = dice.one_of(("beanie", "brimmed", "peaked"))
    return Hat(kind, sample_muted_colour(dice, 25.0, 190.0), dice.between(0.25, 0.42))
