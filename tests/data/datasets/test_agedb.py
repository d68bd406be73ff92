import numpy as np
import pytest

from facerep_jax.data.shares import split_of
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


def test_shares_of_the_people_are_splits(tmp_path, capsys):
    people = [f"P{i}" for i in range(12)]
    for number, person in enumerate(people * 2):
        write(tmp_path / "raw" / f"{number}_{person}_{20 + number}_f.jpg", face(number % 3)["image"])
    dataset = prepared("agedb:test=0.3,validation=0.3", tmp_path / "raw", tmp_path / "data")
    assert "published with" not in capsys.readouterr().out
    of = {
        split: {dataset.meta["identities"][record["identity"]] for record in dataset.source(split)}
        for split in dataset.splits
    }
    for person in people:
        split = split_of(person, validation=0.3, test=0.3)
        assert [each for each in of if person in of[each]] == [split]
    assert {*of} == {"train", "validation", "test"}
    assert prepare("agedb:test=1.2", tmp_path / "raw", tmp_path / "data", "--name=other") == 2
    assert "validation and test are shares from 0 on, below 1 together, not 0 and 1.2" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["MariaCallas_35_f", "0_MariaCallas_35", "0_MariaCallas_f_35"])
def test_another_name_is_refused(tmp_path, capsys, name):
    write(tmp_path / "raw" / f"{name}.jpg", face(0)["image"])
    assert prepare("agedb", tmp_path / "raw", tmp_path / "data") == 2
    assert "a name NUMBER_NAME_AGE_GENDER.jpg is expected" in capsys.readouterr().err
