import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, write

FILES = {
    "0_MariaCallas_35_f": ("MariaCallas", 35, 1),
    "1_MariaCallas_5_f": ("MariaCallas", 5, 1),
    "10_A_B_101_m": ("A_B", 101, 0),
}


def test_names_become_labels(tmp_path, capsys):
    for index, name in enumerate(FILES):
        write(tmp_path / "raw" / f"{name}.jpg", face(index)["image"])
    dataset = prepared("agedb", tmp_path / "raw", tmp_path / "data")
    assert "3 images in split train, but AgeDB was published with 16488" in capsys.readouterr().out
    for name, record in records(dataset).items():
        person, age, female = FILES[name]
        assert dataset.meta["identities"][record["identity"]] == person
        assert record["age"] == age
        np.testing.assert_array_equal(record["attributes"], [female])


@pytest.mark.parametrize("name", ["MariaCallas_35_f", "0_MariaCallas_35", "0_MariaCallas_f_35"])
def test_another_name_is_refused(tmp_path, capsys, name):
    write(tmp_path / "raw" / f"{name}.jpg", face(0)["image"])
    assert prepare("agedb", tmp_path / "raw", tmp_path / "data") == 2
    assert "a name NUMBER_NAME_AGE_GENDER.jpg is expected" in capsys.readouterr().err
