"""Planted and seen red: a pixel not taken off, pitch taken for yaw, Pose_Para's order for ours."""

import numpy as np
import pytest
import scipy.io

from facerep_jax.data.pose import angles_of_3ddfa
from facerep_jax.evaluation.conditions import axes_of
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, write

YAWS = (-0.5, 1.2)


def contents(index):
    depth = np.linspace(-20, 20, 68)
    points = np.column_stack([face(index)["landmarks"] + 1, depth]).T
    return {"pt3d_68": points, "Pose_Para": np.array([[0.1, YAWS[index], 0.2, 3, 4, 5, 6e-4]])}


@pytest.fixture
def raw(tmp_path):
    for index in range(2):
        write(tmp_path / f"image{index:05d}.jpg", face(index)["image"])
        scipy.io.savemat(tmp_path / f"image{index:05d}.mat", contents(index))
    return tmp_path


def test_files_become_records(raw, tmp_path, capsys):
    dataset = prepared("aflw2000", raw, tmp_path / "data")
    assert "2 images in split test, but AFLW2000-3D was published with 2000" in capsys.readouterr().out
    for name, record in records(dataset).items():
        index = int(name[-1])
        points = face(index)["landmarks"]
        np.testing.assert_allclose(record["landmarks"], points, atol=1e-5)
        np.testing.assert_allclose(record["landmarks_3d"][:, :2], points, atol=1e-5)
        np.testing.assert_allclose(record["landmarks_3d"][:, 2], np.linspace(-20, 20, 68), atol=1e-5)
        np.testing.assert_allclose(record["bbox"], [*points.min(0), *points.max(0)], atol=1e-5)
        np.testing.assert_allclose(record["abs_yaw_deg"], abs(YAWS[index]) * 180 / np.pi, rtol=1e-6)
        pose = contents(index)["Pose_Para"][0]
        np.testing.assert_allclose(record["head_pose"], angles_of_3ddfa(pose), atol=1e-4)
        sides(dataset, record, [0, 36, 48], [16, 45, 54])
    assert [axis.name for axis in axes_of(dataset)] == ["yaw", "face size"]
    assert dataset.meta["landmarks"]["normaliser"] == {"kind": "box", "left": 36, "right": 45}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pt3d_68": np.zeros((2, 68))}, "pt3d_68 (3, 68) and Pose_Para of 3 or more are expected, not (2, 68)"),
        ({"Pose_Para": None}, "lacks Pose_Para"),
    ],
)
def test_another_file_is_refused(raw, tmp_path, capsys, change, message):
    held = {key: value for key, value in {**contents(0), **change}.items() if value is not None}
    scipy.io.savemat(raw / "image00000.mat", held)
    assert prepare("aflw2000", raw, tmp_path / "data") == 2
    assert message in capsys.readouterr().err
