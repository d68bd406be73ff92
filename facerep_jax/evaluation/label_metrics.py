"""Metrics of labels, yes-or-no labels and classes, on the host in float64.

Values are fractions. One that is not defined is NaN: an AUC or a balanced accuracy of a label that all or none of the
test images have, a mean of no defined value.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Integer

from facerep_jax.evaluation.metrics import Deferred, mean_defined, ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Rows

NAMED = 10  # labels that a note names
MEANS = {  # of a `MultiLabel` -> how tables write it, and what is said of it
    "accuracy_mean": (
        "Accuracy, mean",
        "Accuracy: the share of images whose label is right, mean over labels. Most labels are rare, so that saying no "
        "to all of them scores high.",
    ),
    "balanced_accuracy_mean": (
        "Balanced accuracy, mean",
        "Balanced accuracy: the mean of the shares of right answers among the images with a label and among those "
        "without; 50% by chance or by always giving one answer.",
    ),
    "f1_mean": (
        "F1, mean",
        "F1 of a label: 2 · right yes / (yes said + yes true), over all test images together; 0 if yes is never said, "
        "not defined if no test image has the label.",
    ),
    "map": (
        "mAP",
        "mAP: average precision, the precision at each image with the label, from the highest score down; mean over "
        "labels.",
    ),
    "auc_mean": (
        "AUC, mean",
        "AUC: how often an image with a label scores higher than one without it; 50% by chance.",
    ),
}


class MultiLabel:
    """Agreement of scores with yes-or-no labels: accuracy, balanced accuracy, F1, average precision, AUC of each.

    A score above 0 says yes. A label above 0.5 is yes, one from 0 to 0.5 no; NaN and what is below 0 is not known and
    does not count. Means are over labels whose value is defined. Equal scores are one step of the ranking: the average
    precision is the sum of steps of recall, each times the precision at its end, without interpolation, and the AUC
    counts a tie as half a win. Of a label that no test image has neither F1 nor average precision is defined, whatever
    is predicted; `notes` names such labels.

    Source: mean accuracy over attributes at 0.5, FaRL (2112.03109) and CelebA's custom; scikit-learn's
    balanced_accuracy_score, average_precision_score and roc_auc_score define the others.
    Changed: the F1 of a label without a positive is left out of the mean; scikit-learn's is 0 if it was ever predicted.
    """

    lower_is_better = False
    optional = (PERSON,)
    unit, belongs_to = "image", "person"
    error_limit = None
    counts: tuple[str, ...] = ()

    def __init__(self, labels: Sequence[str], key: str = "attributes", headline: str = "accuracy_mean"):
        """`labels` are their names in order, `key` the feature that holds them."""
        if headline not in MEANS:
            raise ValueError(f"no headline {headline!r}; {nearest(headline, MEANS)}")
        self.labels, self.key, self.headline = tuple(labels), key, headline
        self.columns = (headline, *(name for name in MEANS if name != headline))
        self.per_row = headline == "accuracy_mean"
        self.ranked = ("accuracy_mean", False)  # of single images it is the share of right labels
        self.names = {
            **{name: said for name, (said, _) in MEANS.items()},
            **{f"ap_{label}": f"AP {label}" for label in self.labels},
            **{f"auc_{label}": f"AUC {label}" for label in self.labels},
            **{f"f1_{label}": f"F1 {label}" for label in self.labels},
        }
        self.explains = tuple(MEANS[name][1] for name in self.columns)

    def rows(self, prediction: Float[np.ndarray | Array, "n k"], split: Mapping[str, Any]) -> Rows:
        """Per image: the score of every label, and what is true of it: 1, 0, or NaN if that is not known."""
        scores, true = np.asarray(prediction, np.float64), np.asarray(split[self.key], np.float64)
        if scores.shape != true.shape or scores.shape[1] != len(self.labels):
            raise ValueError(f"scores are {scores.shape}, the true labels {true.shape}, of {len(self.labels)} names")
        with np.errstate(invalid="ignore"):  # NaN is not known either
            true = np.where(true >= 0, (true > 0.5).astype(np.float64), np.nan)
        return Rows(list(split["id"]), units_of(split), np.concatenate([scores, true], axis=1))

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> Mapping[str, Float[np.ndarray, "r"]]:
        scores, true = np.split(statistics, 2, axis=1)
        yes, no, said = true == 1, true == 0, scores > 0
        hits, misses = weights @ (yes & said), weights @ (yes & ~said)
        false, rejected = weights @ (no & said), weights @ (no & ~said)
        of: dict[str, Any] = {
            "accuracy": ratio(hits + rejected, hits + misses + false + rejected),
            "balanced_accuracy": (ratio(hits, hits + misses) + ratio(rejected, false + rejected)) / 2,
            "f1": np.where(hits + misses > 0, ratio(2 * hits, 2 * hits + misses + false), np.nan),
        }

        @cache
        def ranked(name: str) -> Float[np.ndarray, "r k"]:
            """Values of a name for each label."""
            if name in of:
                return of[name]
            rank: Callable[..., Any] = average_precision if name == "ap" else area
            return np.stack([rank(*column, weights) for column in zip(scores.T, yes.T, no.T, strict=True)], axis=1)

        kinds = {"ap": "map"} | {name: f"{name}_mean" for name in (*of, "auc")}
        values = {mean: partial(lambda name: mean_defined(ranked(name)), name) for name, mean in kinds.items()}
        for name in kinds:
            for place, label in enumerate(self.labels):
                values[f"{name}_{label}"] = partial(lambda name, place: ranked(name)[:, place], name, place)
        return Deferred(values)

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Which labels no test image has, or none is known not to have."""
        true = np.split(rows.statistics, 2, axis=1)[1]
        return tuple(
            f"no test image is known to {what}: {listed([self.labels[place] for place in np.flatnonzero(lacking)])}; "
            f"{undefined} not defined"
            for lacking, what, undefined in (
                (~(true == 1).any(0), "have", "F1 and average precision are"),
                (~(true == 0).any(0), "lack", "AUC and balanced accuracy are"),
            )
            if lacking.any()
        )


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def steps(
    scores: Float[np.ndarray, "n"], of: Sequence[np.ndarray], weights: Float[np.ndarray, "r n"]
) -> list[Float[np.ndarray, "r m"]]:
    """For each of some sets of rows, the weight of those that score at least as high as each different score.

    The first column is of no row; the scores then fall.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last row of each score
    found = []
    for rows in of:
        sums = np.cumsum((weights * rows[None])[:, order], axis=1)[:, ends]
        found.append(np.concatenate([np.zeros((len(weights), 1)), sums], axis=1))
    return found


def area(
    scores: Float[np.ndarray, "n"], yes: np.ndarray, no: np.ndarray, weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r"]:
    """The area under the ROC curve; NaN without rows of both kinds."""
    hits, false = steps(scores, (yes, no), weights)
    wins = ((hits[:, 1:] + hits[:, :-1]) / 2 * np.diff(false, axis=1)).sum(1)
    return ratio(wins, hits[:, -1] * false[:, -1])


def average_precision(
    scores: Float[np.ndarray, "n"], yes: np.ndarray, no: np.ndarray, weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r"]:
    """The sum of steps of recall, each times the precision at its end; NaN without a row that is a yes."""
    hits, false = steps(scores, (yes, no), weights)
    precision = np.nan_to_num(ratio(hits, hits + false))
    return ratio((np.diff(hits, axis=1) * precision[:, 1:]).sum(1), hits[:, -1])


class Classes:
    """Agreement of classes: accuracy, F1 of each and its mean, mean recall, and the confusion.

    `confusion_<a>_as_<b>` is the share of images of class a that were taken for b. The F1 of a class that is neither
    true nor predicted is NaN and in no mean, that of one which is never right 0. An image whose true class is below 0
    is not known and does not count; `images` is the number of those that do.

    Source: scikit-learn's accuracy_score, f1_score (macro), balanced_accuracy_score, confusion_matrix (normalised).
    """

    lower_is_better = False
    headline = "accuracy"
    columns = ("accuracy", "f1_macro", "balanced_accuracy")
    optional = (PERSON,)
    unit, belongs_to = "image", "person"
    per_row = True
    error_limit = None
    counts = ("images",)
    explains = (
        "Accuracy: the share of images whose class is right.",
        "F1 macro: 2 · right / (predicted + true images) of a class, over all test images together; mean over classes.",
        "Balanced accuracy: the share of right images of a class, mean over classes.",
    )

    def __init__(self, classes: Sequence[str], key: str = "expression"):
        """`classes` are their names in the order of their ids, `key` the feature that holds an id."""
        self.classes, self.key = tuple(classes), key
        self.names = {"f1_macro": "F1 macro", **{f"f1_{name}": f"F1 {name}" for name in self.classes}}

    def rows(self, prediction: Integer[np.ndarray | Array, "n"], split: Mapping[str, Any]) -> Rows:
        """Per image: the true class, -1 if it is not known, and the predicted one."""
        predicted, true = np.asarray(prediction, np.int64), np.asarray(split[self.key], np.int64)
        if predicted.shape != true.shape:
            raise ValueError(f"the predicted classes are {predicted.shape}, the true ones {true.shape}")
        for name, ids in (("prediction", predicted), (self.key, true)):
            if ids.size and (ids.max() >= len(self.classes) or (name == "prediction" and ids.min() < 0)):
                raise ValueError(f"the {name} holds class {ids.max()}, expected 0 to {len(self.classes) - 1}")
        statistics = np.column_stack([np.maximum(true, -1), predicted]).astype(np.float64)
        return Rows(list(split["id"]), units_of(split), statistics)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        true, predicted = statistics.T.astype(np.int64)
        k, known = len(self.classes), true >= 0
        cells = (true * k + predicted)[known, None] == np.arange(k * k)[None]
        confusion = (weights[:, known] @ cells).reshape(-1, k, k)
        hits, of_true, of_predicted = np.einsum("rkk->rk", confusion), confusion.sum(2), confusion.sum(1)
        f1, share = ratio(2 * hits, of_true + of_predicted), ratio(confusion, of_true[..., None])
        named = list(enumerate(self.classes))
        return {
            "accuracy": ratio(hits.sum(1), of_true.sum(1)),
            "f1_macro": mean_defined(f1),
            "balanced_accuracy": mean_defined(ratio(hits, of_true)),
            "images": of_true.sum(1),
            **{f"f1_{name}": f1[:, place] for place, name in named},
            **{f"confusion_{a}_as_{b}": share[:, i, j] for i, a in named for j, b in named},
        }

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Which classes no test image has."""
        lacking = np.setdiff1d(np.arange(len(self.classes)), rows.statistics[:, 0]).tolist()
        said = f"no test image is of class {listed([self.classes[place] for place in lacking])}"
        return (said + "; the recall of such a class is not defined",) if lacking else ()
