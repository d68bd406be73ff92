"""A head as a closed-form surface: its implicit function and the outlines of its features.

Head coordinates: x to the image's right in a frontal photograph, y down, z away from the viewer. The origin is the
middle of the head and half the head's height is one unit: the crown lies at y = -1, the eyes near 0, the chin near 1.
Feature outlines (lids, brows, nose, lips) are curves in the frontal plane (x, y), laid onto the surface along z, so
that landmarks and labels follow from the same formulas. Everything is symmetric about x = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, sin
from typing import NamedTuple

import numpy as np

FORWARD = -0.42  # how far the lower face is set forward: z of its middle per y²
OPEN = 0.03  # gap between the lips from which a mouth is called open, in head units


class Relief(NamedTuple):
    """Gaussian bumps over (|x|, y), evaluated as two matrix products around one exponential."""

    exponents: np.ndarray  # (bumps, 5), coefficients of x², |x|, y², y, 1
    readout: np.ndarray  # (5, bumps): the sum, and its slopes as (first |x| + second) sign(x) and third y + fourth

    @classmethod
    def of(cls, bumps: Sequence[tuple[float, ...]]) -> "Relief":
        """From rows of amplitude, |x|, y, spread in x, spread in y."""
        exponents, readout = [], []
        for amplitude, x, y, spread_x, spread_y in bumps:
            u, v = 1 / spread_x**2, 1 / spread_y**2
            exponents.append((-u, 2 * u * x, -v, 2 * v * y, -u * x * x - v * y * y))
            slope = 2 * amplitude
            readout.append((amplitude, -slope * u, slope * u * x, -slope * v, slope * v * y))
        return cls(np.array(exponents, np.float32), np.array(readout, np.float32).T)

    def first(self, count: int) -> "Relief":
        """The first bumps alone."""
        return Relief(self.exponents[:count], self.readout[:, :count])

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The relief at (x, y), each (n,)."""
        return self.readout[0] @ self.bells(np.abs(x), y)

    def height_and_slopes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The relief at (x, y), each (n,), and its derivatives in x and y."""
        across = np.abs(x)
        height, x_by_across, x_rest, y_by_y, y_rest = self.readout @ self.bells(across, y)
        return height, np.copysign(1, x) * (x_by_across * across + x_rest), y_by_y * y + y_rest

    def bells(self, across: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The bumps at amplitude 1 (bumps, n) at |x| = across and y, each (n,)."""
        powers = np.ones((5, len(y)), y.dtype)
        np.multiply(across, across, out=powers[0])
        powers[1] = across
        np.multiply(y, y, out=powers[2])
        powers[3] = y
        bells = self.exponents @ powers
        return np.exp(bells, out=bells)


