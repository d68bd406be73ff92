import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import face_world
from facerep_jax.config import build
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.pose_metrics import Angles
from facerep_jax.evaluation.tasks.head_pose import HeadPose, Pose
from facerep_jax.typing import Task
from tests.evaluation.tasks.pooled_features import gradient_of, loss_of, make_encoder, pictures, seen, with_kernel

TRUTH = np.array([[30, -5, 1], [-40, 10, 0], [np.nan] * 3, [0, 2, -20]], np.float32)


def test_angles_are_learnt_by_squared_error():
    task = HeadPose(make_encoder(), image_size=32, label_shape=(3,), meta={}, rngs=nnx.Rngs(0))
    assert isinstance(task, Task)
    batch = {"head_pose": jnp.asarray(TRUTH)}
    task.calibrate(seen(4), batch)
    np.testing.assert_allclose(task.predict(seen(2, 1), {})[1], np.nanmean(TRUTH, 0), rtol=1e-5, atol=1e-5)
    with_kernel(task)
    found = np.asarray(task.predict(seen(4), {}))
    expected = np.nanmean(np.square((found - TRUTH) / np.nanstd(TRUTH, 0)))
    assert float(loss_of(task, seen(4), batch)[0]) == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(gradient_of(task, seen(4), batch)).all()


def test_a_pose_is_that_of_the_camera_before_a_crop():
    scene, face = face_world.sample_scene(0, 3), face_world.face(0, 3, 64)
    found = Pose()(face, np.random.default_rng(0))
    np.testing.assert_allclose(found["head_pose"], np.degrees([scene.yaw, scene.pitch, scene.roll]), atol=1e-3)
    cropped = CropToBox(size=32, margin=0.2)(found, np.random.default_rng(0))
    np.testing.assert_array_equal(cropped["head_pose"], found["head_pose"])
    assert Pose()({"head_pose": 7}, np.random.default_rng(0)) == {"head_pose": 7}  # one that is there stays
    with pytest.raises(ValueError, match="head pose needs the feature 'camera'; the records have: image"):
        Pose()({"image": 0}, np.random.default_rng(0))


def test_baselines_need_no_encoder():
    splits = [{"image": pictures(4, seed), "head_pose": TRUTH} for seed in range(3)]
    found = HeadPose.baselines(*splits, {})
    np.testing.assert_allclose(found["mean"][2], np.nanmean(TRUTH, 0), rtol=1e-5)
    assert found["linear_pixels"].shape == (4, 3)
    assert isinstance(build(HeadPose.metric({})), Angles)
