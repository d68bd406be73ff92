"""Angles of a head: as rotations, from cameras, and from 3DDFA's parameters; on the host in float64."""

from typing import Any

import numpy as np
from jaxtyping import Float


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


def angles_of_3ddfa(pose_para: Float[np.ndarray, "_"]) -> Float[np.ndarray, "3"]:
    """Yaw, pitch and roll in degrees, as `rotations` has them, of 3DDFA's Pose_Para: pitch, yaw, roll, ...; in radians.

    There x points right, y up and z towards the camera, and the head is turned by roll first, then by yaw, then by
    pitch, so that angles are not the same numbers with other signs unless one of them alone is not 0.

    Source: 3DDFA (Zhu et al., CVPR 2016), RotationMatrix.m and what reads its parameters: R = R_x R_y R_z, each the
    transpose of the rotation about its axis, and height + 1 - y in the image.
    """
    pitch, yaw, roll = np.degrees(np.asarray(pose_para, np.float64)[:3])
    none = 0 * pitch
    steps = np.array([[none, -pitch, none], [-yaw, none, none], [none, none, roll]])  # in our axes, the last first
    nod, turn, tilt = rotations(steps)
    return angles_of(np.column_stack([nod @ turn @ tilt, np.zeros(3)]))
