"""Planted and seen red: images not transposed, covered points taken for visible ones."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from facerep_jax import cli
from tests.data.datasets.drawn import face, pixels, prepare, prepared, records, sides

COUNTS = {"train": ("Tr", 3), "test": ("T", 2)}
BOX = (5, 7, 30, 33)  # x, y, width, height; the first pixel is 1


def points29(ibug):
    """In LFPW's order: brows, eyes, nose, mouth, chin."""
    eyes = ibug[36:42], ibug[42:48]
    middles = [point for eye in eyes for point in (eye[1:3].mean(0), eye[4:6].mean(0))]
    brows = [ibug[17], ibug[26], ibug[21], ibug[22], ibug[19], ibug[19] + [0, 1], ibug[24], ibug[24] + [0, 1]]
    corners = [ibug[36], ibug[45], ibug[39], ibug[42]]
    nose = [ibug[31], ibug[35], ibug[30], ibug[33]]
    mouth = [ibug[48], ibug[54], ibug[51], ibug[62], ibug[66], ibug[57]]
    return np.stack([*brows, *corners, *middles, *(eye.mean(0) for eye in eyes), *nose, *mouth, ibug[8]])


def covered(index):
    return (np.arange(29) + index) % 3 == 0


@pytest.fixture
def raw(tmp_path):
    """Files of MATLAB 7.3 as its documents say: HDF5 of which every array is transposed, and cells are references."""
    h5py = pytest.importorskip("h5py")
    index = 0
    for split, (end, count) in COUNTS.items():
        with h5py.File(tmp_path / f"COFW_{split}_color.mat", "w", userblock_size=512) as file:
            cells = file.create_dataset(f"Is{end}", (1, count), h5py.ref_dtype)
            phis = []
            for place in range(count):
                image = face(index)["image"][: 40 + index]  # height differs from width
                image = image[..., 0] if index == 1 else image  # some are grey
                cells[0, place] = file.create_dataset(f"#refs#/{place}", data=image.T).ref
                phis.append(np.concatenate([(points29(face(index)["landmarks"]) + 1).T.ravel(), covered(index)]))
                index += 1
            file[f"phis{end}"] = np.array(phis).T
            file[f"bboxes{end}"] = np.tile(np.array(BOX, float)[:, None], (1, count))
    return tmp_path


def test_cells_become_records(raw, tmp_path, capsys):
    dataset = prepared("cofw", raw, tmp_path / "data")
    assert "3 images in split train, but COFW was published with 1345" in capsys.readouterr().out
    found = records(dataset)
    names = ["train/0000", "train/0001", "train/0002", "test/0000", "test/0001"]
    assert set(found) == set(names)
    for index, record in enumerate(found[name] for name in names):
        image = face(index)["image"][: 40 + index]
        expected = np.repeat(image[..., :1], 3, -1) if index == 1 else image
        np.testing.assert_array_equal(pixels(record["image"]), expected)
        np.testing.assert_allclose(record["landmarks"], points29(face(index)["landmarks"]), atol=1e-5)
        np.testing.assert_array_equal(record["visible"], ~covered(index))
        np.testing.assert_array_equal(record["bbox"], [3.5, 5.5, 33.5, 38.5])
        sides(dataset, record, [0, 2, 4, 5, 8, 10, 12, 16, 18, 22], [1, 3, 6, 7, 9, 11, 14, 17, 19, 23])


def test_its_landmarks_are_learnt_and_scored_by_the_outer_corners_of_the_eyes(raw, tmp_path):
    dataset = prepared("cofw", raw, tmp_path / "data")
    config = f"configs/evaluate/landmarks.py:dataset=cofw/default,data_dir='{tmp_path / 'data'}',protocol=ridge,"
    config += "variant=Nano/8,size=48"
    flags = ["--config.seeds=(0,)", "--config.devices=1", "--config.baselines=('mean_shape',)"]
    where = ("--checkpoint=random", f"--workdir={tmp_path / 'out'}")
    assert cli.main(["facerep", "evaluate", f"--config={config}", *where, *flags]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["headline"] == "nme_inter_ocular"
    assert {"failure_rate_at_0.10", "nme_box", "nme_diagonal"} <= {*results["metrics"]}
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    errors = []
    for row in (row for row in rows if row["encoder"] == "encoder"):
        record = records(dataset)[row["id"]]
        x0, y0, x1, y1 = record["bbox"]
        side = 1.5 * np.array([x1 - x0, y1 - y0])  # a quarter of the box more on each side
        corner = np.array([x0 + x1, y0 + y1]) / 2 - side / 2
        found = (np.reshape(row["prediction"], (29, 2)) + 0.5) * side / 48 + corner
        truth = record["landmarks"]
        errors.append(np.linalg.norm(found - truth, axis=1).mean() / np.linalg.norm(truth[8] - truth[9]))
    assert len(errors) == 2
    assert np.mean(errors) == pytest.approx(results["metrics"]["nme_inter_ocular"]["mean"], rel=1e-3)


def test_other_contents_are_refused(raw, tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    with h5py.File(raw / "COFW_test_color.mat", "r+") as file:
        del file["phisT"]
    assert prepare("cofw", raw, tmp_path / "data") == 2
    assert "COFW_test_color.mat lacks phisT" in capsys.readouterr().err
    (raw / "COFW_train_color.mat").write_bytes(b"nothing")
    assert prepare("cofw", raw, tmp_path / "data") == 2
    assert "is no .mat file of version 7.3" in capsys.readouterr().err


def test_without_h5py_one_line_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # importing it now fails
    (tmp_path / "COFW_train_color.mat").write_bytes(b"")
    assert prepare("cofw", tmp_path, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert "pip install 'facerep_jax[matlab]'" in err
    assert err.count("\n") == 1
