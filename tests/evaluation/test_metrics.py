"""Reference: scikit-learn for F1, loops written from the definition for NME; invariance to batching and padding."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson
from sklearn.metrics import f1_score, jaccard_score

from facerep_jax import config
from facerep_jax.evaluation.metrics import F1, NME, THRESHOLDS, cumulative

EYES = {"kind": "inter_ocular", "left": 0, "right": 2}
PUPILS = {"kind": "inter_pupil", "left": [0, 1], "right": [3, 2, 4]}
CLASSES = ("background", "skin", "hair", "nose")


def score(metric, prediction, batch):
    return metric.compute(metric.update(metric.init(), prediction, batch))


def faces(seed=0, b=6, k=5):
    rng = np.random.default_rng(seed)
    landmarks = rng.uniform(0, 64, (b, k, 2)).astype(np.float32)
    corner = rng.uniform(0, 10, (b, 2))
    bbox = np.concatenate([corner, corner + rng.uniform(20, 50, (b, 2))], axis=1).astype(np.float32)
    scale = rng.uniform(0.5, 3, (b, 2)).astype(np.float32)
    prediction = landmarks + rng.normal(0, 2, landmarks.shape).astype(np.float32)
    return prediction, {"landmarks": landmarks, "bbox": bbox, "landmarks_scale": scale}


def nme_by_definition(prediction, landmarks, unit, scale):
    """Every image by itself, as in FaRL's scorer, in original pixels."""
    values = []
    for p, t, s, row in zip(prediction, landmarks, scale, range(len(landmarks)), strict=True):
        points = [math.dist(p[i] * s, t[i] * s) for i in range(len(t)) if not np.isnan(t[i]).any()]
        if points:
            values.append(np.mean(points) / unit(row))
    return np.mean(values)


@pytest.mark.parametrize("with_box", [True, False])
@pytest.mark.parametrize("with_scale", [True, False])
def test_nme_is_the_definition(with_box, with_scale):
    prediction, batch = faces()
    batch["landmarks"][1, 3] = np.nan
    t = batch["landmarks"].astype(np.float64)
    scale = batch["landmarks_scale"].astype(np.float64) if with_scale else np.ones((6, 2))
    batch = {k: v for k, v in batch.items() if with_box or k != "bbox"}
    batch = {k: v for k, v in batch.items() if with_scale or k != "landmarks_scale"}

    def size(row):
        if with_box:
            box = batch["bbox"][row].astype(np.float64)
            return (box[2] - box[0]) * scale[row][0], (box[3] - box[1]) * scale[row][1]
        return tuple((np.nanmax(t[row], 0) - np.nanmin(t[row], 0)) * scale[row])

    got = score(NME(EYES), prediction, batch)
    units = {
        "nme_inter_ocular": lambda row: math.dist(t[row][0] * scale[row], t[row][2] * scale[row]),
        "nme_box": lambda row: math.sqrt(math.prod(size(row))),
        "nme_diagonal": lambda row: math.hypot(*size(row)),
    }
    for name, unit in units.items():
        assert got[name] == pytest.approx(nme_by_definition(prediction, t, unit, scale), rel=1e-9), name
    assert got["images"] == 6


def test_nme_by_hand():
    landmarks = np.array([[[0, 0], [0, 10], [20, 0]]], np.float32)
    prediction = landmarks + np.float32([3, 4])  # every point is 5 pixels off
    got = score(NME(EYES), prediction, {"landmarks": landmarks, "bbox": np.float32([[0, 0, 30, 40]])})
    assert got["nme_inter_ocular"] == pytest.approx(5 / 20)
    assert got["nme_diagonal"] == pytest.approx(5 / 50)
    assert got["nme_box"] == pytest.approx(5 / math.sqrt(1200))


