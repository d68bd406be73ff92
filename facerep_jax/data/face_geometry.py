"""A head as a closed-form surface: its implicit function, its features' outlines and its fixed points.

Head coordinates: x to the image's right in a frontal photograph, y down, z away from the viewer. The origin is the
middle of the head and half the head's height is one unit: the crown lies at y = -1, the eyes near 0, the chin near 1.
Feature outlines (lids, brows, nose, lips) are curves in the frontal plane (x, y), laid onto the surface along z, so
that landmarks and labels follow from the same formulas. Everything is symmetric about x = 0.
"""

from dataclasses import dataclass
from functools import cached_property
from math import cos, sin
from typing import NamedTuple

import numpy as np

# The iBUG order mirrored: jaw, brows, bridge, nostrils, eyes, outer lips, inner lips.
LANDMARK_FLIP = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
GRID_ROWS, GRID_COLUMNS = 24, 25  # of the vertices that follow the 68 landmarks
FORWARD = -0.42  # how far the lower face is set forward: z of its middle per y²
_GRID = np.arange(68, 68 + GRID_ROWS * GRID_COLUMNS).reshape(GRID_ROWS, GRID_COLUMNS)
VERTEX_FLIP = (*LANDMARK_FLIP, *_GRID[:, ::-1].ravel().tolist())


