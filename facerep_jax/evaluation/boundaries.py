"""How near the outlines of two label maps lie: precision and recall of boundary pixels within a tolerance."""

import math
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Integer

from facerep_jax.data.features import MISSING_CLASS

SHARE = 0.0075  # of the diagonal, that the tolerance is: Csurka et al. 2013


def tolerance_px(height: int, width: int, share: float = SHARE) -> int:
    """The tolerance in pixels of a label map: a share of its diagonal, rounded up, so that it is 1 at least."""
    return math.ceil(share * math.hypot(height, width))


def outlines(labels: Integer[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n h w"]:
    """The pixels with a neighbour, above, below, left or right, of another class; missing pixels are no neighbours."""
    found = np.zeros(labels.shape, bool)
    for one, other in (
        ((slice(None), slice(1, None)), (slice(None), slice(-1))),
        ((slice(None), slice(None), slice(1, None)), (slice(None), slice(None), slice(-1))),
    ):
        a, b = labels[one], labels[other]
        differ = (a != b) & (a != MISSING_CLASS) & (b != MISSING_CLASS)
        found[one] |= differ
        found[other] |= differ
    return found


def boundary_f1(
    predicted: Integer[np.ndarray, "n h w"], true: Integer[np.ndarray, "n h w"], classes: int, share: float = SHARE
) -> Float[np.ndarray, "n k"]:
    """The boundary F-score of each class in each image; NaN where neither map has an outline of the class.

    The outline of a class are its pixels beside another class. A pixel of one outline is matched if one of the same
    class of the other lies within the tolerance, by Euclidean distance. The F-score is the harmonic mean of the shares
    of predicted and of true outline pixels that are matched; 0 if one map alone has such pixels. Pixels whose true
    class is missing are so in the prediction too, belong to no outline, and bound none.

    Source: Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013 (a score of each
    image and class, 0.75% of the diagonal); Perazzi et al., DAVIS, CVPR 2016 (the tolerance is rounded up).
    Changed: DAVIS thins outlines to half of their width and takes 0.8%.
    """
    maps = [np.where(true == MISSING_CLASS, MISSING_CLASS, each).astype(np.uint8) for each in (predicted, true)]
    a, b = (np.where(outlines(labels), labels, MISSING_CLASS) for labels in maps)
    reach = tolerance_px(true.shape[1], true.shape[2], share)
    first = np.arange(len(true))[:, None, None] * (classes + 1)

    def counts(labels: np.ndarray, where: np.ndarray) -> Float[np.ndarray, "n k"]:
        found = np.bincount((first + labels)[where], minlength=len(labels) * (classes + 1))
        return found.reshape(len(labels), -1)[:, :classes].astype(np.float64)

    hits_a, hits_b = matched(a, b, reach), matched(b, a, reach)
    of_a, of_b = counts(a, a != MISSING_CLASS), counts(b, b != MISSING_CLASS)
    precision, recall = (counts(x, hits) / np.maximum(of, 1) for x, hits, of in ((a, hits_a, of_a), (b, hits_b, of_b)))
    score = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return np.where(of_a + of_b > 0, score, np.nan)


def matched(a: Integer[np.ndarray, "n h w"], b: Integer[np.ndarray, "n h w"], reach: int) -> Bool[np.ndarray, "n h w"]:
    """Which pixels of a, not missing, have one of the same class in b within a distance."""
    wide = np.pad(b, ((0, 0), (reach, reach), (reach, reach)), constant_values=MISSING_CLASS)
    found, (height, width) = np.zeros(a.shape, bool), a.shape[1:]
    for y, x in product(range(-reach, reach + 1), repeat=2):
        if y * y + x * x <= reach * reach:
            found |= a == wide[:, reach + y : reach + y + height, reach + x : reach + x + width]
    return found & (a != MISSING_CLASS)
