"""Planted and seen red: points of the outline taken for those fixed to the face."""

import numpy as np
import pytest
import scipy.io

from facerep_jax.data.pose import angles_of_3ddfa
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, write

FOLDERS = ("AFW", "AFW_Flip", "HELEN", "IBUG", "LFPW")


@pytest.fixture
def raw(tmp_path):
    for index, folder in enumerate(FOLDERS):
        name = f"{folder}_1_{index}"
        write(tmp_path / folder / f"{name}.jpg", face(index)["image"])
        scipy.io.savemat(
            tmp_path / folder / f"{name}.mat", {"Pose_Para": np.array([[0.1, -0.1 * index, 0.2, 0, 0, 0, 1]])}
        )
        points = face(index)["landmarks"] + 1
        path = tmp_path / "landmarks" / folder / f"{name}_pts.mat"
        path.parent.mkdir(parents=True)
        scipy.io.savemat(path, {"pts_3d": points, "pts_2d": points + 0.5})
    return tmp_path


@pytest.mark.parametrize(("arg", "shift"), [("", 0), (":points=2d", 0.5)])
def test_files_become_records(raw, tmp_path, capsys, arg, shift):
    dataset = prepared(f"w300lp{arg}", raw, tmp_path / "data")
    assert "4 images in split train, but 300W-LP was published with 61225" in capsys.readouterr().out
    found = records(dataset)
    assert [*found] == ["AFW/AFW_1_0", "HELEN/HELEN_1_2", "IBUG/IBUG_1_3", "LFPW/LFPW_1_4"]
    for name, record in found.items():
        index = int(name[-1])
        np.testing.assert_allclose(record["landmarks"], face(index)["landmarks"] + shift, atol=1e-5)
        np.testing.assert_allclose(record["abs_yaw_deg"], index * 18 / np.pi, rtol=1e-6)
        pose = np.array([0.1, -0.1 * index, 0.2])
        np.testing.assert_allclose(record["head_pose"], angles_of_3ddfa(pose), atol=1e-4)
        assert ("landmarks_3d" in record) == (not arg)  # those of the outline are not of the face
        if not arg:
            np.testing.assert_array_equal(record["landmarks_3d"][:, :2], record["landmarks"])
            assert np.isnan(record["landmarks_3d"][:, 2]).all()
        sides(dataset, record, [0, 36, 48], [16, 45, 54])


def test_another_layout_is_refused(raw, tmp_path, capsys):
    assert prepare("w300lp:points=both", raw, tmp_path / "data") == 2
    assert "points must be 2d or 3d, not 'both'" in capsys.readouterr().err
    (raw / "landmarks" / "IBUG" / "IBUG_1_3_pts.mat").unlink()
    assert prepare("w300lp", raw, tmp_path / "data") == 2
    assert "IBUG_1_3_pts.mat" in capsys.readouterr().err
