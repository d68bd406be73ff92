"""Occluders, which come between camera and face: hands with fingers, and things that people hold."""

from dataclasses import dataclass, replace
from math import cos, pi, sin

from facerep_jax.face_world.backdrop import sample_muted_colour
from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.shapes import BOX, CAPSULE, ELLIPSE, Colour, Shape, scaled

_FINGERS = ((-0.235, 0.5, -0.14), (-0.08, 0.62, -0.04), (0.08, 0.66, 0.04), (0.235, 0.56, 0.13))  # x, length, turn


@dataclass(frozen=True)
class Occluder:
    """Shapes in head units around (0, 0) that point up, and the side from which they come."""

    parts: tuple[Shape, ...]
    angle: float  # direction from the face to the occluder, in radians clockwise from the right of the image
    distance: float  # from the middle of the face to that of the occluder, in head units
    turn: float  # in radians; 0 points to the middle of the face

    def shapes(self, x: float, y: float, scale: float, pushed: float) -> tuple[Shape, ...]:
        """Return the shapes in front of a face, in shares of the image.

        Args:
            x: of the middle of the face.
            y: the same.
            scale: the head unit, in shares of the image.
            pushed: how far the occluder has moved towards the face: 0 not at all, 1 a quarter of a head unit, the most.
        """
        distance = self.distance - 0.25 * min(pushed, 1.0)
        x, y = x + scale * distance * cos(self.angle), y + scale * (0.3 + distance * sin(self.angle))
        turn = self.angle - pi / 2 + self.turn
        across, down = scale * cos(turn), scale * sin(turn)
        return tuple(
            replace(
                part,
                x=x + across * part.x - down * part.y,
                y=y + down * part.x + across * part.y,
                width=scale * part.width,
                height=scale * part.height,
                turn=part.turn + turn,
            )
            for part in self.parts
        )


def sample_occluder(dice: Dice, skin: Colour) -> tuple[Occluder, bool]:
    """Sample an occluder and tell whether it is a hand, which then has this skin."""
    hand = dice.happens(0.6)
    parts = _sample_hand(dice, skin) if hand else _sample_thing(dice)
    angle = dice.between(-0.1 * pi, 1.1 * pi)  # from the sides and from below
    return Occluder(tuple(parts), angle, dice.between(0.6, 1.0), dice.normal(0, 0.35)), hand


def _sample_hand(dice: Dice, skin: Colour) -> list[Shape]:
    """Sample sleeve, arm, thumb and palm, then four fingers, side by side or spread, each with its nail."""
    side = 1 if dice.happens(0.5) else -1
    spread, bent = dice.between(0.4, 2.2), dice.between(0.6, 1.0)
    light, dark = (scaled(skin, share) for share in (1.0, 0.9))
    nail = scaled(skin, 1.12)
    fingers = []
    for x, length, turn in _FINGERS:
        turn, length = turn * spread, length * bent
        half = length / 2
        tip_x, tip_y = x + (length - 0.07) * sin(turn), -0.27 - (length - 0.07) * cos(turn)
        middle = (x + half * sin(turn), -0.27 - half * cos(turn))
        fingers.append(Shape(CAPSULE, *middle, 0.085, half + 0.085, turn, light, 0.0, 0.42))
        fingers.append(Shape(ELLIPSE, tip_x, tip_y, 0.042, 0.058, turn, nail, 0.004, 0.2, 0.6))
    return [
        Shape(CAPSULE, 0.0, 1.75, 0.3, 0.9, 0.0, sample_muted_colour(dice, 20.0, 190.0), 0.0, 0.5),
        Shape(CAPSULE, 0.0, 0.7, 0.2, 0.75, 0.0, dark, 0.0, 0.45),
        Shape(CAPSULE, side * 0.36, -0.05, 0.095, 0.34, side * 0.6, dark, 0.0, 0.42),
        Shape(ELLIPSE, 0.0, 0.0, 0.35, 0.42, 0.0, dark, 0.0, 0.3),
        *fingers,
    ]


def _sample_thing(dice: Dice) -> list[Shape]:
    """Sample a phone, a cup, a microphone, a ball or a sheet of paper."""
    kind, main = dice.one_of(("phone", "cup", "microphone", "ball", "paper")), sample_muted_colour(dice)
    if kind == "phone":
        return [
            Shape(BOX, 0.0, 0.0, 0.26, 0.5, 0.0, scaled(main, 0.3)),
            Shape(BOX, 0.0, 0.0, 0.23, 0.43, 0.0, sample_muted_colour(dice, 90.0, 230.0)),
        ]
    if kind == "cup":
        return [
            Shape(ELLIPSE, 0.36, 0.05, 0.16, 0.2, 0.0, scaled(main, 0.8)),
            Shape(BOX, 0.0, 0.05, 0.32, 0.38, 0.0, main),
            Shape(ELLIPSE, 0.0, -0.33, 0.32, 0.09, 0.0, scaled(main, 0.5)),
        ]
    if kind == "microphone":
        return [
            Shape(CAPSULE, 0.0, 0.75, 0.09, 0.7, 0.0, scaled(main, 0.4), 0.0, 0.5),
            Shape(ELLIPSE, 0.0, 0.0, 0.19, 0.22, 0.0, scaled(main, 0.6), 0.0, 0.6),
        ]
    if kind == "ball":
        return [Shape(ELLIPSE, 0.0, 0.0, 0.42, 0.42, 0.0, main, 0.0, 0.6)]
    return [Shape(BOX, 0.0, 0.0, 0.45, 0.6, 0.0, sample_muted_colour(dice, 170.0, 240.0))]
