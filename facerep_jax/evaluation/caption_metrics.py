"""Retrieval between images and captions, on the host in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from facerep_jax.evaluation.metrics import ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.typing import Rows

RANKS = (1, 5, 10)
DIRECTIONS = ("image_to_text", "text_to_image")


class CaptionRetrieval:
    """Recall at 1, 5 and 10 of captions by images and of images by captions, among those of all test images.

    `recall_k_image_to_text` is the share of images with a caption of theirs among the k most similar captions,
    `recall_k_text_to_image` the share of captions whose image is among the k most similar images, mean over the
    captions of an image, then over images. A caption that another image has too, token by token, belongs to both. Equal
    similarities count against what is looked for. What is searched stays the same when images are drawn again.

    Source: retrieval on Flickr30K and COCO, as CLIP (2103.00020) reports it; there, equal captions stay apart.
    """

    headline, lower_is_better = "recall_1_image_to_text", False
    columns = tuple(f"recall_{k}_{direction}" for direction in DIRECTIONS for k in RANKS)
    optional = (PERSON,)
    unit, belongs_to, per_row, error_limit = "image", "person", True, None
    names: Mapping[str, str] = {
        f"recall_{k}_{direction}": f"R@{k} {direction.replace('_', ' ')}" for direction in DIRECTIONS for k in RANKS
    }
    counts = ("images",)
    explains = (
        "R@k image to text: the share of test images with a caption of theirs among the k most similar captions.",
        "R@k text to image: the share of captions whose image is among the k most similar ones.",
    )

    def rows(self, prediction: Float[np.ndarray | Array, "n m e"], split: Mapping[str, Any]) -> Rows:
        """Per image: one, whether its captions are among the first k, the share of captions that find it.

        Args:
            prediction: embeddings of each image and of its captions, NaN where a caption is not there.
        """
        found, texts = np.asarray(prediction, np.float64), np.asarray(split["texts"])
        there = texts.any(2)
        owner, _ = np.nonzero(there)
        images, captions = found[:, 0], found[:, 1:][there]
        _, key = np.unique(texts[there], axis=0, return_inverse=True)
        key = key.reshape(-1)
        has = np.zeros((len(images), key.max(initial=0) + 1), bool)
        has[owner, key] = True
        alike, own = images @ captions.T, has[:, key]
        hits = np.zeros((len(images), 2 * len(RANKS)))
        for place, k in enumerate(RANKS):
            hits[:, place] = before(alike, own) < k
            each = before(alike.T, own.T) < k
            hits[:, len(RANKS) + place] = ratio(np.bincount(owner, each, len(images)), there.sum(1))
        return Rows(list(split["id"]), units_of(split), np.column_stack([np.ones(len(images)), hits]))

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        images, *hits = (weights @ statistics).T
        return dict(zip(self.columns, (ratio(x, images) for x in hits), strict=True)) | {"images": images}


def before(alike: Float[np.ndarray, "q c"], own: np.ndarray) -> np.ndarray:
    """How many others are at least as similar to a query as the most similar one that belongs to it."""
    best = np.where(own, alike, -np.inf).max(1, keepdims=True)
    return ((alike >= best) & ~own).sum(1)
