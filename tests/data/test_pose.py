"""Reference: SciPy's rotations, the generator's own geometry, and 3DDFA's projection of a face by its definition.

Planted and seen red: yaw's or roll's sign turned around, pitch taken for yaw, the order of our own angles.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from facerep_jax import face_world
from facerep_jax.data.pose import angles_of, angles_of_3ddfa, rotations
from facerep_jax.face_world.geometry import rotation

# A face of 3DDFA's model in its axes, x right, y up, z towards the camera: eyes, tip of the nose, corners of the mouth.
FACE = np.array([[-30.0, 20, 0], [30, 20, 0], [0, 0, 40], [-20, -30, 5], [20, -30, 5]])


def drawn(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform([-90, -60, -170], [90, 60, 170], (n, 3))


def test_rotations_are_those_of_the_generator_and_of_scipy():
    for angles, found in zip(drawn(), rotations(drawn()), strict=True):
        np.testing.assert_allclose(found, rotation(*np.radians(angles)), atol=1e-6)
        yaw, pitch, roll = angles
        turns = Rotation.from_euler("yxz", [-yaw, pitch, roll], degrees=True)  # about fixed axes, in this order
        np.testing.assert_allclose(found, turns.as_matrix(), atol=1e-12)


def test_a_camera_gives_its_angles_back_whatever_its_scale():
    for index in range(6):
        scene = face_world.sample_scene(0, index)
        found = angles_of(face_world.camera(scene, 64))
        np.testing.assert_allclose(found, np.degrees([scene.yaw, scene.pitch, scene.roll]), atol=1e-3)
    for angles, turn in zip(drawn(), rotations(drawn()), strict=True):
        np.testing.assert_allclose(angles_of(np.c_[31.0 * turn, [1, 2, 3]]), angles, atol=1e-6)


def test_what_is_no_camera_has_no_angles():
    for linear in (np.full((3, 3), np.nan), np.zeros((3, 3)), np.diag([1.0, 1, -1])):
        assert np.isnan(angles_of(np.c_[linear, np.zeros(3)])).all()


def projected(pitch, yaw, roll, height=450):
    """The face in the image of 3DDFA, by its definition: f R V + t, with y counted from below."""
    x, y, z = Rotation.from_rotvec(np.diag([-pitch, -yaw, -roll])).as_matrix()  # each a transposed rotation
    points = 2 * FACE @ (x @ y @ z).T + (200, 240, 0)
    points[:, 1] = height + 1 - points[:, 1]
    return points


def test_the_pose_of_3ddfa_turns_a_face_as_its_projection_does():
    head = FACE * (1, -1, -1)  # in our axes
    for pose in ((0.1, 0.5, 0.2), (-0.4, -1.2, 0.6), (0.3, 1.4, -0.8), (0.0, 0.0, 0.0)):
        turned = 2 * head @ rotations(angles_of_3ddfa(np.array([*pose, 200, 240, 0, 2]))).T
        seen = projected(*pose)[:, :2]
        np.testing.assert_allclose(turned[:, :2] - turned[0, :2], seen - seen[0], atol=1e-9)


def test_angles_of_3ddfa_by_hand():
    def nose(*pose):
        eyes, tip = projected(*pose)[:2, :2].mean(0), projected(*pose)[2, :2]
        return tip - eyes - (projected(0, 0, 0)[2, :2] - projected(0, 0, 0)[:2, :2].mean(0))

    for pose, angles in (((0, 0.5, 0), (-0.5, 0, 0)), ((0.5, 0, 0), (0, -0.5, 0)), ((0, 0, 0.5), (0, 0, 0.5))):
        np.testing.assert_allclose(angles_of_3ddfa(np.array(pose)), np.degrees(angles), atol=1e-12)
    assert nose(0, 0.5, 0)[0] < 0  # a positive yaw of 3DDFA's turns the nose to the left of the image
    assert nose(0.5, 0, 0)[1] < 0  # a positive pitch lifts it
    left, right = projected(0, 0, 0.5)[:2]
    assert right[1] > left[1]  # a positive roll turns the face clockwise
    frozen = [-29.16705813, -0.17601767, 10.04080893]
    np.testing.assert_allclose(angles_of_3ddfa(np.array([0.1, 0.5, 0.2])), frozen, atol=1e-8)