def test_inter_pupil_is_between_the_means_of_two_sets_of_landmarks():
    prediction, batch = faces()
    t, scale = batch["landmarks"].astype(np.float64), batch["landmarks_scale"].astype(np.float64)

    def unit(row):
        left, right = (np.mean([t[row][i] * scale[row] for i in eye], 0) for eye in ((0, 1), (3, 2, 4)))
        return math.dist(left, right)

    metric = NME(PUPILS)
    got = score(metric, prediction, batch)
    assert metric.headline == "nme_inter_pupil"
    assert got["nme_inter_pupil"] == pytest.approx(nme_by_definition(prediction, t, unit, scale), rel=1e-9)
    assert got["nme_box"] == score(NME(EYES), prediction, batch)["nme_box"]
    batch["landmarks"][2, 4] = np.nan  # the mean of an eye is that of all its points
    assert score(metric, prediction, batch)["images_left_out_inter_pupil"] == 1


def of_errors(errors, threshold=None):
    """Statistics of images whose box is 1 x 1 and whose one landmark is that far off."""
    b = len(errors)
    batch = {"landmarks": np.zeros((b, 1, 2)), "bbox": np.tile([0.0, 0, 1, 1], (b, 1))}
    prediction = np.zeros((b, 1, 2))
    prediction[:, 0, 0] = errors
    metric = NME({"kind": "box"}, threshold)
    return metric, metric.examples(prediction, batch)


@pytest.mark.parametrize("threshold", [0.05, 0.07, 0.08, 0.1])
def test_failures_and_the_area_under_the_curve_are_farls(threshold):
    """FaRL's scorer: the curve at steps of 1e-4 summed by Simpson's rule, and 1 less where it ends."""
    errors = np.random.default_rng(0).gamma(3, 0.02, 400)
    metric, statistics = of_errors(errors, threshold)
    got = metric.compute(statistics.sum(0))
    levels = np.arange(0, threshold + 5e-5, 1e-4)
    shares = np.array([np.count_nonzero(errors <= level) / len(errors) for level in levels])
    assert 0.2 < shares[-1] < 1
    assert got[f"failure_rate_at_{threshold:.2f}"] == pytest.approx(1 - shares[-1])
    assert abs(got[f"auc_at_{threshold:.2f}"] - simpson(shares, x=levels) / threshold) < 1e-4 / threshold
    np.testing.assert_allclose(metric.errors(statistics), errors)
    ours = cumulative(metric.errors(statistics), threshold)
    np.testing.assert_allclose(ours[0], levels, atol=1e-12)
    np.testing.assert_allclose(ours[1], shares, atol=1 / 400 + 1e-9)  # an error may lie on a level


def test_failures_by_hand():
    metric, statistics = of_errors([0.0, 0.035, 0.07, 0.0701, 5.0, np.nan])
    got = metric.compute(statistics.sum(0))
    assert got["failure_rate_at_0.07"] == pytest.approx(3 / 6)  # what is no number fails
    assert got["auc_at_0.07"] == pytest.approx((1 + 0.5) / 6)
    metric, statistics = of_errors([0.0, 0.1], 0.125)
    assert metric.compute(statistics.sum(0))["auc_at_0.125"] == pytest.approx((1 + 0.2) / 2)


def test_an_image_that_is_left_out_neither_fails_nor_counts():
    prediction, batch = faces()
    batch["landmarks"][3] = np.nan
    batch["bbox"][3] = np.nan
    got = score(NME(EYES, 10.0), prediction, batch)
    assert got["failure_rate_at_10.00"] == 0
    assert got["images"] == 5
    assert len(NME(EYES).errors(NME(EYES).examples(prediction, batch))) == 5


def test_thresholds_are_of_the_normaliser():
    for kind, normaliser in {"inter_ocular": EYES, "inter_pupil": PUPILS, "box": None, "diagonal": None}.items():
        assert NME(normaliser or {"kind": kind}).threshold == THRESHOLDS[kind]
    assert (THRESHOLDS["inter_ocular"], THRESHOLDS["box"]) == (0.10, 0.07)  # FaRL's of WFLW and AFLW


