"""Reference: SciPy's distance transform and erosion, one image and class at a time; a hand-made case.

Planted and seen red: a tolerance by the larger of the two offsets, a boundary towards missing pixels.
"""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from facerep_jax.evaluation.boundaries import boundary_f1, tolerance_px
from facerep_jax.evaluation.metrics import F1, score

CLASSES = ("background", "skin", "nose", "hair")


def maps(n=6, h=40, w=52, seed=0):
    """Blobs of classes, and the same with some noise; a part of the truth is missing."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (n, h // 8 + 1, w // 8 + 1))
    true = coarse.repeat(8, 1).repeat(8, 2)[:, :h, :w].astype(np.uint8)
    moved = np.roll(true, (1, 2), (1, 2))
    predicted = np.where(rng.random(true.shape) < 0.02, 3, moved).astype(np.uint8)
    true[:, :5] = 255
    return predicted, true


def reference(predicted, true, index, reach):
    """One class of one image, by erosion and distances."""
    known = true != 255
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])

    def outline(labels):  # pixels that an erosion by a cross takes away; missing pixels and the outside take none
        own = (labels == index) & known
        return own & ~binary_erosion(own | ~known, cross, border_value=1)

    a, b = outline(predicted), outline(true)
    if not (a | b).any():
        return np.nan
    if not (a.any() and b.any()):
        return 0.0
    precision = (distance_transform_edt(~b)[a] <= reach).mean()
    recall = (distance_transform_edt(~a)[b] <= reach).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("share", [0.0075, 0.03, 0.08])
def test_it_is_that_of_distance_transforms(share):
    predicted, true = maps()
    found, reach = boundary_f1(predicted, true, 4, share), tolerance_px(40, 52, share)
    expected = [[reference(p, t, k, reach) for k in range(4)] for p, t in zip(predicted, true, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.nanmin(found) < 0.95


def test_by_hand():
    """A square of 4 pixels in 12, moved by one and by three, under a tolerance of one pixel."""
    true = np.zeros((3, 12, 12), np.uint8)
    true[:, 4:8, 4:8] = 1
    predicted = np.stack([true[0], np.roll(true[0], 1, 1), np.roll(true[0], 3, 1)])
    assert tolerance_px(12, 12) == 1
    found = boundary_f1(predicted, true, 3)
    assert found[0, :2].tolist() == [1, 1]
    assert np.isnan(found[:, 2]).all()  # a class that is nowhere
    assert found[1, 1] == 1  # every pixel of the outline has one beside it
    # Of the 12 pixels that were moved, the 4 of column 7 lie on the outline and 2 of column 8 beside it.
    assert found[2, 1] == pytest.approx(6 / 12)
    alone = boundary_f1(np.zeros_like(true), true, 2)
    assert alone.tolist() == [[0, 0]] * 3  # one map alone has outlines; the background's has gone too


def test_the_metric_means_over_images_then_over_classes():
    predicted, true = maps()
    metric = F1(CLASSES, boundary=0.0075)
    each = boundary_f1(predicted, true, 4)
    rows = metric.rows(predicted, {"mask": true, "id": [str(i) for i in range(6)]})
    found = score(metric, rows.statistics)
    for place, name in enumerate(CLASSES):
        assert found[f"boundary_f1_{name}"] == pytest.approx(np.nanmean(each[:, place]))
    assert found["boundary_f1_mean_foreground"] == pytest.approx(np.nanmean(each, 0)[1:].mean())
    weights = np.array([[2.0, 0, 1, 0, 0, 3]])
    drawn = metric.compute(rows.statistics, weights)["boundary_f1_skin"][0]
    assert drawn == pytest.approx(np.nanmean(each[[0, 0, 2, 5, 5, 5], 1]))
    plain = score(F1(CLASSES), F1(CLASSES).rows(predicted, {"mask": true, "id": list("abcdef")}).statistics)
    assert all(found[name] == value for name, value in plain.items())


def test_maps_without_labels_have_none():
    blank = np.full((2, 8, 8), 255, np.uint8)
    assert np.isnan(boundary_f1(np.zeros_like(blank), blank, 3)).all()
    whole = np.ones((1, 8, 8), np.uint8)  # one class throughout has no outline
    assert np.isnan(boundary_f1(whole, whole, 3)).all()