@dataclass(frozen=True)
class Head:
    """Shape and expression of a head, in head units."""

    width: float  # half the width of the skull
    depth: float  # half its depth
    chin: float  # height of the chin's lower end, jaw closed
    jaw: float  # 0 a pointed chin, 0.6 a square jaw
    eye_x: float
    eye_y: float
    eye_width: float  # half the width of an eye
    eye_tilt: float  # height of the outer corner over the centre
    eye_rest: float  # how far the eyes are open at rest: 0 closed, 1 wide
    brow_y: float  # at rest
    brow_arch: float
    brow_thickness: float  # half of it, at the inner end
    nose_rest_y: float  # height of the nostrils at rest
    nose_width: float  # half the width over the nostrils
    nose_relief: float  # how far the nose protrudes, about 1
    mouth_rest_y: float
    mouth_width: float  # half the width of the mouth at rest
    upper_lip: float
    lower_lip: float
    cheeks: float  # how full they are, about 1
    ridge: float  # how far the brow ridge protrudes, about 1

    # What the face does; 0 at rest.
    brow_inner: float = 0.0  # how far the brows' inner ends are raised
    brow_outer: float = 0.0
    brow_knit: float = 0.0  # how far they are drawn together
    lid_raise: float = 0.0  # added to `eye_rest`
    lids_shut: float = 0.0  # share of the eyes' opening that is taken away
    cheek_raise: float = 0.0
    nose_wrinkle: float = 0.0  # how far the nostrils are raised
    corner_lift: float = 0.0  # how far the mouth's corners are raised
    mouth_stretch: float = 0.0  # added to half the mouth's width
    lips_apart: float = 0.0  # gap between the lips
    jaw_drop: float = 0.0
    chin_raise: float = 0.0  # how far the chin pushes the lower lip up

    @property
    def chin_y(self) -> float:
        """Height of the chin's lower end."""
        return self.chin + self.jaw_drop

    @property
    def nose_y(self) -> float:
        """Height of the nostrils."""
        return self.nose_rest_y - self.nose_wrinkle

    @property
    def mouth_y(self) -> float:
        """Height of the seam of the lips."""
        return self.mouth_rest_y + 0.25 * self.jaw_drop - 0.7 * self.chin_raise - 0.3 * self.nose_wrinkle

    @property
    def eye_opening(self) -> float:
        """0 closed, about 1 wide."""
        return (self.eye_rest + self.lid_raise) * (1 - self.lids_shut)

    @property
    def eyes_closed(self) -> bool:
        return self.eye_opening < 0.12

    @property
    def mouth_open(self) -> bool:
        return self.lips_apart > OPEN

    # Feature outlines in the frontal plane.

    def lids(self, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights of the upper and the lower lid at -1 (inner corner) <= across <= 1 (outer corner)."""
        axis = self.eye_y - self.eye_tilt * across
        square = across * across
        almond = (1 - square) * (1 + 0.5 * square)
        # A closed eye keeps a slit: its lash line is still labelled eye. Raised cheeks push the lower lid up.
        upper = axis + 0.02 - (0.031 + 0.072 * self.eye_opening) * almond
        raised = min(0.5 * self.cheek_raise, 0.035 * self.eye_opening)
        lower = axis + 0.005 + (0.022 + 0.023 * self.eye_opening - raised) * almond
        return upper - 0.02 * (1 - almond), lower + 0.005 * (1 - almond)

    def brow(self, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Height of the brow's middle line and half its thickness at 0 (inner end) <= along <= 1 (outer end)."""
        middle = self.brow_y - self.brow_lift(along) - 4 * self.brow_arch * along * (1.15 - along)
        return middle, self.brow_thickness * (1 - 0.6 * along**2)

    def brow_lift(self, along: np.ndarray) -> np.ndarray:
        """How far the brow is raised there."""
        return self.brow_inner * (1 - along) * (1 - along) + self.brow_outer * along * (2 - along)

    @property
    def brow_ends(self) -> tuple[float, float]:
        """Distances of the brow's inner and outer end from the mid-plane."""
        return self.eye_x - 1.15 * self.eye_width - self.brow_knit, self.eye_x + 1.3 * self.eye_width

    def nose_half_width(self, y: np.ndarray) -> np.ndarray:
        """Half the width of the region called nose at height y; negative above and below it."""
        top, bottom = self.eye_y, self.nose_y + 0.035
        down = np.minimum(np.maximum((y - top) / (bottom - top), 0), 1)
        flank = 0.07 + (self.nose_width - 0.02) * down * down * np.sqrt(down)
        rounding = np.minimum(1, np.maximum(bottom - y, 0) / 0.09)
        return np.where((y > top) & (y < bottom), flank * np.sqrt(rounding * (2 - rounding)), -0.1)

    @property
    def mouth_half_width(self) -> float:
        return self.mouth_width + self.mouth_stretch

    def lips(self, across: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Heights of the upper lip's top and bottom and the lower lip's top and bottom at -1 <= across <= 1."""
        square = across * across
        seam = self.mouth_y - self.corner_lift * (square - 0.3)
        gap = np.maximum(1 - square * (1 / 0.85**2), 0) * self.lips_apart
        thin = 1 - 1.5 * abs(self.corner_lift) - 2.0 * self.mouth_stretch  # stretched lips are thinner
        fullness = thin * np.sqrt(np.maximum(1 - square, 0))
        bow = 1 - 0.3 * np.exp(square * (-1 / 0.13**2))
        top, bottom = seam - 0.25 * gap, seam + 0.75 * gap
        return top - self.upper_lip * fullness * bow, top, bottom, bottom + self.lower_lip * fullness

    # The surface: x²/width² + (z - axis(y))²/depth² + height(y) = 1 + relief(x, y).

    @cached_property
    def relief(self) -> Relief:
        """All that stands out of the bare skull, the nose first."""
        nose, chin, nose_y = self.nose_relief, self.chin_y, self.nose_y
        smile = max(self.corner_lift, 0.0) / 0.12
        mouth_y = self.mouth_y + 0.25 * self.lips_apart
        cheek = 0.09 * self.cheeks + 0.07 * smile + 1.5 * self.cheek_raise
        return Relief.of(
            [
                (0.2 * nose, 0.0, nose_y - 0.28, 0.085, 0.19),
                (0.43 * nose, 0.0, nose_y - 0.1, 0.115, 0.13),
                (0.25 * nose, self.nose_width - 0.055, nose_y - 0.045, 0.055, 0.055),
                (-0.12 * nose, 0.0, nose_y + 0.07, 0.13, 0.06),
                (-0.24, self.eye_x - 0.04, self.eye_y, 0.17, 0.1),
                (0.1, self.eye_x, self.eye_y, 0.1, 0.055),
                (0.06 * self.ridge + self.brow_knit, self.eye_x - 0.05, self.brow_y, 0.24, 0.07),
                (cheek, self.eye_x + 0.1, nose_y - 0.1 - self.cheek_raise, 0.18, 0.17),
                (0.12, 0.0, mouth_y, 0.2, 0.095),
                (-0.06, 0.0, 0.5 * (mouth_y + self.lower_lip + chin) - 0.03, 0.16, 0.06),
                (0.14 + 2 * self.chin_raise, 0.0, chin - 0.13 - 0.5 * self.chin_raise, 0.17, 0.095),
            ]
        )

    @cached_property
    def nose(self) -> Relief:
        """The nose alone."""
        return self.relief.first(4)

    def height(self, y: np.ndarray) -> np.ndarray:
        """How much of the radius the height takes: 0 at the origin, 1 at crown and chin."""
        above, below = np.minimum(y, 0), np.maximum(y, 0)
        quartic, square = self._lower_face
        below *= below
        return above * above + below * (quartic * below + square)

    @property
    def _lower_face(self) -> tuple[float, float]:
        """What `height` takes of y⁴ and y² below the origin."""
        return self.jaw / self.chin_y**4, (1 - self.jaw) / self.chin_y**2

    def axis(self, y: np.ndarray) -> np.ndarray:
        """z of the middle of the horizontal section at y: the lower face is set forward."""
        below = np.maximum(y, 0)
        return FORWARD * below * below

    def signed(self, points: np.ndarray, relief: Relief) -> np.ndarray:
        """The surface's implicit function (n,) at points (3, n): negative inside."""
        x, y, z = points
        side, behind = x / self.width, (z - self.axis(y)) / self.depth
        return side * side + behind * behind + self.height(y) - 1 - relief.height(x, y)

    def surface(self, points: np.ndarray, relief: Relief | None) -> tuple[np.ndarray, np.ndarray]:
        """The same function with its gradient (3, n); without relief that of the bare skull."""
        x, y, z = points
        above, below = np.minimum(y, 0), np.maximum(y, 0)
        quartic, square = self._lower_face
        below_squared = below * below
        behind = z - FORWARD * below_squared
        gradient = np.empty_like(points)
        right, down, away = gradient
        np.multiply(x, 2 / self.width**2, out=right)
        np.multiply(behind, 2 / self.depth**2, out=away)
        by_height = quartic * below_squared
        value = 0.5 * (x * right + behind * away)
        value += above * above + below_squared * (by_height + square) - 1
        np.add(2 * above, below * (4 * by_height + 2 * square - 2 * FORWARD * away), out=down)
        if relief:
            height, slope_x, slope_y = relief.height_and_slopes(x, y)
            value -= height
            right -= slope_x
            down -= slope_y
        return value, gradient

    def normals(self, points: np.ndarray) -> np.ndarray:
        """The surface's outward unit normals (3, n) at its points (3, n)."""
        _, gradient = self.surface(points, self.relief)
        return gradient / np.sqrt(np.einsum("in,in->n", gradient, gradient))

    def on_front(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Points of the surface's front (3, n) over the frontal plane's (x, y), each (n,)."""
        side = x * (1 / self.width)
        radius = 1 - self.height(y) + self.relief.height(x, y) - side * side
        return np.array([x, y, self.axis(y) - self.depth * np.sqrt(np.maximum(radius, 0))])

    def side_x(self, side: np.ndarray, y: np.ndarray) -> np.ndarray:
        """x at heights y and -1 <= side <= 1, the sine of the azimuth on the bare skull."""
        return side * (self.width * np.sqrt(np.maximum(1 - self.height(y), 0)))


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The (3, 3) rotation from head to camera axes; angles in radians.

    Positive yaw turns the face to the image's right, positive pitch down, positive roll clockwise.
    """
    turn = np.array([[cos(yaw), 0, -sin(yaw)], [0, 1, 0], [sin(yaw), 0, cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    tilt = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)
