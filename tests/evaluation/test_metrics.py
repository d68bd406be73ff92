"""Reference: scikit-learn for F1, loops written from the definition for NME; invariance to order and to batches."""

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
from facerep_jax.evaluation import metrics
from facerep_jax.evaluation.metrics import F1, NME, THRESHOLDS
from facerep_jax.typing import Metric

EYES = {"kind": "inter_ocular", "left": 0, "right": 2}
PUPILS = {"kind": "inter_pupil", "left": [0, 1], "right": [3, 2, 4]}
CLASSES = ("background", "skin", "hair", "nose")


def named(given):
    """Predictions and a batch, with names for its examples."""
    prediction, batch = given
    return prediction, {"id": [f"face_{i}" for i in range(len(prediction))], **batch}


def rows(metric, prediction, batch):
    """The statistics of examples without a name."""
    found = metric.rows(*named((prediction, batch)))
    assert found.ids == found.units == [f"face_{i}" for i in range(len(prediction))]
    return found.statistics


def score(metric, prediction, batch):
    return metrics.score(metric, rows(metric, prediction, batch))


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
    return metric, rows(metric, prediction, batch)


@pytest.mark.parametrize("threshold", [0.05, 0.07, 0.08, 0.1])
def test_failures_and_the_area_under_the_curve_are_farls(threshold):
    """FaRL's scorer: the curve at steps of 1e-4 summed by Simpson's rule, and 1 less where it ends."""
    errors = np.random.default_rng(0).gamma(3, 0.02, 400)
    metric, statistics = of_errors(errors, threshold)
    got = metrics.score(metric, statistics)
    levels = np.arange(0, threshold + 5e-5, 1e-4)
    shares = np.array([np.count_nonzero(errors <= level) / len(errors) for level in levels])
    assert 0.2 < shares[-1] < 1
    assert got[f"failure_rate_at_{threshold:.2f}"] == pytest.approx(1 - shares[-1])
    assert abs(got[f"auc_at_{threshold:.2f}"] - simpson(shares, x=levels) / threshold) < 1e-4 / threshold
    alone = [metrics.score(metric, row[None])["nme_box"] for row in statistics]
    np.testing.assert_allclose(alone, errors)


def test_failures_by_hand():
    metric, statistics = of_errors([0.0, 0.035, 0.07, 0.0701, 5.0, np.nan])
    got = metrics.score(metric, statistics)
    assert got["failure_rate_at_0.07"] == pytest.approx(3 / 6)  # what is no number fails
    assert got["auc_at_0.07"] == pytest.approx((1 + 0.5) / 6)
    metric, statistics = of_errors([0.0, 0.1], 0.125)
    assert metrics.score(metric, statistics)["auc_at_0.125"] == pytest.approx((1 + 0.2) / 2)


def test_an_image_that_is_left_out_neither_fails_nor_counts():
    prediction, batch = faces()
    batch["landmarks"][3] = np.nan
    batch["bbox"][3] = np.nan
    got = score(NME(EYES, 10.0), prediction, batch)
    assert got["failure_rate_at_10.00"] == 0
    assert got["images"] == 5


def test_thresholds_are_of_the_normaliser():
    for kind, normaliser in {"inter_ocular": EYES, "inter_pupil": PUPILS, "box": None, "diagonal": None}.items():
        assert NME(normaliser or {"kind": kind}).error_limit == THRESHOLDS[kind]
    assert (THRESHOLDS["inter_ocular"], THRESHOLDS["box"]) == (0.10, 0.07)  # FaRL's of WFLW and AFLW


@pytest.mark.parametrize("kind", ["box", "diagonal"])
def test_other_normalisers_give_the_errors_of_the_box_only(kind):
    metric = NME({"kind": kind})
    got = score(metric, *faces())
    assert {n for n in got if n.startswith("nme")} == {"nme_box", "nme_diagonal"}
    assert metric.headline == f"nme_{kind}"


@pytest.mark.parametrize("kind", ["box", "diagonal"])
def test_eyes_beside_a_box_give_the_inter_ocular_error_too(kind):
    beside, alone = NME({**EYES, "kind": kind}), NME({"kind": kind})
    assert beside.units[:2] == (kind, "inter_ocular")
    assert beside.headline == alone.headline
    got = score(beside, *faces())
    assert got["nme_inter_ocular"] == score(NME(EYES), *faces())["nme_inter_ocular"]
    assert score(alone, *faces()).items() <= got.items()


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
    assert math.isnan(metrics.score(NME(EYES), np.zeros((0, 9)))["nme_box"])
    prediction[0, 0] = np.nan
    assert math.isnan(score(NME(EYES), prediction, batch)["nme_box"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 5))
