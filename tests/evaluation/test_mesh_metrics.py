"""Reference: loops from the definitions of the three protocols, SciPy's rotation of least squares; hand-made cases."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from facerep_jax.evaluation.mesh_metrics import MeshErrors, SparseErrors, aligned
from facerep_jax.evaluation.metrics import score
from facerep_jax.typing import Metric

LANDMARKS = tuple(range(10, 78))


def meshes(n=7, v=90, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, v, 3)) * (20, 30, 10) + (50, 60, 5)
    yaw = np.array([0, -20, 30, 31, -59, 75, 120], np.float32)[:n]
    split = {"id": [f"{i}" for i in range(n)], "vertices": truth.astype(np.float32), "yaw": yaw}
    return truth + rng.normal(size=truth.shape), split


def similarity(p, y):
    """p as near to y as scale, rotation and shift bring it."""
    a, b = p - p.mean(0), y - y.mean(0)
    rotation, _ = Rotation.align_vectors(b, a)
    turned = rotation.apply(a)
    return (turned * b).sum() / (a * a).sum() * turned + y.mean(0)


def reference(p, y):
    """Dense, reconstruction, sparse of one face."""

    def side(points):
        (x0, y0), (x1, y1) = points[:, :2].min(0), points[:, :2].max(0)
        return np.sqrt((x1 - x0) * (y1 - y0))

    flat_p, flat_y = p.copy(), y.copy()
    flat_p[:, 2] -= p[:, 2].mean()
    flat_y[:, 2] -= y[:, 2].mean()
    dense = np.mean([np.linalg.norm(a - b) for a, b in zip(flat_p, flat_y, strict=True)]) / side(y)
    near = similarity(p, y)
    shape = np.mean([np.linalg.norm(a - b) for a, b in zip(near, y, strict=True)]) / np.linalg.norm(y[46] - y[55])
    marks_p, marks_y = p[list(LANDMARKS)], y[list(LANDMARKS)]
    flat = [np.hypot(*(a - b)[:2]) for a, b in zip(marks_p, marks_y, strict=True)]
    return dense, shape, np.mean(flat) / side(marks_y)


def test_the_three_protocols_are_those_of_their_definitions():
    prediction, split = meshes()
    prediction[2] *= (-1, 1, 1)  # a mirrored face is not brought near by a rotation
    metric = MeshErrors(LANDMARKS)
    assert isinstance(metric, Metric)
    rows = metric.rows(prediction, split)
    expected = np.array([reference(*pair) for pair in zip(prediction, split["vertices"].astype(float), strict=True)])
    found = score(metric, rows.statistics)
    for name, values in zip(metric.columns, expected.T, strict=False):
        assert found[name] == pytest.approx(values.mean(), rel=1e-6)
    bins = [expected[:3, 2].mean(), expected[3:5, 2].mean(), expected[5, 2]]  # 120 degrees are in none
    assert [found[name] for name in metric.bins] == pytest.approx(bins, rel=1e-6)
    assert found["nme_sparse_box_balanced"] == pytest.approx(np.mean(bins), rel=1e-6)
    weights = np.array([[2.0, 0, 1, 0, 0, 0, 0]])
    drawn = metric.compute(rows.statistics, weights)
    assert drawn["nme_dense_box"][0] == pytest.approx(expected[[0, 0, 2], 0].mean(), rel=1e-6)
    assert drawn["nme_sparse_box_balanced"][0] == pytest.approx(expected[[0, 0, 2], 2].mean(), rel=1e-6)


def test_sparse_alignment_alone_needs_no_depths():
    prediction, split = meshes()
    whole = score(MeshErrors(LANDMARKS), MeshErrors(LANDMARKS).rows(prediction, split).statistics)
    metric, marks = SparseErrors(), list(LANDMARKS)
    assert isinstance(metric, Metric)
    assert metric.headline == "nme_sparse_box_balanced"
    flat = split["vertices"][:, marks] * np.float32([1, 1, np.nan])
    found = score(metric, metric.rows(prediction[:, marks], {**split, "landmarks_3d": flat}).statistics)
    assert {*found} == {*metric.columns, *metric.bins, "images"}
    for name, value in found.items():
        assert value == pytest.approx(whole[name], rel=1e-9)


def test_a_similarity_is_undone_and_nothing_else():
    _, split = meshes(n=2)
    truth = split["vertices"].astype(float)
    turned = 1.7 * truth @ Rotation.from_euler("xyz", (20, 40, -10), degrees=True).as_matrix() + (3, -4, 9)
    np.testing.assert_allclose(aligned(turned, truth), truth, atol=1e-9)
    found = score(MeshErrors(LANDMARKS), MeshErrors(LANDMARKS).rows(turned, split).statistics)
    assert found["nme_reconstruction_inter_ocular"] == pytest.approx(0, abs=1e-6)
    assert found["nme_dense_box"] > 0.1
    moved = score(MeshErrors(), MeshErrors().rows(truth + np.array([0, 0, 7]), split).statistics)
    assert moved["nme_dense_box"] == pytest.approx(0, abs=1e-6)  # depth has no origin


def test_by_hand():
    """Two vertices of a box of 4 x 9 pixels, off by 3 in x, and pixels of the crop that are two wide."""
    truth = np.array([[[0, 0, 0], [4, 9, 2]]], np.float32)
    split = {"id": ["a"], "vertices": truth}
    found = score(MeshErrors(), MeshErrors().rows(truth + np.array([3, 0, 5]), split).statistics)
    assert found == {"nme_dense_box": pytest.approx(3 / 6), "images": 1}
    wide = MeshErrors().rows(truth + np.array([3, 0, 5]), split | {"landmarks_scale": np.array([[2.0, 1]])})
    assert score(MeshErrors(), wide.statistics)["nme_dense_box"] == pytest.approx(6 / np.sqrt(8 * 9))


def test_what_is_not_known_does_not_count():
    prediction, split = meshes()
    whole = MeshErrors(LANDMARKS).rows(prediction, split).statistics
    holes = split["vertices"].copy()
    holes[1, 3, 2] = np.nan
    del split["yaw"]
    found = score(
        MeshErrors(LANDMARKS), MeshErrors(LANDMARKS).rows(prediction, {**split, "vertices": holes}).statistics
    )
    assert found["images"] == 6
    assert found["nme_dense_box"] == pytest.approx(np.delete(whole[:, 1], 1).mean())
    assert np.isnan(found["nme_sparse_box_balanced"])
    nothing = score(MeshErrors(), MeshErrors().rows(prediction, {**split, "vertices": holes * np.nan}).statistics)
    assert np.isnan(nothing["nme_dense_box"])
    point = score(MeshErrors(LANDMARKS), MeshErrors(LANDMARKS).rows(np.zeros((7, 90, 3)), split).statistics)
    assert np.isfinite(point["nme_reconstruction_inter_ocular"])  # a constant prediction


def test_a_face_without_a_prediction_is_not_left_out():
    prediction, split = meshes()
    prediction[1, 3, 0] = np.nan
    rows = MeshErrors(LANDMARKS).rows(prediction, split).statistics
    found = score(MeshErrors(LANDMARKS), rows)
    assert found["images"] == 7
    assert np.isnan(found["nme_dense_box"])
    assert np.isfinite(score(MeshErrors(LANDMARKS), np.delete(rows, 1, axis=0))["nme_dense_box"])


def test_errors():
    prediction, split = meshes()
    with pytest.raises(ValueError, match="of all 68 landmarks are needed or none, not of 5"):
        MeshErrors(range(5))
    with pytest.raises(ValueError, match="a landmark is vertex 97, but a face has 90"):
        MeshErrors(range(30, 98)).rows(prediction, split)
    with pytest.raises(ValueError, match=r"predicted vertices are \(7, 80, 3\), the true ones \(7, 90, 3\)"):
        MeshErrors().rows(prediction[:, :80], split)
