"""Metrics of landmarks and of label maps, on the host in float64.

Both are functions of sums over images, so `compute` takes `weights @ statistics`. Values are fractions, not percent; a
value that is not defined is NaN.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Integer
from ml_collections import ConfigDict

from facerep_jax.data.arrays import PART, Lazy, Stack
from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.evaluation.boundaries import boundary_f1
from facerep_jax.evaluation.problem import PERSON, Arrays, read, take
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Metric, Rows

# What a data set's normaliser says -> the names of the errors that can be given, the headline first.
UNITS = {
    "inter_ocular": ("inter_ocular", "box", "diagonal"),
    "inter_pupil": ("inter_pupil", "box", "diagonal"),
    "box": ("box", "diagonal"),
    "diagonal": ("diagonal", "box"),
}
EXPLAINED = {
    "inter_ocular": "Inter-ocular: that length is the distance between the outer corners of the eyes.",
    "inter_pupil": "Inter-pupil: that length is the distance between the centres of the eyes.",
    "box": "Box: that length is √(width · height) of the face's box as the data set gives it; that of drawn faces is "
    "made of the true landmarks.",
    "diagonal": "Diagonal: that length is the diagonal of the face's box.",
}

# The error above which an image counts as a failure: FaRL's 0.10 of the eyes' distance (WFLW) and 0.07 of the box
# (AFLW); 300-W is often given at 0.08 (recalled). That of the diagonal is ours: for a square box, the box's in pixels.
THRESHOLDS = {"inter_ocular": 0.10, "inter_pupil": 0.10, "box": 0.07, "diagonal": 0.05}


def score(metric: Metric, statistics: Float[np.ndarray, "n s"]) -> dict[str, float]:
    """The values of a metric with each row counted once."""
    values = metric.compute(statistics, np.ones((1, len(statistics))))
    return {name: float(of_draws[0]) for name, of_draws in values.items()}


def ranked_by(metric: Metric) -> tuple[str, bool] | None:
    """The value by which single rows are ranked, and whether lower is better; None if single rows have no value."""
    if metric.per_row:
        return metric.headline, metric.lower_is_better
    return getattr(metric, "ranked", None)


def rows_of(metric: Metric, prediction: Stack, split: Arrays) -> Rows:
    """A metric's rows of a split's examples.

    Where predictions or labels are read as they are needed, that is done for some images at a time; a metric whose rows
    are of several images reads all.
    """
    if metric.unit != "image" or not any(isinstance(x, Lazy) for x in (prediction, *split.values())):
        return metric.rows(prediction, split)

    def some(start: int) -> Rows:
        rows = np.arange(start, min(start + PART, len(split["id"])))
        return metric.rows(prediction[rows], read(take(split, rows)))

    parts = list(map(some, range(0, len(split["id"]), PART)))
    ids, units = ([name for part in parts for name in getattr(part, what)] for what in ("ids", "units"))
    return Rows(ids, units, np.concatenate([part.statistics for part in parts]))


def units_of(split: Arrays) -> list[str]:
    """The person that each image shows, whose images are alike; the image itself if its person is not known."""
    persons = np.asarray(split.get(PERSON, np.full(len(split["id"]), -1)))
    return [f"person {person}" if person >= 0 else name for name, person in zip(split["id"], persons, strict=True)]


class Deferred(Mapping[str, Any]):
    """Values by name, each computed when it is asked for: a bootstrap asks for the headline alone."""

    def __init__(self, values: Mapping[str, Callable[[], Any]]):
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class NME:
    """Normalised mean error of landmarks: mean point error of an image / a unit length, mean over images.

    All lengths are in pixels of the original image: a crop may be anisotropic, so `split["landmarks_scale"]` ("n 2",
    original pixels per pixel of the crop in x and y, default 1) is applied to prediction, truth and box alike.

    `nme_inter_ocular` divides by the distance of the two true landmarks that the normaliser names, `nme_inter_pupil` by
    that of the means of two sets of them, `nme_box` by sqrt(w h) and `nme_diagonal` by sqrt(w² + h²) of `split["bbox"]`
    if there, else of the tight box of the true landmarks. NaN landmarks are not annotated: an image's mean is over its
    annotated points. An image without any, or whose unit is unknown or zero, is left out of that error; `images` is the
    number of images in the headline error, `images_left_out_<unit>` that of images an error leaves out.

    Of the headline's errors e and a threshold t: `failure_rate_at_<t>` is the share of images with e > t, and
    `auc_at_<t>` the area under the cumulative distribution of errors from 0 to t, divided by t. It is the mean of
    max(0, 1 - e / t), exactly; FaRL sums the curve at steps of 1e-4 by Simpson's rule, which differs by less than a
    step, 1e-4 / t.

    Source: FaRL's scorer (github.com/FacePerceiver/FaRL, face_alignment/scorer.py; arXiv 2112.03109).
    Changed: points that are not annotated are ignored and such images counted; the box may come from the landmarks.
    """

    lower_is_better = True
    optional = ("bbox", "landmarks_scale", PERSON)
    unit, belongs_to = "image", "person"
    per_row = True

    def __init__(self, normaliser: Mapping[str, Any] | ConfigDict, threshold: float | None = None):
        """`normaliser` is the data set's: {"kind": "inter_ocular", "left": 36, "right": 45}, {"kind": "box"} ...

        Where it names eyes beside a box or diagonal, the inter-ocular error is given too.
        `threshold`, of the failure rate and the area under the curve, is that of `THRESHOLDS` unless given.
        """
        kind = normaliser["kind"]
        if kind not in UNITS:
            raise ValueError(f"normaliser {kind!r} is not known; {nearest(kind, UNITS)}")
        limit = THRESHOLDS[kind] if threshold is None else threshold
        if not limit > 0:
            raise ValueError(f"the threshold of a failure must be more than 0, not {threshold}")
        # One landmark of each eye, or several whose mean counts.
        sides = [normaliser[side] for side in ("left", "right") if side in normaliser]
        self.eyes = [np.atleast_1d(np.asarray(side, np.int64)) for side in sides]
        self.between_eyes = "inter_pupil" if kind == "inter_pupil" else "inter_ocular"
        beside = (self.between_eyes,) if self.eyes and self.between_eyes not in UNITS[kind] else ()
        self.error_limit, self.units = limit, (kind, *beside, *UNITS[kind][1:])

        self.columns = tuple(f"nme_{unit}" for unit in self.units)
        self.headline = self.columns[0]
        at = f"{limit:.2f}" if round(limit, 2) == limit else f"{limit:g}"
        self.failures, self.area = f"failure_rate_at_{at}", f"auc_at_{at}"
        self.left_out = tuple(f"images_left_out_{unit}" for unit in self.units)
        self.counts = ("images", *self.left_out)
        words = {unit: unit.replace("inter_", "inter-") for unit in self.units}
        self.names = {
            **{f"nme_{unit}": f"NME {word}" for unit, word in words.items()},
            **{f"images_left_out_{unit}": f"Images left out {word}" for unit, word in words.items()},
            self.area: f"AUC at {at}",
        }
        self.explains = (
            "NME, normalised mean error: the mean distance between predicted and true landmarks of a face, as a share "
            "of a length of that face; mean over test faces.",
            *(EXPLAINED[unit] for unit in self.units),
        )

    def rows(self, prediction: Float[np.ndarray | Array, "n k 2"], split: Mapping[str, Any]) -> Rows:
        """Per image: errors in every unit, whether each counts, one, whether it fails, its area."""
        scale = np.asarray(split.get("landmarks_scale", np.ones(2)), np.float64).reshape(-1, 1, 2)
        predicted = np.asarray(prediction, np.float64) * scale
        true = np.asarray(split["landmarks"], np.float64) * scale
        if predicted.shape != true.shape:
            raise ValueError(f"predicted landmarks are {predicted.shape}, the true ones {true.shape}")
        if self.eyes and (last := np.concatenate(self.eyes).max()) >= true.shape[1]:
            raise ValueError(f"the normaliser names landmark {last}, the data set has {true.shape[1]}")
        annotated = np.isfinite(true).all(-1)
        distance = np.where(annotated, np.linalg.norm(predicted - true, axis=-1), 0)
        error = distance.sum(1) / np.maximum(annotated.sum(1), 1)

        unit = self._unit_lengths(true, annotated, split, scale)
        counted = np.any(annotated, axis=1)[:, None] & np.isfinite(unit) & (unit > 0)
        relative = np.where(counted, error[:, None] / np.where(counted, unit, 1), 0)
        headline, counts = relative[:, 0], counted[:, 0]
        inside = headline <= self.error_limit  # not so for NaN
        area = np.where(counts & inside, 1 - headline / self.error_limit, 0)
        statistics = np.column_stack([relative, counted, np.ones(len(true)), counts & ~inside, area])
        return Rows(list(split["id"]), units_of(split), statistics)

    def _unit_lengths(
        self,
        true: Float[np.ndarray, "n k 2"],
        annotated: Any,
        split: Mapping[str, Any],
        scale: Float[np.ndarray, "_ 1 2"],
    ) -> Float[np.ndarray, "n u"]:
        """Every unit of every image in original pixels; NaN or infinite if it is unknown."""
        if "bbox" in split:
            box = np.asarray(split["bbox"], np.float64).reshape(-1, 2, 2) * scale
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
            lengths[self.between_eyes] = np.linalg.norm(left - right, axis=-1)
        return np.stack([lengths[unit] for unit in self.units], axis=1)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        sums = (weights @ statistics).T
        errors, counts, (images, failures, area) = np.split(sums, [len(self.units), 2 * len(self.units)])
        return {
            **dict(zip(self.columns, ratio(errors, counts), strict=True)),
            self.failures: ratio(failures, counts[0]),
            self.area: ratio(area, counts[0]),
            "images": counts[0],
            **dict(zip(self.left_out, images - counts, strict=True)),
        }


class F1:
    """Agreement of two label maps over all pixels of all images: F1 per class, its mean, mean IoU, accuracy.

    F1 = 2 TP / (predicted + true) from one confusion over the whole test set, not averaged over images. A class with
    neither true nor predicted pixels is NaN and in no mean. `f1_mean_foreground` is the unweighted mean over all
    classes but the first, `miou` that of the intersection over union, TP / (predicted + true - TP) from the same
    confusion, over all classes, `accuracy` the share of right pixels. Pixels of MISSING_CLASS are ignored, in the
    prediction too.

    With `boundary`, a share of the diagonal, `boundary_f1_<class>` is the mean over images of the boundary F-score, see
    `boundaries.boundary_f1`, where it is defined, and `boundary_f1_mean_foreground` the mean of these over all classes
    but the first that have one.

    Source: FaRL's scorer (github.com/FacePerceiver/FaRL, face_parsing/scorer.py).
    Changed: missing pixels are ignored; classes that never occur are left out of the means.
    """

    lower_is_better = False
    headline = "f1_mean_foreground"
    optional: tuple[str, ...] = (PERSON,)
    unit, belongs_to = "image", "person"
    per_row = True
    error_limit = None
    counts = ()
    EXPLAINS: tuple[str, ...] = (
        "F1 of a class: 2 · right pixels / (predicted + true pixels), over all test images together; "
        "the mean is over all classes but the background.",
        "mIoU: right pixels / pixels predicted or true, mean over all classes.",
        "Accuracy: the share of pixels with the right class, most of which are background and skin.",
    )

    def __init__(self, classes: Sequence[str], boundary: float = 0.0):
        """`classes` are the names in the order of their ids; the first is the background."""
        if len(classes) < 2:
            raise ValueError(f"F1 needs the background and at least one class, not {list(classes)}")
        self.classes, self.boundary = tuple(classes), boundary
        self.columns: tuple[str, ...] = ("f1_mean_foreground", "miou", "accuracy")
        self.names, self.explains = {"miou": "mIoU"}, self.EXPLAINS
        if boundary:
            self.columns += ("boundary_f1_mean_foreground",)
            self.names |= {f"boundary_f1_{name}": f"Boundary F1 {name}" for name in self.classes}
            self.names["boundary_f1_mean_foreground"] = "Boundary F1, mean foreground"
            self.explains += (
                "Boundary F1: how many pixels of the predicted outline of a class lie near the true one, and the other "
                f"way round, within {100 * boundary:g}% of the diagonal; mean over faces, then over all classes but "
                "the background.",
            )

    def rows(self, prediction: Integer[np.ndarray | Array, "n h w"], split: Mapping[str, Any]) -> Rows:
        """Per image: true positives, predicted pixels and true pixels of every class; its boundary score, if any."""
        predicted, true = np.asarray(prediction, np.int64), np.asarray(split["mask"], np.int64)
        if predicted.shape != true.shape:
            raise ValueError(f"the predicted labels are {predicted.shape}, the true ones {true.shape}")
        scored = true != MISSING_CLASS
        for name, labels in (("prediction", predicted), ("mask", true)):
            found = np.unique(labels[scored])
            if found.size and not 0 <= found[0] <= found[-1] < len(self.classes):
                raise ValueError(
                    f"the {name} holds class {found[-1]}, expected 0 to {len(self.classes) - 1} or {MISSING_CLASS}"
                )

        first_bin = np.arange(len(true))[:, None, None] * len(self.classes)

        def pixels(labels: Any, where: Any) -> Any:
            counts = np.bincount((first_bin + labels)[where], minlength=len(labels) * len(self.classes))
            return counts.reshape(len(labels), len(self.classes)).astype(np.float64)

        parts = [pixels(true, scored & (predicted == true)), pixels(predicted, scored), pixels(true, scored)]
        if self.boundary:
            near = boundary_f1(predicted, true, len(self.classes), self.boundary)
            parts += [np.nan_to_num(near), ~np.isnan(near)]
        return Rows(list(split["id"]), units_of(split), np.concatenate(parts, axis=1))

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        hits, predicted, true, *near = np.split(weights @ statistics, 5 if self.boundary else 3, axis=1)
        f1 = ratio(2 * hits, predicted + true)
        return {
            "f1_mean_foreground": mean_defined(f1[:, 1:]),
            "miou": mean_defined(ratio(hits, predicted + true - hits)),
            "accuracy": ratio(hits.sum(1), true.sum(1)),
            **{f"f1_{name}": values for name, values in zip(self.classes, f1.T, strict=True)},
            **(self._boundaries(*near) if near else {}),
        }

    def _boundaries(self, scores: Any, counts: Any) -> dict[str, Float[np.ndarray, "r"]]:
        """Boundary scores of draws, from sums of those of images and the number of images that have one."""
        means = ratio(scores, counts)
        each = {f"boundary_f1_{name}": values for name, values in zip(self.classes, means.T, strict=True)}
        return {"boundary_f1_mean_foreground": mean_defined(means[:, 1:]), **each}


def ratio(numerator: Any, denominator: Any) -> Any:
    """Numerator / denominator; NaN if the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)


def mean_defined(values: Float[np.ndarray, "r k"]) -> Float[np.ndarray, "r"]:
    """The mean of the values of each row that are not NaN; NaN if there are none."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(1), defined.sum(1))
