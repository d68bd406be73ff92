import numpy as np
import pytest

from facerep_jax.data.shares import split_of
from tests.data.datasets.drawn import face, prepare, prepared, records, write

FILES = {  # -> age, female, ethnicity
    "26_1_3_20170104235119083.jpg.chip.jpg": (26, 1, "indian"),
    "100_0_0_20170112213500903.jpg.chip.jpg": (100, 0, "white"),
    "1_0_4_20161219140623097.jpg": (1, 0, "others"),
    "39_1_20170116174525125.jpg.chip.jpg": (39, None, None),
    "55_0_2_20170116232725357jpg.chip.jpg": (55, 0, "asian"),
    "53__0_20170116184028385.jpg": (53, None, None),
}


def test_names_become_labels(tmp_path, capsys):
    for index, name in enumerate(FILES):
        write(tmp_path / "raw" / "UTKFace" / name, face(index)["image"])
    dataset = prepared("utkface", tmp_path / "raw", tmp_path / "data")
    assert "2 files' names lack gender or ethnicity" in capsys.readouterr().out
    assert dataset.splits == {"train": 6}
    names = dataset.meta["attributes"]
    assert names == ["female", "white", "black", "asian", "indian", "others"]
    found = records(dataset)
    for name, (age, female, ethnicity) in FILES.items():
        record = found[f"UTKFace/{name}"]
        assert record["age"] == age
        if female is None:
            assert np.isnan(record["attributes"]).all()
        else:
            expected = [female, *(float(other == ethnicity) for other in names[1:])]
            np.testing.assert_array_equal(record["attributes"], expected)


def test_shares_of_the_images_are_splits(tmp_path):
    names = [f"{20 + i}_0_0_2017011221350090{i}" for i in range(8)]
    for index, name in enumerate(names):
        write(tmp_path / "raw" / "aligned" / f"{name}.jpg.chip.jpg", face(index % 3)["image"])
        write(tmp_path / "raw" / "wild" / f"{name}.jpg", face(index % 3)["image"])
    dataset = prepared("utkface:test=0.4,validation=0.3", tmp_path / "raw", tmp_path / "data")
    for split in dataset.splits:
        of = {record["id"].decode() for record in dataset.source(split)}
        expected = {name for name in names if split_of(name, validation=0.3, test=0.4) == split}
        assert of == {f"{folder}.jpg" for name in expected for folder in (f"aligned/{name}.jpg.chip", f"wild/{name}")}
    assert {*dataset.splits} == {"train", "validation", "test"}


@pytest.mark.parametrize("name", ["face.jpg", "old_1_2_20170104235119083.jpg", "26_1_3.jpg"])
def test_another_name_is_refused(tmp_path, capsys, name):
    write(tmp_path / "raw" / name, face(0)["image"])
    assert prepare("utkface", tmp_path / "raw", tmp_path / "data") == 2
    assert f"{name}: a name AGE_GENDER_ETHNICITY_DATE is expected" in capsys.readouterr().err
