"""Metrics of numbers, such as intensities of action units, valence or age, on the host in float64.

All are functions of sums over images. A value that is not defined is NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from facerep_jax.evaluation.metrics import mean_defined, ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Rows

ROUNDING = 1e-12  # of a mean square, below which a variance is that of a constant


class Moments(NamedTuple):
    """Of truth y and prediction p, over the images where y is known; each is "r k"."""

    mean_y: Any
    mean_p: Any
    variance_y: Any  # of the population, with n in the denominator
    variance_p: Any
    covariance: Any
    squared: Any  # mean of (y - p)²
    absolute: Any  # mean of |y - p|
    same_sign: Any  # share of images
    within: Any  # share of images with |y - p| up to the tolerance


class Kind(NamedTuple):
    """A way to score numbers."""

    value: Callable[[Moments], Any]
    said: str  # how tables write it
    explains: str
    lower_is_better: bool = False
    is_share: bool = False  # a share of images, which is written in percent
    in_units: bool = False  # it has the unit of the numbers
    per_row: bool = False  # it is defined for a single image


KINDS = {
    "icc": Kind(
        lambda m: ratio(2 * m.covariance, m.variance_y + m.variance_p),
        "ICC(3,1)",
        "ICC(3,1): 2 · covariance / (variance of the truth + variance of the prediction), over all test images; 1 is "
        "best, a constant prediction has 0. An offset that is the same for all images does not lower it.",
    ),
    "ccc": Kind(
        lambda m: ratio(2 * m.covariance, m.variance_y + m.variance_p + np.square(m.mean_y - m.mean_p)),
        "CCC",
        "CCC, concordance correlation: 2 · covariance / (variance of the truth + variance of the prediction + square "
        "of the difference of their means); 1 is best, a constant prediction has 0.",
    ),
    "pcc": Kind(
        lambda m: ratio(m.covariance, np.sqrt(m.variance_y * m.variance_p)),
        "PCC",
        "PCC, Pearson's correlation; not defined for a constant prediction.",
    ),
    "mse": Kind(lambda m: m.squared, "MSE", "MSE: mean squared error.", lower_is_better=True, per_row=True),
    "rmse": Kind(
        lambda m: np.sqrt(m.squared), "RMSE", "RMSE: root of the mean squared error.", True, in_units=True, per_row=True
    ),
    "mae": Kind(lambda m: m.absolute, "MAE", "MAE: mean absolute error.", True, in_units=True, per_row=True),
    "sagr": Kind(
        lambda m: m.same_sign,
        "SAGR",
        "SAGR: the share of images whose truth and prediction have one sign; that of 0 is like no other's.",
        is_share=True,
        per_row=True,
    ),
    "cs": Kind(
        lambda m: m.within,
        "CS",
        "CS(t), cumulative score: the share of images with an absolute error of up to t.",
        is_share=True,
        per_row=True,
    ),
}


class Numbers:
    """Agreement of predicted with true numbers, each by itself, and the mean over those where it is defined.

    Values are `<kind>_<name>` and `<kind>_mean`; of a single number just `<kind>`. `cs` has its tolerance in its name:
    `cs_5`. A truth that is NaN is not known and does not count; `images` is the number of images with a known one.

    Source: ICC(3,1), Shrout and Fleiss 1979, whose mean squares come to the closed form above for two raters; CCC, Lin
    1989, with the population's variances, and SAGR as github.com/face-analysis/emonet has them; CS(5) as papers on age
    do.

    Args:
        names: of the numbers, in order.
        key: the feature that holds them.
        kinds: of `KINDS`, the headline first.
        unit: of the numbers, such as years; empty if they have none.
        tolerance: of `cs`.
    """

    optional = (PERSON,)
    unit, belongs_to = "image", "person"
    error_limit = None
    counts = ("images",)

    def __init__(self, names: Sequence[str], key: str, kinds: Sequence[str], unit: str = "", tolerance: float = 0.0):
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ValueError(f"no metric {unknown[0]!r} of numbers; {nearest(unknown[0], KINDS)}")
        self.labels, self.key, self.kinds, self.tolerance = tuple(names), key, tuple(kinds), tolerance
        first = KINDS[self.kinds[0]]
        self.lower_is_better, self.per_row = first.lower_is_better, first.per_row
        self._called = {kind: f"cs_{self.tolerance:g}" if kind == "cs" else kind for kind in self.kinds}
        self.columns = tuple(called if len(self.labels) == 1 else f"{called}_mean" for called in self._called.values())
        self.headline = self.columns[0]
        per_row = [
            (column, KINDS[kind].lower_is_better)
            for kind, column in zip(self.kinds, self.columns, strict=True)
            if KINDS[kind].per_row
        ]
        self.ranked = per_row[0] if per_row else None
        self.names, self.measures = dict[str, str](), dict[str, str]()
        for kind, called in self._called.items():
            said = f"CS({self.tolerance:g})" if kind == "cs" else KINDS[kind].said
            alone = {called: said} if len(self.labels) == 1 else {f"{called}_mean": f"{said}, mean"}
            names_of_kind = alone | {f"{called}_{label}": f"{said} {label}" for label in self.labels}
            self.names |= names_of_kind
            if not KINDS[kind].is_share:
                self.measures |= dict.fromkeys(names_of_kind, unit if KINDS[kind].in_units else "")
        self.explains = tuple(KINDS[kind].explains for kind in self.kinds)

    def rows(self, prediction: Float[np.ndarray | Array, "n *k"], split: Mapping[str, Any]) -> Rows:
        """Per image and number: whether it is known, and what moments are made of."""
        n = len(split["id"])
        p, y = (np.asarray(x, np.float64).reshape(n, -1) for x in (prediction, split[self.key]))
        if p.shape != y.shape or y.shape[1] != len(self.labels):
            raise ValueError(f"predictions are {p.shape}, the true numbers {y.shape}, of {len(self.labels)} names")
        known = np.isfinite(y)
        p, y = np.where(known, p, 0), np.where(known, y, 0)
        error = np.abs(y - p)
        same = np.sign(y) == np.sign(p)
        parts = (
            known,
            y,
            p,
            y * y,
            p * p,
            y * p,
            error * error,
            error,
            known & same,
            known & (error <= self.tolerance),
        )
        return Rows(list(split["id"]), units_of(split), np.concatenate(parts, axis=1).astype(np.float64))

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        counts, *sums = np.split(weights @ statistics, 10, axis=1)
        y, p, yy, pp, yp, squared, absolute, same, within = (ratio(x, counts) for x in sums)
        moments = Moments(y, p, spread(yy, y), spread(pp, p), yp - y * p, squared, absolute, same, within)
        constant = (moments.variance_y == 0) | (moments.variance_p == 0)
        moments = moments._replace(covariance=np.where(constant, 0 * yp, moments.covariance))
        found = {}
        for kind, called in self._called.items():
            values = KINDS[kind].value(moments)
            if len(self.labels) == 1:
                found[called] = values[:, 0]
                continue
            found[f"{called}_mean"] = mean_defined(values)
            found |= {f"{called}_{label}": values[:, place] for place, label in enumerate(self.labels)}
        known = statistics[:, : len(self.labels)].any(1)
        return found | {"images": weights @ known.astype(np.float64)}


def spread(mean_square: Float[np.ndarray, "r k"], mean: Float[np.ndarray, "r k"]) -> Float[np.ndarray, "r k"]:
    """The variance of the population; 0 where it is no more than what rounding leaves of a constant."""
    variance = mean_square - np.square(mean)
    return np.where(variance <= ROUNDING * mean_square, 0.0 * mean_square, variance)
