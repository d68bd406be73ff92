"""Reference: scikit-learn, with the weights of bootstrap draws as its sample weights; cases by hand.

Planted and seen red: ties ranked in the order of the rows, a label below 0 counted as no.
"""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from facerep_jax.evaluation.label_metrics import Classes, MultiLabel
from facerep_jax.evaluation.metrics import score
from facerep_jax.typing import Metric, Noting

LABELS = ("beard", "hat", "glasses")


def named(n, **labels):
    return {"id": [f"face_{i}" for i in range(n)], **labels}


def drawn(n=80, seed=0):
    """Scores with ties, labels of which some are not known, and counts of three draws, one of which is of all once."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 3)) < [0.5, 0.2, 0.7]).astype(np.float32)
    scores = np.round(truth + rng.normal(-0.4, 1, (n, 3)), 1)  # ties
    truth[rng.random((n, 3)) < 0.15] = np.nan
    truth[0] = -1
    weights = np.stack([np.ones(n), *(np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(2))])
    return scores, truth, weights.astype(np.float64)


def test_yes_or_no_labels_are_scored_as_scikit_learn_does():
    scores, truth, weights = drawn()
    metric = MultiLabel(LABELS)
    assert isinstance(metric, Metric)
    found = metric.compute(metric.rows(scores, named(80, attributes=truth)).statistics, weights)
    assert set(metric.columns) <= set(found)
    for row, w in enumerate(weights):
        means = {name: [] for name in ("accuracy", "balanced_accuracy", "f1", "ap", "auc")}
        for place, label in enumerate(LABELS):
            known = truth[:, place] >= 0
            y, s, kw = truth[known, place], scores[known, place], {"sample_weight": w[known]}
            expected = {
                "accuracy": sklearn.accuracy_score(y, s > 0, **kw),
                "balanced_accuracy": sklearn.balanced_accuracy_score(y, s > 0, **kw),
                "f1": sklearn.f1_score(y, s > 0, **kw),
                "ap": sklearn.average_precision_score(y, s, **kw),
                "auc": sklearn.roc_auc_score(y, s, **kw),
            }
            for name, value in expected.items():
                assert found[f"{name}_{label}"][row] == pytest.approx(value), (name, label)
                means[name].append(value)
        for name, values in means.items():
            assert found["map" if name == "ap" else f"{name}_mean"][row] == pytest.approx(np.mean(values))


def test_yes_or_no_labels_by_hand():
    truth = np.array([[1, 1, 1], [0, 1, np.nan], [1, 1, -1], [0, 1, np.nan]])
    scores = np.array([[2.0, 1, 1], [1, 1, 1], [-1, -1, 1], [-2, 1, -1]])
    metric = MultiLabel(LABELS)
    found = score(metric, metric.rows(scores, named(4, attributes=truth)).statistics)
    assert found["accuracy_beard"] == 0.5  # the first and the last
    assert found["f1_beard"] == 0.5
    assert found["auc_beard"] == 0.75  # of four pairs the third face loses to the second
    assert found["ap_beard"] == pytest.approx((1 + 2 / 3) / 2)
    assert (found["accuracy_hat"], found["f1_hat"]) == (0.75, pytest.approx(6 / 7))
    assert np.isnan(found["balanced_accuracy_hat"])  # all have one
    assert np.isnan(found["auc_hat"])
    assert (found["accuracy_glasses"], found["ap_glasses"]) == (1, 1)  # one face is known
    assert found["auc_mean"] == 0.75
    assert found["accuracy_mean"] == pytest.approx((0.5 + 0.75 + 1) / 3)


def test_constant_scores_have_values_and_a_label_that_nobody_has_has_none():
    truth = np.array([[1, 0, np.nan]] * 3 + [[0, 0, np.nan]] * 3)
    metric = MultiLabel(LABELS)
    found = score(metric, metric.rows(np.zeros((6, 3)), named(6, attributes=truth)).statistics)
    assert (found["auc_beard"], found["ap_beard"], found["balanced_accuracy_beard"]) == (0.5, 0.5, 0.5)
    assert (found["f1_beard"], found["accuracy_hat"]) == (0, 1)
    missing = ("ap_hat", "auc_hat", "f1_hat", "accuracy_glasses", "f1_glasses", "auc_glasses")
    assert all(np.isnan(found[name]) for name in missing)
    unknown = score(metric, metric.rows(np.zeros((2, 3)), named(2, attributes=np.full((2, 3), -1.0))).statistics)
    assert all(np.isnan(value) for value in unknown.values())


def test_a_label_that_nobody_has_counts_in_no_mean_whatever_is_predicted():
    """One false alarm, or none: the F1 of the label that has positives is the mean either way."""
    truth = np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1]])
    scores = np.array([[1.0, -1, 1], [1, -1, 1], [-1, -1, 1]])
    alarm = np.where(np.arange(9).reshape(3, 3) == 1, 1.0, scores)
    metric = MultiLabel(LABELS, headline="f1_mean")
    assert isinstance(metric, Noting)
    for predicted in (scores, alarm):
        rows = metric.rows(predicted, named(3, attributes=truth))
        found = score(metric, rows.statistics)
        assert (found["f1_mean"], found["f1_beard"]) == (1, 1)
        assert np.isnan(found["f1_hat"])
        assert metric.notes(rows) == (
            "no test image is known to have: hat; F1 and average precision are not defined",
            "no test image is known to lack: glasses; AUC and balanced accuracy are not defined",
        )
    assert metric.notes(metric.rows(scores[:2], named(2, attributes=np.array([[0, 1, 1], [1, 0, 0]])))) == ()
    many = MultiLabel([f"label_{i}" for i in range(13)])
    (first, _) = many.notes(many.rows(np.zeros((1, 13)), named(1, attributes=np.full((1, 13), np.nan))))
    assert "label_9 and 3 more; F1" in first


def test_a_single_image_has_its_share_of_right_labels():
    scores, truth, _ = drawn()
    metric = MultiLabel(LABELS)
    statistics = metric.rows(scores, named(80, attributes=truth)).statistics
    for row in range(1, 10):
        known = truth[row] >= 0
        right = ((scores[row] > 0) == (truth[row] > 0.5))[known]
        value = score(metric, statistics[row : row + 1])["accuracy_mean"]
        assert value == pytest.approx(right.mean()) if known.any() else np.isnan(value)


def test_persons_are_units_and_names_are_held_against_labels():
    split = named(2, attributes=np.zeros((2, 3)), identity=np.array([4, -1]))
    assert MultiLabel(LABELS).rows(np.zeros((2, 3)), split).units == ["person 4", "face_1"]
    with pytest.raises(ValueError, match=r"scores are \(2, 2\), the true labels \(2, 3\)"):
        MultiLabel(LABELS).rows(np.zeros((2, 2)), split)
    with pytest.raises(ValueError, match="no headline 'f1'; known: accuracy_mean, auc_mean"):
        MultiLabel(LABELS, headline="f1")


def classes(n=120, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 4, n)
    predicted = np.where(rng.random(n) < 0.5, truth.clip(0), rng.integers(0, 4, n))
    weights = np.stack([np.ones(n), *(np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(2))])
    return predicted, truth.astype(np.int32), weights.astype(np.float64)


def test_classes_are_scored_as_scikit_learn_does():
    predicted, truth, weights = classes()
    metric = Classes(("calm", "glad", "sad", "angry"))
    assert isinstance(metric, Metric)
    found = metric.compute(metric.rows(predicted, named(120, expression=truth)).statistics, weights)
    known = truth >= 0
    for row, w in enumerate(weights):
        y, p, kw = truth[known], predicted[known], {"sample_weight": w[known]}
        assert found["accuracy"][row] == pytest.approx(sklearn.accuracy_score(y, p, **kw))
        assert found["f1_macro"][row] == pytest.approx(sklearn.f1_score(y, p, average="macro", **kw))
        assert found["balanced_accuracy"][row] == pytest.approx(sklearn.balanced_accuracy_score(y, p, **kw))
        confusion = sklearn.confusion_matrix(y, p, normalize="true", **kw)
        for i, a in enumerate(metric.classes):
            for j, b in enumerate(metric.classes):
                assert found[f"confusion_{a}_as_{b}"][row] == pytest.approx(confusion[i, j])
        assert found["images"][row] == w[known].sum()


def test_classes_by_hand():
    """Two of a, one of b, none of c; b is taken for c."""
    metric = Classes(("a", "b", "c", "d"))
    rows = metric.rows(np.array([0, 0, 2, 1]), named(4, expression=np.array([0, 0, 1, -1])))
    found = score(metric, rows.statistics)
    assert (found["accuracy"], found["images"]) == (pytest.approx(2 / 3), 3)
    assert (found["f1_a"], found["f1_b"], found["f1_c"]) == (1, 0, 0)
    assert metric.notes(rows) == ("no test image is of class c, d; the recall of such a class is not defined",)
    assert np.isnan(found["f1_d"])
    assert found["f1_macro"] == pytest.approx(1 / 3)
    assert found["balanced_accuracy"] == 0.5
    assert (found["confusion_b_as_c"], found["confusion_a_as_b"]) == (1, 0)
    assert np.isnan(found["confusion_c_as_a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown = score(metric, metric.rows(np.array([0]), named(1, expression=np.array([-1]))).statistics)
    assert np.isnan(unknown["accuracy"])
    assert unknown["images"] == 0


def test_classes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="the expression holds class 2, expected 0 to 1"):
        Classes(("a", "b")).rows(np.array([0]), named(1, expression=np.array([2])))
    with pytest.raises(ValueError, match="the prediction holds class 5, expected 0 to 1"):
        Classes(("a", "b")).rows(np.array([5]), named(1, expression=np.array([1])))