def test_nme_does_not_depend_on_order_or_batches(seed, split):
    """Turned red by: a mean per batch instead of sums (tried)."""
    prediction, batch = faces(seed)
    metric = NME(EYES)
    want = score(metric, prediction, batch)
    order = np.random.default_rng(seed).permutation(6)
    parts = [
        rows(metric, prediction[of], {k: v[of] for k, v in batch.items()}) for of in (order[:split], order[split:])
    ]
    assert metrics.score(metric, np.concatenate(parts)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("kind", ["nme", "f1"])
def test_weights_count_rows(kind):
    """A row of weight 2 is two rows, one of weight 0 none, and each set of weights is by itself."""
    metric, given = {"nme": (NME(EYES), faces()), "f1": (F1(CLASSES), maps())}[kind]
    statistics = rows(metric, *given)
    weights = np.zeros((2, len(statistics)))
    weights[0, [0, 2]], weights[1, 1] = (2, 1), 1
    got = metric.compute(statistics, weights)
    for draw, picked in enumerate(([0, 0, 2], [1])):
        want = metrics.score(metric, statistics[picked])
        assert {name: values[draw] for name, values in got.items()} == pytest.approx(want, rel=1e-12, nan_ok=True)
        assert list(want) == list(got)


def test_values_are_those_of_earlier_versions():
    """Written down before rows and weights took the place of sums."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 64, (50, 5, 2))
    truth[3] = np.nan
    got = score(NME(EYES), truth + rng.normal(0, 2, truth.shape), {"landmarks": truth})
    assert got == pytest.approx(
        {
            "nme_inter_ocular": 0.1204152898846368,
            "nme_box": 0.06280133382099987,
            "nme_diagonal": 0.04168629373746363,
            "failure_rate_at_0.10": 0.3673469387755102,
            "auc_at_0.10": 0.22133841074538482,
            "images": 49.0,
            "images_left_out_inter_ocular": 1.0,
            "images_left_out_box": 1.0,
            "images_left_out_diagonal": 1.0,
        },
        rel=1e-12,
    )
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, (30, 8, 9)).astype(np.uint8)
    true[rng.random(true.shape) < 0.1] = 255
    predicted = np.where(rng.random(true.shape) < 0.6, true % 4, rng.integers(0, 4, true.shape))
    assert score(F1(CLASSES), predicted, {"mask": true}) == pytest.approx(
        {
            "f1_mean_foreground": 0.68900180929386,
            "miou": 0.5222325999204398,
            "accuracy": 0.6861729673744174,
            "f1_background": 0.6773162939297125,
            "f1_skin": 0.7007150153217568,
            "f1_hair": 0.6847034339229969,
            "f1_nose": 0.681586978636826,
        },
        rel=1e-12,
    )


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
def test_f1_does_not_depend_on_order_or_batches(seed, split):
    """Turned red by: F1 averaged over images (tried)."""
    prediction, batch = maps(seed)
    metric = F1(CLASSES)
    want = score(metric, prediction, batch)
    order = np.random.default_rng(seed).permutation(4)
    parts = [rows(metric, prediction[of], {"mask": batch["mask"][of]}) for of in (order[:split], order[split:])]
    assert metrics.score(metric, np.concatenate(parts)) == want


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
    device = {"mask": jnp.asarray(batch["mask"])}
    assert score(F1(CLASSES), jnp.asarray(prediction), device) == score(F1(CLASSES), prediction, batch)


def test_sums_are_float64():
    assert rows(NME(EYES), *faces()).dtype == rows(F1(CLASSES), *maps()).dtype == np.float64


@pytest.mark.parametrize(
    "described",
    [
        config.spec(NME, normaliser=EYES),
        config.spec(NME, normaliser=PUPILS, threshold=0.08),
        config.spec(F1, classes=CLASSES),
        config.spec(F1, classes=CLASSES, boundary=0.0075),
    ],
)
def test_a_metric_comes_back_from_json(described):
    metric = config.build(json.loads(json.dumps(config.plain(described))))
    assert isinstance(metric, Metric)
    assert metric.columns[0] == metric.headline
    values = score(metric, *(maps() if isinstance(metric, F1) else faces()))
    assert {*metric.columns, *metric.counts} <= set(values)
    assert all(float(values[name]).is_integer() for name in metric.counts)


def test_metrics_say_what_they_are():
    metric = NME(PUPILS, threshold=0.08)
    assert metric.names["nme_inter_pupil"] == "NME inter-pupil"
    assert metric.names["auc_at_0.08"] == "AUC at 0.08"
    assert [sentence.partition(":")[0] for sentence in metric.explains] == [
        "NME, normalised mean error",
        *("Inter-pupil", "Box", "Diagonal"),
    ]
    assert metric.error_limit == 0.08
    assert F1(CLASSES).names == {"miou": "mIoU"}
    assert len(F1(CLASSES).explains) == len(F1(CLASSES).columns)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NME({"kind": "inter_okular"}), r"'inter_okular' is not known; did you mean 'inter_ocular'\?"),
        (lambda: NME({"kind": "inter_ocular", "left": 36, "right": 45}).rows(*named(faces())), "landmark 45.*has 5"),
        (
            lambda: NME({"kind": "inter_pupil", "left": [36, 41], "right": [2]}).rows(*named(faces())),
            "landmark 41.*has 5",
        ),
        (lambda: NME(EYES, 0.0), "threshold of a failure must be more than 0, not 0.0"),
        (lambda: NME(EYES).rows(faces()[0][:, :3], named(faces())[1]), r"\(6, 3, 2\), the true ones \(6, 5, 2\)"),
        (lambda: F1(("background",)), "at least one class"),
        (lambda: F1(CLASSES).rows(*maps(b=1)[:1], named(maps(b=2))[1]), "true ones"),
        (lambda: F1(CLASSES[:3]).rows(*named(maps())), "holds class 3, expected 0 to 2"),
        (lambda: F1(CLASSES).rows(np.full((4, 8, 9), -1), named(maps())[1]), "holds class -1, expected"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_images_of_one_person_are_one_unit():
    """Tried: units that are images; the interval of a set of few people is then too narrow."""
    prediction = np.zeros((4, 2, 2))
    batch = {"landmarks": np.ones((4, 2, 2)), "identity": np.array([7, -1, 7, 3])}
    assert NME({"kind": "box"}).rows(*named((prediction, batch))).units == [
        "person 7",
        "face_1",
        "person 7",
        "person 3",
    ]
    masks = np.zeros((4, 2, 2), np.int64)
    rows = F1(("background", "skin")).rows(*named((masks, {"mask": masks, "identity": batch["identity"]})))
    assert rows.units == ["person 7", "face_1", "person 7", "person 3"]
