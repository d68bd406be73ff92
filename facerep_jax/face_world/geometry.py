"""Heads as closed-form surfaces: their implicit function, and the outlines of their parts.

Head coordinates: in a frontal photograph x points to the right of the image, y down, and z away from the viewer. The
origin is the middle of the head, and half the height of the head is one unit, the head unit: the crown lies at y = -1,
the eyes near 0, the chin near 1. "Height" means y here.

Outlines (lids, brows, nose, lips) are curves in the frontal plane (x, y). They are laid onto the surface along z, so
that landmarks and labels follow from the same formulas. Everything is symmetric about the mid-plane x = 0.

Shape letters of this package beside those of `typing`: n points or rays, and *p any shape of points, to which arrays
marked *#p broadcast together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, sin
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

FORWARD = -0.42  # z of the middle of the lower face, per y²: it is set forward
OPEN = 0.03  # gap between the lips above which a mouth is called open, in head units


class Relief(NamedTuple):
    """A sum of Gaussian bumps over (|x|, y), evaluated as two matrix products around one exponential.

    The exponent of a bump, -((|x| - x0) / u)² - ((y - y0) / v)², is a polynomial in |x| and y, and so are the factors
    that its derivatives add; both are stored as coefficients.
    """

    exponents: Float32[np.ndarray, "bumps 5"]  # coefficients of x², |x|, y², y and 1
    readout: Float32[np.ndarray, "5 bumps"]  # of the height, of its slope in x by |x| and 1, and in y by y and 1

    @classmethod
    def of(cls, bumps: Sequence[tuple[float, ...]]) -> "Relief":
        """Build a relief from rows of amplitude, |x|, y, spread in x, spread in y."""
        exponents, readout = [], []
        for amplitude, x, y, spread_x, spread_y in bumps:
            u, v = 1 / spread_x**2, 1 / spread_y**2
            exponents.append((-u, 2 * u * x, -v, 2 * v * y, -u * x * x - v * y * y))
            slope = 2 * amplitude
            readout.append((amplitude, -slope * u, slope * u * x, -slope * v, slope * v * y))
        return cls(np.array(exponents, np.float32), np.array(readout, np.float32).T)

    def first(self, count: int) -> "Relief":
        """Return the relief of the first `count` bumps alone."""
        return Relief(self.exponents[:count], self.readout[:, :count])

    def height(self, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Return how far the relief stands out at (x, y)."""
        return self.readout[0] @ self.bells(np.abs(x), y)

    def height_and_slopes(
        self, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Return how far the relief stands out at (x, y), and its derivatives in x and y."""
        across = np.abs(x)
        height, x_by_across, x_rest, y_by_y, y_rest = self.readout @ self.bells(across, y)
        return height, np.copysign(1, x) * (x_by_across * across + x_rest), y_by_y * y + y_rest

    def bells(self, across: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "bumps n"]:
        """Return each bump, at an amplitude of 1, where |x| = across."""
        powers = np.ones((5, len(y)), y.dtype)
        np.multiply(across, across, out=powers[0])
        powers[1] = across
        np.multiply(y, y, out=powers[2])
        powers[3] = y
        bells = self.exponents @ powers
        return np.exp(bells, out=bells)


@dataclass(frozen=True)
class Head:
    """The shape of a head and what its face does; lengths and heights are in head units."""

    width: float  # half the width of the skull
    depth: float  # half the depth of the skull
    chin: float  # height of the lower end of the chin while the jaw is closed
    jaw: float  # 0 a pointed chin, 0.6 a square jaw
    eye_x: float
    eye_y: float
    eye_width: float  # half the width of an eye
    eye_tilt: float  # how far the outer corner lies above the centre
    eye_rest: float  # how far the eyes are open at rest: 0 closed, 1 wide
    brow_y: float  # at rest
    brow_arch: float
    brow_thickness: float  # half the thickness at the inner end
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
    brow_inner: float = 0.0  # how far the inner ends of the brows are raised
    brow_outer: float = 0.0  # how far the outer ends are raised
    brow_knit: float = 0.0  # how far the brows are drawn together
    lid_raise: float = 0.0  # added to `eye_rest`
    lids_shut: float = 0.0  # share of the opening of the eyes that is taken away
    cheek_raise: float = 0.0  # how far the cheeks are raised
    nose_wrinkle: float = 0.0  # how far the nostrils are raised
    corner_lift: float = 0.0  # how far the corners of the mouth are raised
    mouth_stretch: float = 0.0  # added to half the width of the mouth
    lips_apart: float = 0.0  # gap between the lips
    jaw_drop: float = 0.0  # how far the chin is lowered
    chin_raise: float = 0.0  # how far the chin pushes the lower lip up

    @property
    def chin_y(self) -> float:
        """Height of the lower end of the chin."""
        return self.chin + self.jaw_drop

    @property
    def nose_y(self) -> float:
        """Height of the nostrils."""
        return self.nose_rest_y - self.nose_wrinkle

    @property
    def mouth_y(self) -> float:
        """Height of the seam between the lips."""
        return self.mouth_rest_y + 0.25 * self.jaw_drop - 0.7 * self.chin_raise - 0.3 * self.nose_wrinkle

    @property
    def eye_opening(self) -> float:
        """How far the eyes are open: 0 closed, about 1 wide."""
        return (self.eye_rest + self.lid_raise) * (1 - self.lids_shut)

    @property
    def eyes_closed(self) -> bool:
        """Whether the eyes count as closed."""
        return self.eye_opening < 0.12

    @property
    def mouth_open(self) -> bool:
        """Whether the mouth counts as open."""
        return self.lips_apart > OPEN

    # Outlines of the parts in the frontal plane.

    def lids(self, across: Float[np.ndarray, "*p"]) -> tuple[Float[np.ndarray, "*p"], Float[np.ndarray, "*p"]]:
        """Return the heights of the upper and the lower lid at -1 (inner corner) <= across <= 1 (outer corner)."""
        axis = self.eye_y - self.eye_tilt * across
        square = across * across
        almond = (1 - square) * (1 + 0.5 * square)
        # A closed eye keeps a slit, so that its lash line is still labelled eye.
        upper = axis + 0.02 - (0.031 + 0.072 * self.eye_opening) * almond
        # Raised cheeks push the lower lid up, but never past the upper one.
        raised = min(0.5 * self.cheek_raise, 0.035 * self.eye_opening)
        lower = axis + 0.005 + (0.022 + 0.023 * self.eye_opening - raised) * almond
        return upper - 0.02 * (1 - almond), lower + 0.005 * (1 - almond)

    def brow(self, along: Float[np.ndarray, "*p"]) -> tuple[Float[np.ndarray, "*p"], Float[np.ndarray, "*p"]]:
        """Return the height of the middle line of a brow, and half its thickness.

        `along` runs from 0 at the inner to 1 at the outer end.
        """
        middle = self.brow_y - self.brow_lift(along) - 4 * self.brow_arch * along * (1.15 - along)
        return middle, self.brow_thickness * (1 - 0.6 * along**2)

    def brow_lift(self, along: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
        """Return how far a brow is raised at `along`, see `brow`."""
        return self.brow_inner * (1 - along) * (1 - along) + self.brow_outer * along * (2 - along)

    @property
    def brow_ends(self) -> tuple[float, float]:
        """Distances of the inner and the outer end of a brow from the mid-plane."""
        return self.eye_x - 1.15 * self.eye_width - self.brow_knit, self.eye_x + 1.3 * self.eye_width

    def nose_half_width(self, y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
        """Return half the width of the region labelled nose at heights y; negative above and below the region."""
        top, bottom = self.eye_y, self.nose_y + 0.035
        down = np.minimum(np.maximum((y - top) / (bottom - top), 0), 1)
        flank = 0.07 + (self.nose_width - 0.02) * down * down * np.sqrt(down)
        rounding = np.minimum(1, np.maximum(bottom - y, 0) / 0.09)
        return np.where((y > top) & (y < bottom), flank * np.sqrt(rounding * (2 - rounding)), -0.1)

    @property
    def mouth_half_width(self) -> float:
        """Half the width of the mouth."""
        return self.mouth_width + self.mouth_stretch

    def lips(
        self, across: Float[np.ndarray, "*p"]
    ) -> tuple[Float[np.ndarray, "*p"], Float[np.ndarray, "*p"], Float[np.ndarray, "*p"], Float[np.ndarray, "*p"]]:
        """Return the heights of top and bottom of the upper lip, then of the lower lip, at -1 <= across <= 1."""
        square = across * across
        seam = self.mouth_y - self.corner_lift * (square - 0.3)
        # The gap ends before the corners do, where the lips meet; it opens downwards more than upwards.
        gap = np.maximum(1 - square * (1 / 0.85**2), 0) * self.lips_apart
        thin = 1 - 1.5 * abs(self.corner_lift) - 2.0 * self.mouth_stretch  # stretched lips are thinner
        fullness = thin * np.sqrt(np.maximum(1 - square, 0))
        bow = 1 - 0.3 * np.exp(square * (-1 / 0.13**2))
        top, bottom = seam - 0.25 * gap, seam + 0.75 * gap
        return top - self.upper_lip * fullness * bow, top, bottom, bottom + self.lower_lip * fullness

    # The surface: x²/width² + (z - axis(y))²/depth² + height(y) = 1 + relief(x, y).

    @cached_property
    def relief(self) -> Relief:
        """All that stands out of the bare skull. The first four bumps are the nose."""
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
        """The relief of the nose alone."""
        return self.relief.first(4)

    def height(self, y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
        """Return the term height(y) of the surface: 0 at the origin, 1 at crown and chin."""
        above, below = np.minimum(y, 0), np.maximum(y, 0)
        quartic, square = self._lower_face
        below *= below
        return above * above + below * (quartic * below + square)

    @property
    def _lower_face(self) -> tuple[float, float]:
        """The weights of y⁴ and of y² in `height` below the origin: more y⁴ makes a squarer jaw."""
        return self.jaw / self.chin_y**4, (1 - self.jaw) / self.chin_y**2

    def axis(self, y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
        """Return z of the middle of the horizontal section at y; the lower face is set forward."""
        below = np.maximum(y, 0)
        return FORWARD * below * below

    def signed(self, points: Float[np.ndarray, "3 n"], relief: Relief) -> Float[np.ndarray, "n"]:
        """Return the implicit function of the surface at points: negative inside, positive outside."""
        x, y, z = points
        side, behind = x / self.width, (z - self.axis(y)) / self.depth
        return side * side + behind * behind + self.height(y) - 1 - relief.height(x, y)

    def surface(
        self, points: Float[np.ndarray, "3 n"], relief: Relief | None
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "3 n"]]:
        """Return the implicit function at points and its gradient; without a relief those of the bare skull."""
        x, y, z = points
        above, below = np.minimum(y, 0), np.maximum(y, 0)
        quartic, square = self._lower_face
        below_squared = below * below
        behind = z - FORWARD * below_squared
        # Value and gradient share their terms: x²/width² is half of x times its own derivative, and so for z. All is
        # written into one array, as this runs several times for every ray.
        gradient = np.empty_like(points)
        right, down, away = gradient
        np.multiply(x, 2 / self.width**2, out=right)
        np.multiply(behind, 2 / self.depth**2, out=away)
        by_height = quartic * below_squared
        value = 0.5 * (x * right + behind * away)
        value += above * above + below_squared * (by_height + square) - 1
        # The chain rule through `axis`: below the origin y also moves the middle of the section in z.
        np.add(2 * above, below * (4 * by_height + 2 * square - 2 * FORWARD * away), out=down)
        if relief:
            height, slope_x, slope_y = relief.height_and_slopes(x, y)
            value -= height
            right -= slope_x
            down -= slope_y
        return value, gradient

    def normals(self, points: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "3 n"]:
        """Return the outward unit normals at points of the surface."""
        _, gradient = self.surface(points, self.relief)
        return gradient / np.sqrt(np.einsum("in,in->n", gradient, gradient))

    def on_front(self, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "3 n"]:
        """Return the points of the front of the surface over (x, y) of the frontal plane."""
        side = x * (1 / self.width)
        radius = 1 - self.height(y) + self.relief.height(x, y) - side * side
        return np.array([x, y, self.axis(y) - self.depth * np.sqrt(np.maximum(radius, 0))])

    def side_x(self, side: Float[np.ndarray, "*#p"], y: Float[np.ndarray, "*#p"]) -> Float[np.ndarray, "*p"]:
        """Return x of points of the bare skull at heights y, where -1 <= side <= 1 is the sine of their azimuth."""
        return side * (self.width * np.sqrt(np.maximum(1 - self.height(y), 0)))


def rotation(yaw: float, pitch: float, roll: float) -> Float32[np.ndarray, "3 3"]:
    """Return the rotation from head coordinates to camera axes; angles are in radians.

    Positive yaw turns the face to the right of the image, positive pitch down, and positive roll clockwise.
    """
    turn = np.array([[cos(yaw), 0, -sin(yaw)], [0, 1, 0], [sin(yaw), 0, cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    tilt = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)
