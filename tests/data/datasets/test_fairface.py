import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

HEADER = "file,age,gender,race,service_test"
ROWS = {
    "train": (
        ("train/1.jpg", "50-59", "Male", "East Asian", "True"),
        ("train/2.jpg", "3-9", "Female", "Indian", "False"),
    ),
    "val": (("val/1.jpg", "more than 70", "Female", "Latino_Hispanic", "True"),),
}


@pytest.fixture
def raw(tmp_path):
    for part, rows in ROWS.items():
        text(tmp_path / f"fairface_label_{part}.csv", HEADER, *(",".join(row) for row in rows))
        for index, row in enumerate(rows):
            write(tmp_path / row[0], face(index)["image"])
    return tmp_path


def test_rows_become_attributes(raw, tmp_path, capsys):
    dataset = prepared("fairface", raw, tmp_path / "data")
    assert "2 images in split train, but FairFace was published with 86744" in capsys.readouterr().out
    assert dataset.splits == {"train": 2, "validation": 1}
    found, names = records(dataset), dataset.meta["attributes"]
    assert len(names) == 18
    for file, age, gender, race, service in (row for rows in ROWS.values() for row in rows):
        held = {name for name, value in zip(names, found[file.split(".")[0]]["attributes"], strict=True) if value}
        expected = {
            f"age {age}",
            race,
            "female" if gender == "Female" else "",
            "service_test" if service == "True" else "",
        }
        assert held == expected - {""}
    assert (dataset.meta["research_only"], dataset.meta["may_show_images"]) == (False, True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEADER, "train/1.jpg,55,Male,Indian,True"), "line 2, age must be 0-2, 3-9"),
        (("file,age,gender,ethnicity", "train/1.jpg,3-9,Male,Indian"), "but lacks race, service_test"),
    ],
)
def test_another_table_is_refused(raw, tmp_path, capsys, lines, message):
    text(raw / "fairface_label_train.csv", *lines)
    assert prepare("fairface", raw, tmp_path / "data") == 2
    assert message in capsys.readouterr().err
