"""Planted and seen red: -2 kept as a value, the image without an expression left out."""

import itertools

import numpy as np
import pytest

from facerep_jax.data.datasets import affectnet
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, text, write

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
ROWS = {  # -> expression, valence, arousal
    "training": {
        "689/a.jpg": (1, 0.78, -0.07),
        "689/b.bmp": (8, -0.2, 0.4),
        "12/c.jpg": (9, -2, -2),
        "12/d.jpg": (10, -2, -2),
    },
    "validation": {"1/e.jpg": (7, 0, 1), "1/f.jpg": (0, -2, -2)},
}


def row(index, image, labels):
    points = ";".join(f"{value:.4f}" for value in face(index)["landmarks"].ravel())
    return ",".join((image, "4", "5", "38", "40", points, *map(str, labels)))


@pytest.fixture
def raw(tmp_path):
    index = 0
    for name, images in ROWS.items():
        rows = []
        for image, labels in images.items():
            write(tmp_path / "Manually_Annotated_Images" / image, face(index)["image"])
            rows.append(row(index, image, labels))
            index += 1
        text(tmp_path / f"{name}.csv", HEADER, *rows)
    return tmp_path


def test_rows_become_records(raw, tmp_path, capsys):
    dataset = prepared("affectnet", raw, tmp_path / "data")
    out = capsys.readouterr().out
    assert "2 images left out that are uncertain or show no face" in out
    assert "2 images in split train, but AffectNet was published with 320739" in out
    assert dataset.splits == {"train": 2, "test": 2}
    found = records(dataset)
    for index, name in (
        (0, "training/689/a.jpg"),
        (1, "training/689/b.bmp"),
        (4, "validation/1/e.jpg"),
        (5, "validation/1/f.jpg"),
    ):
        record, (part, _, image) = found[name], name.partition("/")
        expression, valence, arousal = ROWS[part][image]
        assert record["expression"] == (expression if expression < 8 else -1)
        assert dataset.meta["expressions"][1] == "happiness"
        for key, value in (("valence", valence), ("arousal", arousal)):
            np.testing.assert_allclose(record[key], np.nan if value == -2 else value, atol=1e-6)
        np.testing.assert_allclose(record["landmarks"], face(index)["landmarks"], atol=1e-3)
        np.testing.assert_array_equal(record["bbox"], [3.5, 4.5, 41.5, 44.5])
        sides(dataset, record, [36, 48], [45, 54])


def test_clean_leaves_out_test_images_whose_labels_contradict_each_other(raw, tmp_path, capsys):
    dataset = prepared("affectnet:clean", raw, tmp_path / "data")
    assert dataset.splits == {"train": 2}  # contempt at a valence of 0, neutral without valence
    said = "2 test images left out whose expression, valence and arousal contradict each other"
    assert said in capsys.readouterr().out


def emonets(expression, valence, arousal):
    """What emonet's data set leaves out, in its own order."""
    intensity = np.sqrt(valence**2 + arousal**2)
    return [
        intensity >= 0.2,
        valence <= 0 or intensity <= 0.2,
        valence >= 0 or intensity <= 0.2,
        arousal <= 0 or intensity <= 0.2,
        not (arousal >= 0 and valence <= 0) or intensity <= 0.2,
        valence >= 0 or intensity <= 0.3,
        arousal <= 0 or intensity <= 0.2,
        valence >= 0 or intensity <= 0.2,
    ][expression]


def test_what_goes_together_is_what_emonet_keeps():
    for valence, arousal in itertools.product(np.linspace(-1, 1, 21).round(2).tolist(), repeat=2):
        for number, name in enumerate(affectnet.EXPRESSIONS):
            assert affectnet.agreed(name, valence, arousal) != emonets(number, valence, arousal), (name, valence)


@pytest.mark.parametrize(
    ("labels", "message"),
    [((11, 0, 0), "expression must be 0 to 10, not '11'"), ((1, 3, 0), "must be between -1 and 1, not 3")],
)
def test_other_labels_are_refused(raw, tmp_path, capsys, labels, message):
    text(raw / "training.csv", HEADER, row(0, "689/a.jpg", labels))
    assert prepare("affectnet", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
