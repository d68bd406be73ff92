import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

LABELS = {"train_00001": 5, "train_00002": 1, "test_0001": 7, "test_0002": 4}
NAMES = {5: "sadness", 1: "surprise", 7: "neutral", 4: "happiness"}


@pytest.fixture
def raw(tmp_path):
    for index, name in enumerate(LABELS):
        write(tmp_path / "Image" / "aligned" / f"{name}_aligned.jpg", face(index)["image"])
        write(tmp_path / "Image" / "original" / f"{name}.jpg", face(index, 64)["image"])
    text(tmp_path / "EmoLabel" / "list_patition_label.txt", *(f"{name}.jpg {label}" for name, label in LABELS.items()))
    return tmp_path


@pytest.mark.parametrize(("arg", "path"), [("", "aligned/{}_aligned.jpg"), (":images=original", "original/{}.jpg")])
def test_lines_become_records(raw, tmp_path, capsys, arg, path):
    dataset = prepared(f"rafdb{arg}", raw, tmp_path / "data")
    assert "2 images in split train, but RAF-DB was published with 12271" in capsys.readouterr().out
    assert dataset.splits == {"train": 2, "test": 2}
    for name, record in records(dataset).items():
        assert dataset.meta["expressions"][record["expression"]] == NAMES[LABELS[name]]
        assert record["image"] == (raw / "Image" / path.format(name)).read_bytes()


@pytest.mark.parametrize("line", ["train_00001.jpg 0", "train_00001.jpg 8", "valid_00001.jpg 1"])
def test_another_list_is_refused(raw, tmp_path, capsys, line):
    text(raw / "EmoLabel" / "list_patition_label.txt", line)
    assert prepare("rafdb", raw, tmp_path / "data") == 2
    assert "train_ or test_NUMBER.jpg and 1 to 7 are expected" in capsys.readouterr().err