@pytest.mark.parametrize("kind", ["box", "diagonal"])
def test_other_normalisers_give_the_errors_of_the_box_only(kind):
    metric = NME({"kind": kind})
    got = score(metric, *faces())
    assert {n for n in got if n.startswith("nme")} == {"nme_box", "nme_diagonal"}
    assert metric.headline == f"nme_{kind}"


def test_images_that_cannot_be_scored_are_left_out_and_counted():
    prediction, batch = faces()
    kept = {k: v[:3] for k, v in batch.items()}
    want = score(NME(EYES), prediction[:3], kept)
    batch["landmarks"][3] = np.nan  # no landmarks
    batch["landmarks"][4, 2] = np.nan  # no right eye: no inter-ocular distance, but a box
    batch["landmarks"][5] = batch["landmarks"][5, :1]  # both eyes in one place
    got = score(NME(EYES), prediction, batch)
    assert got["nme_inter_ocular"] == pytest.approx(want["nme_inter_ocular"])
    assert (got["images"], got["images_left_out_inter_ocular"], got["images_left_out_box"]) == (3, 3, 1)


def test_an_unknown_or_inverted_box_is_left_out():
    prediction, batch = faces()
    batch["bbox"][0, 1] = np.nan
    batch["bbox"][1] = batch["bbox"][1, [2, 3, 0, 1]]
    got = score(NME({"kind": "box"}), prediction, batch)
    rest = score(NME({"kind": "box"}), prediction[2:], {k: v[2:] for k, v in batch.items()})
    assert got["nme_box"] == pytest.approx(rest["nme_box"])
    assert got["images_left_out_box"] == 2


def test_nothing_scored_is_nan_and_a_nan_prediction_too():
    prediction, batch = faces()
    assert math.isnan(NME(EYES).compute(NME(EYES).init())["nme_box"])
    prediction[0, 0] = np.nan
    assert math.isnan(score(NME(EYES), prediction, batch)["nme_box"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 5))
def test_nme_does_not_depend_on_order_batches_or_padding(seed, split):
    """Turned red by: a mean per batch instead of sums; `valid` not read (both tried)."""
    prediction, batch = faces(seed)
    metric = NME(EYES)
    want = score(metric, prediction, batch)
    order = np.random.default_rng(seed).permutation(6)
    state = metric.init()
    for rows in (order[:split], order[split:]):
        padded = np.concatenate([rows, rows[:1]])
        part = {k: v[padded].copy() for k, v in batch.items()}
        part["valid"] = np.arange(len(padded)) < len(rows)
        part["landmarks"][-1] = 1e6
        state = metric.update(state, prediction[padded], part)
    assert metric.compute(state) == pytest.approx(want, rel=1e-9)


def test_rows_that_are_not_valid_are_zero():
    prediction, batch = faces()
    prediction[0] = np.nan
    batch["valid"] = np.array([False] + [True] * 5)
    assert not NME(EYES).examples(prediction, batch)[0].any()
    masks = {"mask": np.ones((2, 4, 4), np.uint8), "valid": np.array([False, True])}
    assert not F1(CLASSES).examples(np.full((2, 4, 4), [[[9]], [[1]]]), masks)[0].any()


def maps(seed=0, b=4, ignored=0.1):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, len(CLASSES), (b, 8, 9)).astype(np.uint8)
    mask[rng.random(mask.shape) < ignored] = 255
    prediction = np.where(rng.random(mask.shape) < 0.6, mask % len(CLASSES), rng.integers(0, 4, mask.shape))
    return prediction.astype(np.int32), {"mask": mask}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16))
