import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import face_world
from facerep_jax.config import build, spec
from facerep_jax.evaluation.tasks.reconstruction_3d import Basis, Reconstruction3D, SparseAlignment, Yaw
from facerep_jax.models import pooled
from facerep_jax.typing import ClosedForm, Task
from tests.evaluation.tasks.pooled_features import gradient_of, loss_of, make_encoder, pictures, seen, with_kernel

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(40, 9, (6, 5, 3)).astype(np.float32)
TRUTH[1, 2] = np.nan


def make(head=None, taps=()):
    described = spec(Reconstruction3D, taps=taps, **({} if head is None else {"head": head}))
    runtime = dict(image_size=32, label_shape=(5, 3), meta={}, rngs=nnx.Rngs(0))
    return build(described, make_encoder(), **runtime)


def test_vertices_are_learnt_by_squared_error_in_units_of_their_deviation():
    task = make()
    assert isinstance(task, Task)
    batch = {"vertices": jnp.asarray(TRUTH)}
    task.calibrate(seen(6), batch)
    np.testing.assert_allclose(task.predict(seen(2, 1), {})[0], np.nanmean(TRUTH, 0), rtol=1e-5)
    with_kernel(task)
    found = np.asarray(task.predict(seen(6), {}), np.float64)
    expected = np.nanmean(np.square((found - TRUTH) / np.nanstd(TRUTH, 0)))
    assert float(loss_of(task, seen(6), batch)[0]) == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(gradient_of(task, seen(6), batch)).all()


def test_a_basis_is_that_of_principal_components():
    task = make(spec(Basis, components=3))
    batch = {"vertices": jnp.asarray(TRUTH)}
    task.calibrate(seen(6), batch)
    whole = np.delete(TRUTH, 1, 0).reshape(5, -1).astype(np.float64)
    centred = whole - whole.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    largest = vectors[:, -3:]
    basis = np.asarray(task.head.basis[...])
    np.testing.assert_allclose(basis.T @ basis, largest @ largest.T, atol=1e-4)
    np.testing.assert_allclose(
        np.asarray(task.head.coefficients(batch["vertices"]))[[0, 2]], centred[:2] @ basis.T, atol=1e-3
    )
    kernel = task.head.inner.linear.kernel
    kernel.set_value(jnp.asarray(RNG.normal(size=kernel.shape), jnp.float32))
    found = np.asarray(task.predict(seen(6), {}), np.float64).reshape(6, -1) - whole.mean(0)
    np.testing.assert_allclose(found @ largest @ largest.T, found, atol=1e-3)  # within the span of the basis
    assert np.isfinite(float(loss_of(task, seen(6), batch)[0]))


def test_a_basis_with_few_meshes_has_fewer_components():
    task = make(spec(Basis, components=8))
    task.calibrate(seen(3), {"vertices": jnp.asarray(TRUTH[[0, 2, 3]])})
    lengths = np.linalg.norm(np.asarray(task.head.basis[...]), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 0, 0, 0, 0, 0], atol=1e-5)
    with pytest.raises(ValueError, match="none of 1 training examples has all vertices of its mesh"):
        task.calibrate(seen(1), {"vertices": jnp.asarray(TRUTH[1:2])})
    with pytest.raises(ValueError, match="a basis of 15 numbers has 1 to 15 components, not 16"):
        make(spec(Basis, components=16))


def test_ridge_solves_for_a_linear_head_below_a_basis_alone():
    linear, layers = (
        make(spec(Basis, components=3)),
        make(spec(Basis, components=3, inner=spec(pooled.Layers)), (0.5, 1.0)),
    )
    assert isinstance(linear.head, ClosedForm)
    assert not isinstance(layers.head, ClosedForm)
    for task in (linear, layers):
        task.calibrate(seen(6), {"vertices": jnp.asarray(TRUTH)})
    equations = linear.head.equations(seen(6)["image"].at(()), jnp.asarray(TRUTH))
    assert equations.targets.shape == (6, 1, 3)
    assert equations.weights[:, 0, 0].tolist() == [1, 0, 1, 1, 1, 1]


def test_baselines_yaw_and_metric():
    splits = [{"image": pictures(6, seed), "vertices": TRUTH} for seed in range(3)]
    found = Reconstruction3D.baselines(*splits, {})
    np.testing.assert_allclose(found["mean"][3], np.nanmean(TRUTH, 0), rtol=1e-5)
    assert found["linear_pixels"].shape == TRUTH.shape
    face = face_world.face(0, 0, 32)
    assert abs(float(Yaw()(face, RNG)["yaw"])) < 90
    assert Yaw()({"vertices": TRUTH[0], "head_pose": np.array([12.0, 0, 0])}, RNG)["yaw"] == 12
    both = {"vertices": TRUTH[0], "head_pose": np.array([12.0, 0, 0]), "abs_yaw_deg": 13.0}
    assert Yaw()(both, RNG)["yaw"] == 13  # as the set's own protocol counts it
    assert np.isnan(Yaw()({"vertices": TRUTH[0]}, RNG)["yaw"])
    np.testing.assert_array_equal(face["vertices"][list(face_world.META["vertex_landmarks"])], face["landmarks_3d"])
    assert build(Reconstruction3D.metric(face_world.META)).columns[-1] == "nme_sparse_box_balanced"
    assert build(Reconstruction3D.metric({})).columns == ("nme_dense_box",)
    assert Reconstruction3D.draw(pictures(1)[0], TRUTH[1], TRUTH[0], 2).size == (64, 64)


def test_sparse_alignment_is_of_landmarks_whose_depths_may_be_unknown():
    truth = np.where(np.arange(3) == 2, np.nan, RNG.normal(40, 9, (6, 68, 3))).astype(np.float32)
    batch = {"landmarks_3d": jnp.asarray(truth)}
    task = build(spec(SparseAlignment), make_encoder(), image_size=32, label_shape=(68, 3), meta={}, rngs=nnx.Rngs(0))
    task.calibrate(seen(6), batch)
    assert np.isfinite(float(loss_of(task, seen(6), batch)[0]))
    metric = build(SparseAlignment.metric({}))
    split = {"id": list("abcdef"), "landmarks_3d": truth, "yaw": np.arange(6) * 15.0}
    splits = [{"image": pictures(6, seed), **split} for seed in range(3)]
    for found in (task.predict(seen(6), {}), *SparseAlignment.baselines(*splits, {}).values()):
        statistics = metric.rows(np.asarray(found), split).statistics
        assert np.isfinite(statistics).all()
        assert statistics[:, 0].all()
