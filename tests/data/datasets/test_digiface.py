from tests.data.datasets.drawn import face, prepare, prepared, records, write

IMAGES = (
    "subjects_0-1999_72_imgs/0/0.png",
    "subjects_0-1999_72_imgs/0/1.png",
    "subjects_100000-133332_5_imgs/100000/0.png",
)


def test_archives_become_records(tmp_path, capsys):
    for index, image in enumerate(IMAGES):
        write(tmp_path / "raw" / image, face(index)["image"])
    dataset = prepared("digiface", tmp_path / "raw", tmp_path / "data")
    assert "3 images in split train, but DigiFace-1M was published with 1219995" in capsys.readouterr().out
    found = records(dataset)
    assert [*found] == ["0/0", "0/1", "100000/0"]
    assert [dataset.meta["identities"][record["identity"]] for record in found.values()] == ["0", "0", "100000"]


def test_another_layout_is_refused(tmp_path, capsys):
    write(tmp_path / "raw" / "0" / "0.png", face(0)["image"])
    assert prepare("digiface", tmp_path / "raw", tmp_path / "data") == 2
    assert "no subjects_*_imgs" in capsys.readouterr().err
