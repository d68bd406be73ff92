import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, write


def people(folder, names):
    for index, name in enumerate(names):
        write(folder / name, face(index)["image"])


def test_a_folder_per_person_is_for_training(tmp_path):
    people(tmp_path / "raw", ("0001/1.jpg", "0001/2.JPG", "0000045/1.png"))
    (tmp_path / "raw" / "0001" / "notes.txt").write_text("no image")
    dataset = prepared("identity_folders", tmp_path / "raw", tmp_path / "data")
    assert dataset.splits == {"train": 3}
    assert dataset.meta["identities"] == ["0000045", "0001"]
    found = {name: record["identity"] for name, record in records(dataset).items()}
    assert found == {"0000045/1.png": 0, "0001/1.jpg": 1, "0001/2.JPG": 1}
    assert dataset.meta["may_show_images"] is False


def test_folders_of_splits_hold_people(tmp_path):
    people(tmp_path / "raw", ("train/ann/1.jpg", "val/bo/1.jpg", "test/cy/1.jpg", "test/ann/1.jpg"))
    dataset = prepared("identity_folders", tmp_path / "raw", tmp_path / "data")
    assert dataset.splits == {"train": 1, "validation": 1, "test": 2}
    assert dataset.meta["identities"] == ["ann", "bo", "cy"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.jpg", "ann/1.jpg"), "a.jpg lies beside the folders of people"),
        (("ann/deeper/1.jpg",), "no folder with images in"),
    ],
)
def test_another_layout_is_refused(tmp_path, capsys, names, message):
    people(tmp_path / "raw", names)
    assert prepare("identity_folders", tmp_path / "raw", tmp_path / "data") == 2
    assert message in capsys.readouterr().err


def test_a_folder_is_needed_and_no_argument(tmp_path, capsys):
    assert prepare("identity_folders", tmp_path / "nothing", tmp_path / "data") == 2
    assert "no folder" in capsys.readouterr().err
    assert prepare("identity_folders:x=1", tmp_path, tmp_path / "data") == 2
    assert "takes no arguments after the colon, but got 'x=1'" in capsys.readouterr().err
