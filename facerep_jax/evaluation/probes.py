"""Closed-form probes of features: what a pre-training is watched by, in fractions of a second.

Each is a function (`Seen` to fit, `Seen` to score) -> value, or None if the images do not have what it needs. They see
few images and compare the steps of one run with each other; encoders are compared by the tasks of `facerep evaluate`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from facerep_jax.config import build
from facerep_jax.evaluation.metrics import NME, score
from facerep_jax.evaluation.tasks.landmarks import Landmarks

PENALTIES = tuple(10.0**power for power in range(-4, 3))  # of a ridge, as multiples of the mean squared feature
PAIRS = 10  # images with another one of the same person, at least


class Seen(NamedTuple):
    """Images as an encoder sees them, and what is known of them."""

    pooled: Float[np.ndarray, "n d"]
    grid: Float[np.ndarray, "n g"]  # the map of the last stage, flattened
    labels: Mapping[str, Any]  # arrays over the images, and `id`
    meta: Mapping[str, Any]  # of the data set


class Probe(NamedTuple):
    """A probe, and how its value reads."""

    reads: tuple[str, ...]  # the feature that it needs, and those that it uses if they are there
    value: Callable[[Seen, Seen], float | None]
    title: str  # of its curve


def landmarks(fit: Seen, scored: Seen) -> float | None:
    """The headline error of landmarks that a ridge regression on the map of the last stage finds."""
    points = fit.labels["landmarks"].reshape(len(fit.grid), -1)
    if not np.isfinite(points).any(0).all():
        return None
    metric = build(Landmarks.metric(scored.meta))
    found = ridge(fit.grid, points, scored.grid).reshape(scored.labels["landmarks"].shape)
    return score(metric, metric.rows(found, scored.labels).statistics)[metric.headline]


def identity(fit: Seen, scored: Seen) -> float | None:
    """The share of images whose nearest neighbour among the others, by cosine, shows the same person.

    Images without another one of the same person do not count, but may be the nearest.
    """
    person = np.asarray(scored.labels["identity"])
    alike = (person[:, None] == person) & (person >= 0)
    np.fill_diagonal(alike, False)
    if (counts := alike.any(1)).sum() < PAIRS:
        return None
    x = scored.pooled / np.maximum(np.linalg.norm(scored.pooled, axis=1, keepdims=True), 1e-12)
    cosine = x @ x.T
    np.fill_diagonal(cosine, -np.inf)
    return float(alike[np.arange(len(x)), cosine.argmax(1)][counts].mean())


def attributes(fit: Seen, scored: Seen) -> float | None:
    """The area under the ROC curve of a ridge regression on pooled features, mean over attributes that vary."""
    known, truth = fit.labels["attributes"], scored.labels["attributes"]
    varying = [column for column in range(known.shape[1]) if varies(known[:, column]) and varies(truth[:, column])]
    if not varying:
        return None
    found = ridge(fit.pooled, known[:, varying], scored.pooled)
    return float(np.mean([area(found[:, place], truth[:, column]) for place, column in enumerate(varying)]))


PROBES: Mapping[str, Probe] = {
    "landmarks": Probe(("landmarks", *NME.optional), landmarks, "NME of landmarks, ↓ lower is better"),
    "identity": Probe(("identity",), identity, "Nearest neighbour is the same person, ↑ higher is better"),
    "attributes": Probe(("attributes",), attributes, "AUC of attributes, ↑ higher is better"),
}


def ridge(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"], new: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "m k"]:
    """Predictions for `new` by ridge regression with an intercept; values of `y` that are NaN are not known.

    One penalty for all columns that are known in the same rows: that with the least error of leave-one-out, which has a
    closed form. Everything is done in the space of examples (the kernel form), since features outnumber them.
    """
    x, y, new = (np.asarray(each, np.float64) for each in (x, y, new))
    found = np.empty((len(new), y.shape[1]))
    patterns, group = np.unique(np.isfinite(y), axis=1, return_inverse=True)
    for index, rows in enumerate(patterns.T):
        of = group.reshape(-1) == index
        found[:, of] = _ridge(x[rows], y[rows][:, of], new)
    return found


def _ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`ridge` where all of `y` is known."""
    if len(x) < 2:
        return np.tile(y.mean(0) if len(y) else np.zeros(y.shape[1]), (len(new), 1))
    mean, level = x.mean(0), y.mean(0)
    x, y, new = x - mean, y - level, new - mean
    kernel = x @ x.T
    values, vectors = np.linalg.eigh(kernel)
    values, turned = np.maximum(values, 0), vectors.T @ y
    best, coefficients = np.inf, np.zeros_like(y)
    for penalty in np.multiply(PENALTIES, max(values.sum() / len(x), 1e-300)):
        inverse = 1 / (values + penalty)
        candidate = vectors @ (inverse[:, None] * turned)
        # The error at example i of a fit without it is its coefficient / the i-th of the inverse's diagonal. The
        # inverse has 1 / penalty along the constant vector, which is the intercept's and not the penalty's to fit.
        diagonal = (vectors**2 @ inverse) - 1 / (penalty * len(x))
        error = np.square(candidate / np.maximum(diagonal, 1e-300)[:, None]).sum()
        if error < best:
            best, coefficients = error, candidate
    return new @ x.T @ coefficients + level


def varies(values: np.ndarray) -> bool:
    """Whether there are at least two values that are known."""
    return len(np.unique(values[np.isfinite(values)])) > 1


def area(found: Float[np.ndarray, "n"], truth: Float[np.ndarray, "n"]) -> float:
    """The area under the ROC curve, of truths that are known; positive are those above the mean of the extremes.

    It is the share of pairs of a positive and a negative in which the positive has the higher value, ties half.
    """
    known = np.isfinite(truth)
    positive = truth[known] > (truth[known].min() + truth[known].max()) / 2
    one, other = found[known][positive][:, None], found[known][~positive]
    return float(((one > other) + (one == other) / 2).mean())