def test_f1_is_scikit_learns(seed):
    prediction, batch = maps(seed)
    scored = batch["mask"] != 255
    true, predicted = batch["mask"][scored], prediction[scored]
    got = score(F1(CLASSES), prediction, batch)
    f1 = f1_score(true, predicted, average=None, labels=range(4))
    assert [got[f"f1_{name}"] for name in CLASSES] == pytest.approx(list(f1))
    assert got["f1_mean_foreground"] == pytest.approx(f1[1:].mean())
    assert got["miou"] == pytest.approx(jaccard_score(true, predicted, average="macro", labels=range(4)))
    assert got["accuracy"] == pytest.approx((true == predicted).mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 3))
def test_f1_does_not_depend_on_order_batches_or_padding(seed, split):
    """Turned red by: F1 averaged over images (tried)."""
    prediction, batch = maps(seed)
    metric = F1(CLASSES)
    want = score(metric, prediction, batch)
    order = np.random.default_rng(seed).permutation(4)
    state = metric.init()
    for rows in (order[:split], order[split:]):
        padded = np.concatenate([rows, rows[:1]])
        part = {"mask": batch["mask"][padded], "valid": np.arange(len(padded)) < len(rows)}
        state = metric.update(state, prediction[padded], part)
    assert metric.compute(state) == want


def test_a_class_that_never_occurs_is_nan_and_in_no_mean():
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, :2] = 1
    prediction = mask.astype(np.int32)
    got = score(F1(CLASSES), prediction, {"mask": mask})
    assert (got["f1_mean_foreground"], got["miou"]) == (1, 1)
    assert math.isnan(got["f1_hair"])
    prediction[0, 3] = 2  # now hair is predicted, so it counts, as 0
    got = score(F1(CLASSES), prediction, {"mask": mask})
    assert (got["f1_hair"], got["f1_mean_foreground"]) == (0, 0.5)
    assert all(math.isnan(v) for v in score(F1(CLASSES), prediction, {"mask": np.full_like(mask, 255)}).values())


def test_device_arrays_give_the_same():
    prediction, batch = faces()
    device = {k: jnp.asarray(v) for k, v in batch.items()}
    assert score(NME(EYES), jnp.asarray(prediction), device) == score(NME(EYES), prediction, batch)
    prediction, batch = maps()
    device = {"mask": jnp.asarray(batch["mask"]), "valid": jnp.ones(4, bool)}
    assert score(F1(CLASSES), jnp.asarray(prediction), device) == score(F1(CLASSES), prediction, batch)


def test_sums_are_float64():
    assert NME(EYES).examples(*faces()).dtype == F1(CLASSES).examples(*maps()).dtype == np.float64


@pytest.mark.parametrize(
    "described",
    [
        config.spec(NME, normaliser=EYES),
        config.spec(NME, normaliser=PUPILS, threshold=0.08),
        config.spec(F1, classes=CLASSES),
    ],
)
def test_a_metric_comes_back_from_json(described):
    metric = config.build(json.loads(json.dumps(config.plain(described))))
    assert metric.headline in metric.columns
    assert set(metric.columns) <= set(metric.compute(metric.init()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NME({"kind": "inter_okular"}), r"'inter_okular' is not known; did you mean 'inter_ocular'\?"),
        (lambda: NME({"kind": "inter_ocular", "left": 36, "right": 45}).examples(*faces()), "landmark 45.*has 5"),
        (lambda: NME({"kind": "inter_pupil", "left": [36, 41], "right": [2]}).examples(*faces()), "landmark 41.*has 5"),
        (lambda: NME(EYES, 0.0), "threshold of a failure must be more than 0, not 0.0"),
        (lambda: NME(EYES).examples(faces()[0][:, :3], faces()[1]), r"\(6, 3, 2\), the true ones \(6, 5, 2\)"),
        (lambda: F1(("background",)), "at least one class"),
        (lambda: F1(CLASSES).examples(*maps(b=1)[:1], maps(b=2)[1]), "true ones"),
        (lambda: F1(CLASSES[:3]).examples(*maps()), "holds class 3, expected 0 to 2"),
        (lambda: F1(CLASSES).examples(np.full((4, 8, 9), -1), maps()[1]), "holds class -1, expected"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
