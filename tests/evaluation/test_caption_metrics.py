"""Reference: loops over queries; hand-made cases."""

import numpy as np
import pytest

from facerep_jax.evaluation.caption_metrics import CaptionRetrieval
from facerep_jax.evaluation.metrics import score
from facerep_jax.typing import Metric


def pairs(n=14, seed=0):
    """Images with one to three captions, some word for word alike; embeddings near to each other's."""
    rng = np.random.default_rng(seed)
    texts = np.zeros((n, 3, 4), np.int32)
    for i in range(n):
        texts[i, : rng.integers(1, 4)] = [[7, 1 + (10 * i + j) % 23, 9, 8] for j in range(3)][
            : 1 + (texts[i] > 9).sum()
        ]
    texts[:, 0] = [[7, 1 + i % 9, 9, 8] for i in range(n)]
    texts[::2, 1] = [[7, 30 + i, 9, 8] for i in range(0, n, 2)]
    image = rng.normal(size=(n, 1, 5))
    found = np.concatenate([image, image + 1.2 * rng.normal(size=(n, 3, 5))], axis=1)
    same = {}
    for i in range(n):
        for j in range(3):  # equal captions have one embedding
            found[i, 1 + j] = same.setdefault(tuple(texts[i, j]), found[i, 1 + j])
            if not texts[i, j].any():
                found[i, 1 + j] = np.nan
    return found, {"id": [f"{i:02d}" for i in range(n)], "texts": texts}


def reference(found, texts, k):
    """Recall of each image's captions, and the share of its captions that recall it."""
    n = len(found)
    captions = [(i, j) for i in range(n) for j in range(texts.shape[1]) if texts[i, j].any()]
    belongs = lambda i, c: any((texts[i, j] == texts[c]).all() for j in range(texts.shape[1]))  # noqa: E731
    forth, back = [], []
    for i in range(n):
        scores = [(found[i, 0] @ found[c[0], 1 + c[1]], not belongs(i, c)) for c in captions]
        ranked = sorted(scores, key=lambda each: (-each[0], not each[1]))  # of equals, others come first
        forth.append(any(not other for _, other in ranked[:k]))
        hits = []
        for c in (c for c in captions if c[0] == i):
            scores = [(found[image, 0] @ found[c[0], 1 + c[1]], not belongs(image, c)) for image in range(n)]
            ranked = sorted(scores, key=lambda each: (-each[0], not each[1]))
            hits.append(any(not other for _, other in ranked[:k]))
        back.append(np.mean(hits))
    return np.array(forth, float), np.array(back)


def test_recall_is_that_of_ranked_lists():
    found, split = pairs()
    metric = CaptionRetrieval()
    assert isinstance(metric, Metric)
    rows = metric.rows(found, split)
    weights = np.stack([np.ones(14), np.random.default_rng(1).integers(0, 3, 14)]).astype(np.float64)
    values = metric.compute(rows.statistics, weights)
    for k in (1, 5, 10):
        forth, back = reference(found, split["texts"], k)
        np.testing.assert_allclose(values[f"recall_{k}_image_to_text"], weights @ forth / weights.sum(1))
        np.testing.assert_allclose(values[f"recall_{k}_text_to_image"], weights @ back / weights.sum(1))
    assert 0.1 < values["recall_1_image_to_text"][0] < values["recall_5_image_to_text"][0] <= 1


def test_by_hand():
    """Image 0 finds its caption, image 1 that of image 0; image 2 has the caption of image 0 word for word."""
    texts = np.array([[[7, 1, 8]], [[7, 2, 8]], [[7, 1, 8]]], np.int32)
    found = np.array([[[1, 0], [1, 0]], [[1, 0.1], [0, 1]], [[1, 0], [1, 0]]], float)
    split = {"id": list("abc"), "texts": texts}
    values = score(CaptionRetrieval(), CaptionRetrieval().rows(found, split).statistics)
    assert values["recall_1_image_to_text"] == pytest.approx(2 / 3)
    assert values["recall_1_text_to_image"] == pytest.approx(1 / 3)  # by the caption of images 0 and 2, image 1 ties
    assert values["images"] == 3
    constant = score(CaptionRetrieval(), CaptionRetrieval().rows(np.ones_like(found), split).statistics)
    assert (constant["recall_1_image_to_text"], constant["recall_5_image_to_text"]) == (0, 1)
