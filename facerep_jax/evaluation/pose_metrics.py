"""Angles of a head: from cameras, as rotations, and how well they are predicted; on the host in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from facerep_jax.evaluation.metrics import ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.typing import Rows

ANGLES = ("yaw", "pitch", "roll")


def rotations(angles_deg: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Rotations from head to camera: the head is turned by yaw first, then by pitch, then by roll.

    x points right, y down, z away from the camera. Positive yaw turns the face to the right of the image, positive
    pitch down, positive roll clockwise.
    """
    yaw, pitch, roll = np.moveaxis(np.radians(angles_deg), -1, 0)
    one, none = np.ones_like(yaw), np.zeros_like(yaw)

    def matrix(*rows: tuple[Any, ...]) -> np.ndarray:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    turn = matrix((np.cos(yaw), none, -np.sin(yaw)), (none, one, none), (np.sin(yaw), none, np.cos(yaw)))
    nod = matrix((one, none, none), (none, np.cos(pitch), -np.sin(pitch)), (none, np.sin(pitch), np.cos(pitch)))
    tilt = matrix((np.cos(roll), -np.sin(roll), none), (np.sin(roll), np.cos(roll), none), (none, none, one))
    return tilt @ nod @ turn


def angles_of(camera: Float[np.ndarray, "3 4"]) -> Float[np.ndarray, "3"]:
    """Yaw, pitch and roll in degrees of the rotation that is nearest to a camera's linear part; NaN if there is none.

    Pitch is from -90 to 90, the others from -180 to 180. `rotations` is the inverse.
    """
    linear = np.asarray(camera, np.float64)[:, :3]
    if not np.isfinite(linear).all() or not np.linalg.det(linear) > 0:
        return np.full(3, np.nan)
    left, _, right = np.linalg.svd(linear)
    r = left @ right
    pitch = np.arcsin(np.clip(r[2, 1], -1, 1))
    return np.degrees([np.arctan2(r[2, 0], r[2, 2]), pitch, np.arctan2(-r[0, 1], r[1, 1])])


class Angles:
    """Errors of yaw, pitch and roll in degrees: mean absolute error of each and of all, and of the whole rotation.

    The difference of two angles is taken the short way round. `geodesic` is the angle of the rotation between true and
    predicted pose, arccos((trace(R S^T) - 1) / 2). An image without a known pose (NaN) does not count; `images` is the
    number of those that do.

    Source: mean absolute error of Euler angles, as papers since Hopenet (1710.00925) give it; the geodesic distance on
    SO(3), Huynh 2009.
    """

    lower_is_better = True
    headline = "mae_mean"
    columns = ("mae_mean", *(f"mae_{name}" for name in ANGLES), "geodesic")
    optional = (PERSON,)
    unit, belongs_to = "image", "person"
    per_row = True
    error_limit = None
    counts = ("images",)
    names: Mapping[str, str] = {
        "mae_mean": "MAE, mean",
        **{f"mae_{name}": f"MAE {name}" for name in ANGLES},
    }
    measures: Mapping[str, str] = dict.fromkeys(columns, "°")
    explains = (
        "MAE: mean absolute error of yaw, pitch and roll, in degrees.",
        "Geodesic: the angle by which the predicted pose would have to be turned to be the true one, mean.",
    )

    def __init__(self, key: str = "head_pose"):
        """`key` is the feature that holds the angles in degrees."""
        self.key = key

    def rows(self, prediction: Float[np.ndarray | Array, "n _"], split: Mapping[str, Any]) -> Rows:
        """Per image: whether its pose is known, the error of each angle, and that of the rotation."""
        p, y = np.asarray(prediction, np.float64), np.asarray(split[self.key], np.float64)
        if p.shape != y.shape or y.shape[1:] != (3,):
            raise ValueError(f"predicted angles are {p.shape}, the true ones {y.shape}; yaw, pitch and roll expected")
        known = np.asarray(np.isfinite(y).all(1))
        p, y = np.where(known[:, None], p, 0), np.where(known[:, None], y, 0)
        apart = np.abs((p - y + 180) % 360 - 180)
        trace = np.einsum("nij,nij->n", rotations(p), rotations(y))
        geodesic = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
        statistics = np.column_stack([known, apart, np.where(known, geodesic, 0)])
        return Rows(list(split["id"]), units_of(split), statistics)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        count, *sums = (weights @ statistics).T
        *each, geodesic = (ratio(x, count) for x in sums)
        values = (np.mean(each, axis=0), *each, geodesic)
        return dict(zip(self.columns, values, strict=True)) | {"images": count}