class Relief(NamedTuple):
    """Gaussian bumps over (|x|, y), evaluated as two matrix products around one exponential."""

    exponents: np.ndarray  # (bumps, 5), coefficients of x², |x|, y², y, 1
    readout: np.ndarray  # (5, bumps): the sum, and its slopes as (first |x| + second) sign(x) and third y + fourth

    @classmethod
    def of(cls, bumps: list[tuple[float, ...]]) -> "Relief":
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
        return self.readout[0] @ self._bells(np.abs(x), y)

    def height_and_slopes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The relief at (x, y), each (n,), and its derivatives in x and y."""
        across = np.abs(x)
        height, x_by_across, x_rest, y_by_y, y_rest = self.readout @ self._bells(across, y)
        return height, np.copysign(1, x) * (x_by_across * across + x_rest), y_by_y * y + y_rest

    def _bells(self, across: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The bumps at amplitude 1 (bumps, n)."""
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
    chin: float  # height of the chin's lower end, mouth closed
    jaw: float  # 0 a pointed chin, 0.6 a square jaw
    eye_x: float
    eye_y: float
    eye_width: float  # half the width of an eye
    eye_tilt: float  # height of the outer corner over the centre
    brow_y: float
    brow_arch: float
    brow_thickness: float  # half of it, at the inner end
    nose_y: float  # height of the nostrils
    nose_width: float  # half the width over the nostrils
    nose_relief: float  # how far the nose protrudes, about 1
    mouth_y: float
    mouth_width: float  # half the width of the mouth at rest
    upper_lip: float
    lower_lip: float
    eye_opening: float  # 0 closed, 1 wide
    brow_raise: float
    smile: float  # -0.5 sad, 1 laughing
    mouth_opening: float  # about half the gap between the lips

    @property
    def chin_y(self) -> float:
        """Height of the chin's lower end: the jaw drops as the mouth opens."""
        return self.chin + 0.6 * self.mouth_opening

    @property
    def eyes_closed(self) -> bool:
        return self.eye_opening < 0.2

    # Feature outlines in the frontal plane.

    def lids(self, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights of the upper and the lower lid at -1 (inner corner) <= across <= 1 (outer corner)."""
        axis = self.eye_y - self.eye_tilt * across
        square = across * across
        almond = (1 - square) * (1 + 0.5 * square)
        # A closed eye keeps a slit: its lash line is still labelled eye.
        upper = axis + 0.02 - (0.028 + 0.075 * self.eye_opening) * almond
        lower = axis + 0.005 + (0.018 + 0.027 * self.eye_opening) * almond
        return upper - 0.02 * (1 - almond), lower + 0.005 * (1 - almond)

    def brow(self, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Height of the brow's middle line and half its thickness at 0 (inner end) <= along <= 1 (outer end)."""
        middle = self.brow_y - self.brow_raise - 4 * self.brow_arch * along * (1.15 - along)
        return middle, self.brow_thickness * (1 - 0.6 * along**2)

    @property
    def brow_ends(self) -> tuple[float, float]:
        """Distances of the brow's inner and outer end from the mid-plane."""
        return self.eye_x - 1.15 * self.eye_width, self.eye_x + 1.3 * self.eye_width

    def nose_half_width(self, y: np.ndarray) -> np.ndarray:
        """Half the width of the region called nose at height y; negative above and below it."""
        top, bottom = self.eye_y, self.nose_y + 0.035
        down = np.minimum(np.maximum((y - top) / (bottom - top), 0), 1)
        flank = 0.07 + (self.nose_width - 0.02) * down * down * np.sqrt(down)
        rounding = np.minimum(1, np.maximum(bottom - y, 0) / 0.09)
        return np.where((y > top) & (y < bottom), flank * np.sqrt(rounding * (2 - rounding)), -0.1)

    @property
    def mouth_half_width(self) -> float:
        """Half the width of the mouth: wider in a smile, narrower when open."""
        return self.mouth_width * (1 + 0.22 * max(self.smile, 0.0) - 1.0 * self.mouth_opening)

    def lips(self, across: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Heights of the upper lip's top and bottom and the lower lip's top and bottom at -1 <= across <= 1."""
        square = across * across
        seam = self.mouth_y - 0.1 * self.smile * (square - 0.3)
        gap = np.maximum(1 - square / 0.85**2, 0) * self.mouth_opening
        fullness = np.sqrt(np.maximum(1 - square, 0))
        bow = 1 - 0.3 * np.exp(square / -(0.13**2))
        top, bottom = seam - 0.5 * gap, seam + 1.5 * gap
        return top - self.upper_lip * fullness * bow, top, bottom, bottom + self.lower_lip * fullness

    # The surface: x²/width² + (z - axis(y))²/depth² + height(y) = 1 + relief(x, y).

    @cached_property
    def relief(self) -> Relief:
        """All that stands out of the bare skull, the nose first."""
        nose, smile, chin = self.nose_relief, max(self.smile, 0.0), self.chin_y
        mouth_y = self.mouth_y + 0.5 * self.mouth_opening
        return Relief.of(
            [
                (0.22 * nose, 0.0, self.nose_y - 0.28, 0.075, 0.19),
                (0.46 * nose, 0.0, self.nose_y - 0.1, 0.1, 0.13),
                (0.25 * nose, self.nose_width - 0.055, self.nose_y - 0.045, 0.055, 0.055),
                (-0.12 * nose, 0.0, self.nose_y + 0.07, 0.13, 0.06),
                (-0.24, self.eye_x - 0.04, self.eye_y, 0.17, 0.1),
                (0.1, self.eye_x, self.eye_y, 0.1, 0.055),
                (0.05, self.eye_x - 0.05, self.brow_y, 0.24, 0.07),
                (0.09 + 0.1 * smile, self.eye_x + 0.1, self.nose_y - 0.1, 0.18, 0.17),
                (0.12, 0.0, mouth_y, 0.2, 0.095),
                (-0.06, 0.0, 0.5 * (mouth_y + self.lower_lip + chin) - 0.03, 0.16, 0.06),
                (0.14, 0.0, chin - 0.13, 0.17, 0.095),
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
        """Points of the surface's front (3, n) over the frontal plane's (x, y)."""
        side = x / self.width
        radius = 1 - self.height(y) + self.relief.height(x, y) - side * side
        return np.stack([x, y, self.axis(y) - self.depth * np.sqrt(np.maximum(radius, 0))])

    def side_x(self, side: np.ndarray, y: np.ndarray) -> np.ndarray:
        """x at heights y and -1 <= side <= 1, the sine of the azimuth on the bare skull."""
        return side * (self.width * np.sqrt(np.maximum(1 - self.height(y), 0)))

    # Fixed points of the surface.

    @property
    def jaw_line(self) -> tuple[np.ndarray, np.ndarray]:
        """Side and height, (17,) each, of the jaw's landmarks from image left to image right."""
        return _JAW_SIDE, self.chin_y * _JAW_HEIGHT

    @property
    def landmark_places(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y, (68,) each, of iBUG's points: those of the image's right half, mirrored."""
        side, jaw_y = (values[8:] for values in self.jaw_line)
        inner, outer = self.brow_ends
        upper, lower = self.lids(_EYE_ACROSS)
        corner = (upper + lower) / 2
        top, seam_top, seam_bottom, bottom = self.lips(_MOUTH_ACROSS)
        x = np.concatenate(
            [
                self.side_x(side, jaw_y),
                inner + _BROW_ALONG * (outer - inner),
                _BRIDGE * 0,
                self.nose_width * _NOSTRIL_ACROSS,
                self.eye_x + self.eye_width * _EYE_ACROSS[_EYE_ROUND],
                self.mouth_half_width * _MOUTH_ACROSS[_MOUTH_ROUND],
            ]
        )
        y = np.concatenate(
            [
                jaw_y,
                self.brow(_BROW_ALONG)[0],
                self.eye_y + 0.02 + (self.nose_y - self.eye_y - 0.09) * _BRIDGE,
                self.nose_y + _NOSTRIL_DROP,
                *(corner[:1], upper[1:3], corner[3:], lower[2:0:-1]),
                *(top[:3], seam_top[3:4], bottom[2::-1]),
                *(seam_top[4:], seam_bottom[5:3:-1]),
            ]
        )
        return _MIRRORED_SIGN * x[_MIRRORED], y[_MIRRORED]

    @cached_property
    def vertices(self) -> np.ndarray:
        """The landmarks, then a grid of `GRID_ROWS` x `GRID_COLUMNS` points over front and sides: (3, V)."""
        y = np.where(_GRID_Y > 0, self.chin_y, 1) * _GRID_Y
        # Around the mouth the points go with the lips.
        distance = (y - self.mouth_y) / 0.12
        drop = np.where(distance > 0, 1.5 * self.mouth_opening, -0.5 * self.mouth_opening)
        y = y + np.exp(-distance * distance) * _GRID_NEAR_MOUTH * (drop - 0.3 * self.smile * _GRID_SIDE**2)
        landmark_x, landmark_y = self.landmark_places
        x = np.concatenate([landmark_x, self.side_x(_GRID_SIDE, y).ravel()])
        return self.on_front(x.astype(np.float32), np.concatenate([landmark_y, y.ravel()]).astype(np.float32))

    @property
    def landmarks(self) -> np.ndarray:
        """The 68 points of iBUG (3, 68) in head coordinates."""
        return self.vertices[:, :68]

    @cached_property
    def landmark_normals(self) -> np.ndarray:
        """The surface's outward unit normals (3, 68) there."""
        return self.normals(self.landmarks)


# Where the fixed points lie on their outlines.
_AWAY = np.linspace(-1, 1, 17)
_JAW_SIDE = 0.975 * np.tanh(3.2 * _AWAY) / np.tanh(3.2)
_JAW_HEIGHT = 0.975 - 0.9 * np.abs(_AWAY) ** 1.75
_BROW_ALONG = np.linspace(0.04, 0.94, 5)
_BRIDGE = np.linspace(0, 1, 4)
_NOSTRIL_ACROSS = np.array([0, 0.45, 0.85])
_NOSTRIL_DROP = np.array([0.015, 0, -0.015])
_EYE_ACROSS = np.array([-0.97, -0.36, 0.36, 0.97])  # the image's right eye starts at its inner corner
_EYE_ROUND = [0, 1, 2, 3, 2, 1]
_MOUTH_ACROSS = np.array([0, 0.24, 0.6, 0.98, 0, 0.35, 0.8])  # along the outer, then the inner outline
_MOUTH_ROUND = [0, 1, 2, 3, 2, 1, 0, 4, 5, 6, 5, 4]
_RIGHT_HALF = [*range(8, 17), *range(22, 31), *range(33, 36), *range(42, 48), *range(51, 58), *range(62, 67)]
_MIRRORED = [
    _RIGHT_HALF.index(point if point in _RIGHT_HALF else LANDMARK_FLIP[point]) for point in range(len(LANDMARK_FLIP))
]
_MIRRORED_SIGN = np.array([1.0 if point in _RIGHT_HALF else -1.0 for point in range(len(LANDMARK_FLIP))])
_GRID_Y = np.linspace(-0.62, 0.94, GRID_ROWS)[:, None]
_GRID_SIDE = np.linspace(-0.97, 0.97, GRID_COLUMNS)
_GRID_NEAR_MOUTH = np.exp(-((_GRID_SIDE / 0.4) ** 2))


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The (3, 3) rotation from head to camera axes; angles in radians.

    Positive yaw turns the face to the image's right, positive pitch down, positive roll clockwise.
    """
    turn = np.array([[cos(yaw), 0, -sin(yaw)], [0, 1, 0], [sin(yaw), 0, cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    tilt = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)
