"""How well angles of a head are predicted; on the host in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from facerep_jax.data.pose import rotations
from facerep_jax.evaluation.metrics import ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.typing import Rows

ANGLES = ("yaw", "pitch", "roll")


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
