"""A head as a closed-form surface: its implicit function, its features' outlines and its fixed points.

Head coordinates: x to the image's right in a frontal photograph, y down, z away from the viewer. The origin is the
middle of the head and half the head's height is one unit: the crown lies at y = -1, the eyes near 0, the chin near 1.
Feature outlines (lids, brows, nose, lips) are curves in the frontal plane (x, y), laid onto the surface along z, so
that landmarks and labels follow from the same formulas. Everything is symmetric about x = 0.
"""

from dataclasses import dataclass
from functools import cached_property

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
NOSE_BUMPS = 4  # how many of a head's bumps make its nose
_GRID = np.arange(68, 68 + GRID_ROWS * GRID_COLUMNS).reshape(GRID_ROWS, GRID_COLUMNS)
VERTEX_FLIP = (*LANDMARK_FLIP, *_GRID[:, ::-1].ravel().tolist())


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

    # Feature outlines in the frontal plane.

    def lids(self, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights of the upper and the lower lid at -1 (inner corner) <= across <= 1 (outer corner)."""
        axis = self.eye_y - self.eye_tilt * across
        almond = (1 - across**2) * (1 + 0.5 * across**2)
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
        down = np.clip((y - top) / (bottom - top), 0, 1)
        flank = 0.07 + (self.nose_width - 0.02) * down**2.5
        rounding = np.minimum(1, np.maximum(bottom - y, 0) / 0.09)
        return np.where((y > top) & (y < bottom), flank * np.sqrt(rounding * (2 - rounding)), -0.1)

    @property
    def mouth_half_width(self) -> float:
        """Half the width of the mouth: wider in a smile, narrower when open."""
        return self.mouth_width * (1 + 0.22 * max(self.smile, 0.0) - 1.0 * self.mouth_opening)

    def lips(self, across: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Heights of the upper lip's top and bottom and the lower lip's top and bottom at -1 <= across <= 1."""
        seam = self.mouth_y - 0.1 * self.smile * (across**2 - 0.3)
        gap = np.maximum(1 - (across / 0.85) ** 2, 0) * self.mouth_opening
        fullness = np.sqrt(np.maximum(1 - across**2, 0))
        bow = 1 - 0.3 * np.exp(-((across / 0.13) ** 2))
        top, bottom = seam - 0.5 * gap, seam + 1.5 * gap
        return top - self.upper_lip * fullness * bow, top, bottom, bottom + self.lower_lip * fullness

    # The surface: x²/width² + (z - axis(y))²/depth² + height(y) = 1 + relief(x, y).

    @cached_property
    def bumps(self) -> np.ndarray:
        """Gaussian relief (bumps, 5): amplitude, |x|, y, spread in x, spread in y. The nose is first."""
        nose, smile, chin = self.nose_relief, max(self.smile, 0.0), self.chin_y
        mouth_y = self.mouth_y + 0.5 * self.mouth_opening
        return np.array(
            [
                (0.22 * nose, 0, self.nose_y - 0.28, 0.075, 0.19),
                (0.46 * nose, 0, self.nose_y - 0.1, 0.1, 0.13),
                (0.25 * nose, self.nose_width - 0.055, self.nose_y - 0.045, 0.055, 0.055),
                (-0.12 * nose, 0, self.nose_y + 0.07, 0.13, 0.06),
                (-0.24, self.eye_x - 0.04, self.eye_y, 0.17, 0.1),
                (0.1, self.eye_x, self.eye_y, 0.1, 0.055),
                (0.05, self.eye_x - 0.05, self.brow_y, 0.24, 0.07),
                (0.09 + 0.1 * smile, self.eye_x + 0.1, self.nose_y - 0.1, 0.18, 0.17),
                (0.12, 0, mouth_y, 0.2, 0.095),
                (-0.06, 0, 0.5 * (mouth_y + self.lower_lip + chin) - 0.03, 0.16, 0.06),
                (0.14, 0, chin - 0.13, 0.17, 0.095),
            ],
            dtype=np.float32,
        )

    def relief(self, x: np.ndarray, y: np.ndarray, bumps: np.ndarray) -> np.ndarray:
        """The relief at (x, y), each (n,)."""
        _, _, bell = _bells(x, y, bumps)
        return bumps[:, 0] @ bell

    def relief_slopes(
        self, x: np.ndarray, y: np.ndarray, bumps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The relief at (x, y), each (n,), and its derivatives in x and y."""
        amplitude, _, _, spread_x, spread_y = bumps.T
        across, along, bell = _bells(x, y, bumps)
        across *= bell
        along *= bell
        slope_x = (-2 * amplitude / spread_x) @ across
        return amplitude @ bell, slope_x * np.sign(x), (-2 * amplitude / spread_y) @ along

    def height(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much of the radius the height takes, 0 at the origin and 1 at crown and chin; and its derivative."""
        below = (y > 0).astype(y.dtype)
        stretch = 1 + (1 / self.chin_y - 1) * below
        square = (y * stretch) ** 2
        quartic = self.jaw * below
        return square * (1 + quartic * (square - 1)), 2 * y * stretch**2 * (1 + quartic * (2 * square - 1))

    def axis(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z of the middle of the horizontal section at y, and its derivative: the lower face is set forward."""
        below = np.maximum(y, 0)
        return -0.42 * below**2, -0.84 * below

    def signed(self, points: np.ndarray, bumps: np.ndarray) -> np.ndarray:
        """The surface's implicit function (n,) at points (3, n): negative inside."""
        x, y, z = points
        radius = (x / self.width) ** 2 + ((z - self.axis(y)[0]) / self.depth) ** 2
        return radius + self.height(y)[0] - 1 - self.relief(x, y, bumps)

    def surface(self, points: np.ndarray, bumps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same function with its gradient (3, n)."""
        x, y, z = points
        relief, relief_x, relief_y = self.relief_slopes(x, y, bumps) if len(bumps) else (0.0, 0.0, 0.0)
        height, height_y = self.height(y)
        axis, axis_y = self.axis(y)
        behind = z - axis
        gradient = np.empty_like(points)
        gradient[0] = 2 / self.width**2 * x - relief_x
        gradient[2] = 2 / self.depth**2 * behind
        gradient[1] = height_y - gradient[2] * axis_y - relief_y
        return (x / self.width) ** 2 + (behind / self.depth) ** 2 + height - 1 - relief, gradient

    def on_front(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Points of the surface's front (3, n) over the frontal plane's (x, y)."""
        radius = 1 - self.height(y)[0] + self.relief(x, y, self.bumps) - (x / self.width) ** 2
        return np.stack([x, y, self.axis(y)[0] - self.depth * np.sqrt(np.maximum(radius, 0))])

    def side_x(self, side: np.ndarray, y: np.ndarray) -> np.ndarray:
        """x at heights y and -1 <= side <= 1, the sine of the azimuth on the bare skull."""
        return side * self.width * np.sqrt(np.maximum(1 - self.height(y)[0], 0))

    # Fixed points of the surface.

    @cached_property
    def jaw_line(self) -> tuple[np.ndarray, np.ndarray]:
        """Side and height, (17,) each, of the jaw's landmarks from image left to image right."""
        away = np.linspace(-1, 1, 17)
        height = self.chin_y * (0.975 - 0.9 * np.abs(away) ** 1.75)
        return 0.975 * np.tanh(3.2 * away) / np.tanh(3.2), height

    @property
    def landmark_places(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y, (68,) each, of iBUG's points."""
        inner, outer = self.brow_ends
        along = np.linspace(0.04, 0.94, 5)
        brow_x, brow_y = inner + along * (outer - inner), self.brow(along)[0]

        bridge_y = np.linspace(self.eye_y + 0.02, self.nose_y - 0.07, 4)
        nostril_x = np.array([-0.85, -0.45, 0, 0.45, 0.85]) * self.nose_width
        nostril_y = self.nose_y + np.array([-0.015, 0, 0.015, 0, -0.015])

        across = np.array([-0.97, -0.36, 0.36, 0.97])  # of the image's right eye, which starts at its inner corner
        upper, lower = self.lids(across)
        eye_x = self.eye_x + self.eye_width * across[[0, 1, 2, 3, 2, 1]]
        eye_y = np.concatenate([[(upper[0] + lower[0]) / 2], upper[1:3], [(upper[3] + lower[3]) / 2], lower[2:0:-1]])
        left_eye = [3, 2, 1, 0, 5, 4]

        around = np.array([-0.98, -0.6, -0.24, 0, 0.24, 0.6, 0.98])
        top, seam_top, seam_bottom, bottom = self.lips(around)
        within = np.array([-0.8, -0.35, 0, 0.35, 0.8])
        _, inner_top, inner_bottom, _ = self.lips(within)
        mouth_x = np.concatenate([around, around[5:0:-1], within, within[3:0:-1]]) * self.mouth_half_width
        corner = (seam_top[[0]] + seam_bottom[[0]]) / 2
        mouth_y = np.concatenate([corner, top[1:6], corner, bottom[5:0:-1], inner_top, inner_bottom[3:0:-1]])

        side, jaw_y = self.jaw_line
        x = np.concatenate(
            [self.side_x(side, jaw_y), -brow_x[::-1], brow_x, np.zeros(4), nostril_x, -eye_x[left_eye], eye_x, mouth_x]
        )
        y = np.concatenate([jaw_y, brow_y[::-1], brow_y, bridge_y, nostril_y, eye_y[left_eye], eye_y, mouth_y])
        return x, y

    @cached_property
    def vertices(self) -> np.ndarray:
        """The landmarks, then a grid of `GRID_ROWS` x `GRID_COLUMNS` points over front and sides: (3, V)."""
        y = _GRID_Y * np.where(_GRID_Y > 0, self.chin_y, 1.0)
        # Around the mouth the points go with the lips.
        distance = (y - self.mouth_y) / 0.12
        near = np.exp(-(distance**2) - (_GRID_SIDE / 0.4) ** 2)
        y = y + near * (np.where(distance > 0, 1.5, -0.5) * self.mouth_opening - 0.3 * self.smile * _GRID_SIDE**2)
        landmark_x, landmark_y = self.landmark_places
        x = np.concatenate([landmark_x, self.side_x(_GRID_SIDE, y)])
        return self.on_front(x.astype(np.float32), np.concatenate([landmark_y, y]).astype(np.float32))

    @property
    def landmarks(self) -> np.ndarray:
        """The 68 points of iBUG (3, 68) in head coordinates."""
        return self.vertices[:, :68]


_GRID_Y = np.repeat(np.linspace(-0.62, 0.94, GRID_ROWS), GRID_COLUMNS)
_GRID_SIDE = np.tile(np.linspace(-0.97, 0.97, GRID_COLUMNS), GRID_ROWS)


def _bells(x: np.ndarray, y: np.ndarray, bumps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets from the bumps in spreads, in x and y, and the bumps at amplitude 1; each (bumps, n)."""
    _, x0, y0, spread_x, spread_y = bumps.T
    across = np.abs(x) / spread_x[:, None]
    across -= (x0 / spread_x)[:, None]
    along = y / spread_y[:, None]
    along -= (y0 / spread_y)[:, None]
    bell = across * across
    bell += along * along
    np.exp(np.negative(bell, out=bell), out=bell)
    return across, along, bell


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The (3, 3) rotation from head to camera axes; angles in radians.

    Positive yaw turns the face to the image's right, positive pitch down, positive roll clockwise.
    """
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)
