"""Metrics as sums of per-example statistics, on the host in float64.

`examples` gives one row of additive statistics per example, and `compute` sees only their sum. So a metric does not
depend on how the examples were batched, and resampling rows is an exact bootstrap of it. Values are fractions, not
percent; a value that is not defined is NaN. Counts of images are named `images...`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Integer, UInt8
from ml_collections import ConfigDict

from facerep_jax.config import nearest
from facerep_jax.data.features import MISSING_CLASS

# What a data set's normaliser says -> the names of the errors that can be given, the headline first.
UNITS = {
    "inter_ocular": ("inter_ocular", "box", "diagonal"),
    "inter_pupil": ("inter_pupil", "box", "diagonal"),
    "box": ("box", "diagonal"),
    "diagonal": ("diagonal", "box"),
}

# The error above which an image counts as a failure: FaRL's 0.10 of the eyes' distance (WFLW) and 0.07 of the box
# (AFLW); 300-W is often given at 0.08 (recalled). That of the diagonal is ours: for a square box, the box's in pixels.
THRESHOLDS = {"inter_ocular": 0.10, "inter_pupil": 0.10, "box": 0.07, "diagonal": 0.05}


class NME:
    """Normalised mean error of landmarks: mean point error of an image / a unit length, mean over images.

    All lengths are in pixels of the original image: a crop may be anisotropic, so `batch["landmarks_scale"]` ("b 2",
    original pixels per pixel of the crop in x and y, default 1) is applied to prediction, truth and box alike.

    `nme_inter_ocular` divides by the distance of the two true landmarks that the normaliser names, `nme_inter_pupil` by
    that of the means of two sets of them, `nme_box` by sqrt(w h) and `nme_diagonal` by sqrt(w² + h²) of `batch["bbox"]`
    if there, else of the tight box of the true landmarks. NaN landmarks are not annotated: an image's mean is over its
    annotated points. An image without any, or whose unit is unknown or zero, is left out of that error; `images` is the
    number of images in the headline error, `images_left_out_<unit>` that of valid images an error leaves out.

    Of the headline's errors e and a threshold t: `failure_rate_at_<t>` is the share of images with e > t, and
    `auc_at_<t>` the area under the cumulative distribution of errors from 0 to t, divided by t. It is the mean of
    max(0, 1 - e / t), exactly; FaRL sums the curve at steps of 1e-4 by Simpson's rule, which differs by less than a
    step, 1e-4 / t. `errors` and `cumulative` give the curve.

    Source: FaRL's scorer (github.com/FacePerceiver/FaRL, face_alignment/scorer.py; arXiv 2112.03109).
    Changed: points that are not annotated are ignored and such images counted; the box may come from the landmarks.
    """

    lower_is_better = True

    def __init__(self, normaliser: Mapping[str, Any] | ConfigDict, threshold: float | None = None):
        """`normaliser` is the data set's: {"kind": "inter_ocular", "left": 36, "right": 45}, {"kind": "box"} ...

        `threshold`, of the failure rate and the area under the curve, is that of `THRESHOLDS` unless given.
        """
        kind = normaliser["kind"]
        if kind not in UNITS:
            raise ValueError(f"normaliser {kind!r} is not known; {nearest(kind, UNITS)}")
        self.threshold = THRESHOLDS[kind] if threshold is None else threshold
        if not self.threshold > 0:
            raise ValueError(f"the threshold of a failure must be more than 0, not {threshold}")
        self.units = UNITS[kind]
        # One landmark of each eye, or several whose mean counts.
        sides = [normaliser[side] for side in ("left", "right")] if kind in ("inter_ocular", "inter_pupil") else []
        self.eyes = [np.atleast_1d(np.asarray(side, np.int64)) for side in sides]
        self.columns = tuple(f"nme_{unit}" for unit in self.units)  # for a table, the headline first

    @property
    def headline(self) -> str:
        return self.columns[0]

    def init(self) -> Float[np.ndarray, "s"]:
        return np.zeros(2 * len(self.units) + 3)

    def examples(
        self, prediction: Float[np.ndarray | Array, "b k 2"], batch: Mapping[str, Any]
    ) -> Float[np.ndarray, "b s"]:
        """Per image: errors in every unit, whether each counts, whether the image is valid, fails, its area."""
        scale = np.asarray(batch.get("landmarks_scale", np.ones(2)), np.float64).reshape(-1, 1, 2)
        predicted = np.asarray(prediction, np.float64) * scale
        true = np.asarray(batch["landmarks"], np.float64) * scale
        if predicted.shape != true.shape:
            raise ValueError(f"predicted landmarks are {predicted.shape}, the true ones {true.shape}")
        if self.eyes and (last := np.concatenate(self.eyes).max()) >= true.shape[1]:
            raise ValueError(f"the normaliser names landmark {last}, the data set has {true.shape[1]}")
        annotated = np.isfinite(true).all(-1)
        distance = np.where(annotated, np.linalg.norm(predicted - true, axis=-1), 0)
        error = distance.sum(1) / np.maximum(annotated.sum(1), 1)

        unit = self._unit_lengths(true, annotated, batch, scale)
        valid = _valid(batch, len(true))
        counted = (valid & np.any(annotated, axis=1))[:, None] & np.isfinite(unit) & (unit > 0)
        relative = np.where(counted, error[:, None] / np.where(counted, unit, 1), 0)
        headline, counts = relative[:, 0], counted[:, 0]
        inside = headline <= self.threshold  # not so for NaN
        area = np.where(counts & inside, 1 - headline / self.threshold, 0)
        return np.column_stack([relative, counted, valid, counts & ~inside, area])

    def _unit_lengths(
        self,
        true: Float[np.ndarray, "b k 2"],
        annotated: Any,
        batch: Mapping[str, Any],
        scale: Float[np.ndarray, "_ 1 2"],
    ) -> Float[np.ndarray, "b u"]:
        """Every unit of every image in original pixels; NaN or infinite where it is unknown."""
        if "bbox" in batch:
            box = np.asarray(batch["bbox"], np.float64).reshape(-1, 2, 2) * scale
            width, height = (box[:, 1] - box[:, 0]).T
        else:
            points = annotated[..., None]
            extent = np.where(points, true, -np.inf).max(1) - np.where(points, true, np.inf).min(1)
            width, height = extent.T
        known = (width >= 0) & (height >= 0)  # not so for NaN, a box turned inside out, no landmarks
        width, height = np.where(known, width, np.nan), np.where(known, height, np.nan)
        lengths = {"box": np.sqrt(width * height), "diagonal": np.hypot(width, height)}
        if self.eyes:
            left, right = (true[:, eye].mean(1) for eye in self.eyes)
            lengths[self.units[0]] = np.linalg.norm(left - right, axis=-1)
        return np.stack([lengths[unit] for unit in self.units], axis=1)

    def update(self, state: Float[np.ndarray, "s"], prediction: Any, batch: Mapping[str, Any]) -> Any:
        return state + self.examples(prediction, batch).sum(0)

    def compute(self, state: Float[np.ndarray, "s"]) -> dict[str, float]:
        errors, counts, (images, failures, area) = np.split(state, [len(self.units), 2 * len(self.units)])
        values = {name: float(v) for name, v in zip(self.columns, _ratio(errors, counts), strict=True)}
        at = f"at_{self.threshold:.2f}" if round(self.threshold, 2) == self.threshold else f"at_{self.threshold:g}"
        values |= {
            f"failure_rate_{at}": float(_ratio(failures, counts[0])),
            f"auc_{at}": float(_ratio(area, counts[0])),
        }
        left_out = {f"images_left_out_{u}": float(images - c) for u, c in zip(self.units, counts, strict=True)}
        return values | {"images": float(counts[0])} | left_out

    def errors(self, statistics: Float[np.ndarray, "b s"]) -> Float[np.ndarray, "_"]:
        """The headline error of every image that counts in it, from what `examples` gives."""
        return statistics[statistics[:, len(self.units)] > 0, 0]


def cumulative(
    errors: Float[np.ndarray, "b"], threshold: float, step: float = 1e-4
) -> tuple[Float[np.ndarray, "levels"], Float[np.ndarray, "levels"]]:
    """The cumulative distribution of errors: levels from 0 to the threshold, and the share of errors up to each."""
    levels = np.linspace(0, threshold, round(threshold / step) + 1)
    return levels, np.searchsorted(np.sort(errors), levels, side="right") / len(errors)


class F1:
    """Agreement of two label maps over all pixels of all images: F1 per class, its mean, mean IoU, accuracy.

    F1 = 2 TP / (predicted + true) from one confusion over the whole test set, not averaged over images. A class with
    neither true nor predicted pixels is NaN and in no mean. `f1_mean_foreground` is the unweighted mean over all
    classes but the first, `miou` that of the intersection over union, TP / (predicted + true - TP) from the same
    confusion, over all classes, `accuracy` the share of right pixels. Pixels labelled 255 are ignored, in the
    prediction too.

    Source: FaRL's scorer (github.com/FacePerceiver/FaRL, face_parsing/scorer.py).
    Changed: 255 is ignored; classes that never occur are left out of the means.
    """

    lower_is_better = False
    headline = "f1_mean_foreground"
    columns = ("f1_mean_foreground", "miou", "accuracy")

    def __init__(self, classes: Sequence[str]):
        """`classes` are the names in the order of their ids; the first is the background."""
        if len(classes) < 2:
            raise ValueError(f"F1 needs the background and at least one class, not {list(classes)}")
        self.classes = tuple(classes)

    def init(self) -> Float[np.ndarray, "s"]:
        return np.zeros(3 * len(self.classes))

    def examples(
        self, prediction: Integer[np.ndarray | Array, "b h w"], batch: Mapping[str, Any]
    ) -> Float[np.ndarray, "b s"]:
        """Per image: true positives, predicted pixels and true pixels of every class."""
        predicted, true = np.asarray(prediction, np.int64), self._labels(batch["mask"])
        if predicted.shape != true.shape:
            raise ValueError(f"the predicted labels are {predicted.shape}, the true ones {true.shape}")
        scored = (true != MISSING_CLASS) & _valid(batch, len(true))[:, None, None]
        for name, labels in (("prediction", predicted), ("mask", true)):
            found = np.unique(labels[scored])
            if found.size and not 0 <= found[0] <= found[-1] < len(self.classes):
                raise ValueError(f"the {name} holds class {found[-1]}, expected 0 to {len(self.classes) - 1} or 255")

        first_bin = np.arange(len(true))[:, None, None] * len(self.classes)

        def pixels(labels: Any, where: Any) -> Any:
            counts = np.bincount((first_bin + labels)[where], minlength=len(labels) * len(self.classes))
            return counts.reshape(len(labels), len(self.classes)).astype(np.float64)

        parts = pixels(true, scored & (predicted == true)), pixels(predicted, scored), pixels(true, scored)
        return np.concatenate(parts, axis=1)

    def _labels(self, mask: UInt8[np.ndarray | Array, "b h w"]) -> Int[np.ndarray, "b h w"]:
        return np.asarray(mask, np.int64)

    def update(self, state: Float[np.ndarray, "s"], prediction: Any, batch: Mapping[str, Any]) -> Any:
        return state + self.examples(prediction, batch).sum(0)

    def compute(self, state: Float[np.ndarray, "s"]) -> dict[str, float]:
        hits, predicted, true = state.reshape(3, -1)
        f1 = _ratio(2 * hits, predicted + true)
        return {
            "f1_mean_foreground": _mean_defined(f1[1:]),
            "miou": _mean_defined(_ratio(hits, predicted + true - hits)),
            "accuracy": float(_ratio(hits.sum(), true.sum())),
            **{f"f1_{name}": float(value) for name, value in zip(self.classes, f1, strict=True)},
        }


def _valid(batch: Mapping[str, Any], size: int) -> Any:
    """Which rows of the batch are examples and not padding."""
    return np.asarray(batch.get("valid", np.ones(size, bool)), bool)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Numerator / denominator; NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)


def _mean_defined(values: Float[np.ndarray, "k"]) -> float:
    """The mean of the values that are not NaN; NaN where there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
