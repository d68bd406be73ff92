"""Planted and seen red: indices counted from 0."""

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, write

NAMES = [f"Attribute_{i}" for i in range(40)]
IMAGES = ["Ann_A\\Ann_A_0001.jpg", "Ann_A\\Ann_A_0002.jpg", "Bo_B\\Bo_B_0001.jpg", "Cy_C\\Cy_C_0001.jpg"]
LABELS = np.random.default_rng(0).integers(0, 2, (len(IMAGES), 40)).astype(float)
SPLITS = {"train": (1, 2), "test": (3, 4)}


@pytest.fixture
def raw(tmp_path):
    """Files of MATLAB 7.3 as its documents say: texts are arrays of UTF-16, cells references to them."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "lfw_att_40.mat", "w", userblock_size=512) as file:
        for key, texts in (("AttrName", NAMES), ("name", IMAGES)):
            cells = file.create_dataset(key, (1, len(texts)), h5py.ref_dtype)
            for i, text in enumerate(texts):
                codes = np.frombuffer(text.encode("utf-16-le"), np.uint16)
                cells[0, i] = file.create_dataset(f"#refs#/{key}{i}", data=codes[:, None]).ref
        file["label"] = LABELS.T
    with h5py.File(tmp_path / "indices_train_test.mat", "w", userblock_size=512) as file:
        for split, numbers in SPLITS.items():
            file[f"indices_img_{split}"] = np.array([numbers], float)
    for index, image in enumerate(IMAGES):
        write(tmp_path / "lfw" / image.replace("\\", "/"), face(index)["image"])
    return tmp_path


def test_files_become_records(raw, tmp_path, capsys):
    dataset = prepared("lfwa", raw, tmp_path / "data")
    assert "2 images in split train, but LFWA was published with 6263" in capsys.readouterr().out
    assert set(records(dataset, "train")) == {"Ann_A_0001", "Ann_A_0002"}
    assert dataset.meta["attributes"] == NAMES
    found = records(dataset)
    for index, name in enumerate(("Ann_A_0001", "Ann_A_0002", "Bo_B_0001", "Cy_C_0001")):
        np.testing.assert_array_equal(found[name]["attributes"], LABELS[index])


def test_another_file_is_refused(raw, tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    with h5py.File(raw / "indices_train_test.mat", "r+") as file:
        del file["indices_img_test"]
        file["indices_img_test"] = np.array([[5.0]])
    assert prepare("lfwa", raw, tmp_path / "data") == 2
    assert "indices_train_test.mat: image 5 of 4" in capsys.readouterr().err
    with h5py.File(raw / "lfw_att_40.mat", "r+") as file:
        del file["AttrName"]
    assert prepare("lfwa", raw, tmp_path / "data") == 2
    assert "lfw_att_40.mat lacks AttrName" in capsys.readouterr().err
