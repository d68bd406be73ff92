"""Fixed points of the surface of a head: the 68 landmarks of iBUG and a grid of vertices that follow the expression."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from facerep_jax.face_world.geometry import Head

# Which landmark of iBUG becomes which in a mirror: jaw, brows, bridge, nostrils, eyes, outer lips, inner lips.
LANDMARK_FLIP = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
GRID_ROWS, GRID_COLUMNS = 24, 25  # of the vertices that come after the 68 landmarks
_GRID = np.arange(68, 68 + GRID_ROWS * GRID_COLUMNS).reshape(GRID_ROWS, GRID_COLUMNS)
VERTEX_FLIP = (*LANDMARK_FLIP, *_GRID[:, ::-1].ravel().tolist())


class FixedPoints(NamedTuple):
    """The fixed points of a head, in head coordinates."""

    vertices: Float[np.ndarray, "3 vertices"]  # the landmarks, then the grid by rows, each from left to right
    landmark_normals: Float[np.ndarray, "3 68"]  # outward unit normals of the surface at the landmarks

    @property
    def landmarks(self) -> Float[np.ndarray, "3 68"]:
        """The 68 points of iBUG, hidden or not."""
        return self.vertices[:, :68]


def fixed_points(head: Head) -> FixedPoints:
    """Return the fixed points of a head."""
    landmark_x, landmark_y = _landmark_places(head)
    y = _grid_heights(head)
    x = np.concatenate([landmark_x, head.side_x(_GRID_SIDE, y).ravel()])
    vertices = head.on_front(x.astype(np.float32), np.concatenate([landmark_y, y.ravel()]).astype(np.float32))
    return FixedPoints(vertices, head.normals(vertices[:, :68]))


def jaw_line(head: Head) -> tuple[Float[np.ndarray, "17"], Float[np.ndarray, "17"]]:
    """Return side (see `Head.side_x`) and height of the landmarks of the jaw, from left to right in the image."""
    return _JAW_SIDE, head.chin_y * _JAW_HEIGHT


def _grid_heights(head: Head) -> Float[np.ndarray, f"{GRID_ROWS} {GRID_COLUMNS}"]:
    """Return the heights of the grid: even from forehead to chin at rest, then moved with brows, cheeks and lips."""
    y = np.where(_GRID_Y > 0, head.chin_y, 1) * _GRID_Y
    # Each part carries the vertices near it along, with a Gaussian weight of their distance from it.
    from_mouth, from_brow = (y - head.mouth_y) * (1 / 0.12), (y - head.brow_y) * (1 / 0.16)
    from_cheek = (y - head.nose_y + 0.1) * (1 / 0.15)
    drop = np.where(from_mouth > 0, 0.75 * head.lips_apart, -0.25 * head.lips_apart)
    mouth = np.exp(-from_mouth * from_mouth) * _NEAR_MOUTH * (drop - 3 * head.corner_lift * _GRID_SIDE**2)
    brow = np.exp(-from_brow * from_brow) * head.brow_lift(_GRID_ALONG_BROW)
    cheek = np.exp(-from_cheek * from_cheek) * _NEAR_CHEEK * head.cheek_raise
    return y + mouth - brow - cheek


def _landmark_places(head: Head) -> tuple[Float[np.ndarray, "68"], Float[np.ndarray, "68"]]:
    """Return x and y of the 68 points of iBUG: those of the right half of the image, and their mirror images."""
    side, jaw_y = (values[8:] for values in jaw_line(head))
    inner, outer = head.brow_ends
    upper, lower = head.lids(_EYE_ACROSS)
    corner = (upper + lower) / 2
    top, seam_top, seam_bottom, bottom = head.lips(_MOUTH_ACROSS)
    x = np.concatenate(
        [
            head.side_x(side, jaw_y),
            inner + _BROW_ALONG * (outer - inner),
            _BRIDGE * 0,
            head.nose_width * _NOSTRIL_ACROSS,
            head.eye_x + head.eye_width * _EYE_ACROSS[_EYE_ROUND],
            head.mouth_half_width * _MOUTH_ACROSS[_MOUTH_ROUND],
        ]
    )
    y = np.concatenate(
        [
            jaw_y,
            head.brow(_BROW_ALONG)[0],
            head.eye_y + 0.02 + (head.nose_y - head.eye_y - 0.09) * _BRIDGE,
            head.nose_y + _NOSTRIL_DROP,
            *(corner[:1], upper[1:3], corner[3:], lower[2:0:-1]),
            *(top[:3], seam_top[3:4], bottom[2::-1]),
            *(seam_top[4:], seam_bottom[5:3:-1]),
        ]
    )
    return _MIRRORED_SIGN * x[_MIRRORED], y[_MIRRORED]


# Where the fixed points lie on their outlines: of the right half of the image, in iBUG's order.
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
_GRID_ALONG_BROW = np.minimum(np.abs(_GRID_SIDE) / 0.75, 1)
_NEAR_MOUTH = np.exp(-((_GRID_SIDE / 0.4) ** 2))
_NEAR_CHEEK = np.exp(-(((np.abs(_GRID_SIDE) - 0.5) / 0.25) ** 2))
