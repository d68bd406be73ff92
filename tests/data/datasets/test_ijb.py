"""Planted and seen red: the second number of a pair taken for its first, both galleries in one."""

import json

import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.data.alignment import ARCFACE, AlignToTemplate
from facerep_jax.data.transforms import decode
from facerep_jax.evaluation.encoders import crop_of
from tests.data.datasets.drawn import face, prepare, prepared, records, sides, text, write
from tests.data.datasets.test_celeba import points5

TEMPLATES, MEDIA = (1, 1, 11065, 7), (69544, 3720, 3720, 5)
PAIRS = ("1 11065 1", "11065 7 0", "1 7 0")
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"
LISTS = (("1,4,img/1.jpg,1", "1,4,img/2.jpg,2"), ("7,9,img/4.jpg,3",), ("11065,4,frames/3.jpg,5", "7,9,img/4.jpg,3"))


@pytest.fixture(params=["ijbb", "ijbc"])
def raw(request, tmp_path):
    name, faces, points = request.param, [], []
    for index, (template, media) in enumerate(zip(TEMPLATES, MEDIA, strict=True)):
        write(tmp_path / "loose_crop" / f"{index + 1}.jpg", face(index)["image"])
        faces.append(f"{index + 1}.jpg {template} {media}")
        numbers = " ".join(f"{value:.2f}" for value in points5(face(index)["landmarks"]).ravel())
        points.append(f"{index + 1}.jpg {numbers} 0.99{index}")
    text(tmp_path / "meta" / f"{name}_face_tid_mid.txt", *faces)
    text(tmp_path / "meta" / f"{name}_name_5pts_score.txt", *points)
    text(tmp_path / "meta" / f"{name}_template_pair_label.txt", *PAIRS)
    return tmp_path


def test_lists_become_records_and_pairs_of_templates(raw, tmp_path, capsys):
    dataset = prepared("ijb", raw, tmp_path / "data")
    published = 227_630 if (raw / "meta" / "ijbb_face_tid_mid.txt").exists() else 469_375
    assert f"4 images in split test, but IJB-B and IJB-C was published with {published}" in capsys.readouterr().out
    assert crop_of(dataset, None) == "aligned"
    align = AlignToTemplate(size=112, template=ARCFACE, meta=dataset.meta)
    found = records(dataset)
    for record in found.values():  # faces of the template's likeness come near to it
        moved = align(decode(record), np.random.default_rng(0))["landmarks"]
        assert np.linalg.norm(moved - align.template, axis=1).max() < 12
    assert [*found] == ["1", "2", "3", "4"]
    for index, record in enumerate(found.values()):
        assert (record["template"], record["media"]) == (TEMPLATES[index], MEDIA[index])
        np.testing.assert_allclose(record["face_score"], 0.99 + index / 1000, atol=1e-6)
        np.testing.assert_array_equal(record["landmarks"], points5(face(index)["landmarks"]))
        sides(dataset, record, [0, 3], [1, 4])
    table = dataset.table("template_pairs")
    np.testing.assert_array_equal(table["first"], [1, 11065, 1])
    np.testing.assert_array_equal(table["second"], [11065, 7, 7])
    np.testing.assert_array_equal(table["same"], [True, False, False])


@pytest.fixture
def searched(raw):
    """The raw set with NIST's lists of two galleries and of probes, whose names differ between the two sets."""
    name = next(iter((raw / "meta").glob("*_face_tid_mid.txt"))).name[:4]
    names = {"ijbb": ("gallery_S1", "gallery_S2"), "ijbc": ("gallery_G1", "gallery_G2")}[name]
    for each, lines in zip((*names, "probe_mixed"), LISTS, strict=True):
        text(raw / "meta" / f"{name}_1N_{each}.csv", HEADER, *lines)
    return raw


def test_lists_of_galleries_and_probes_become_tables(searched, tmp_path):
    dataset = prepared("ijb", searched, tmp_path / "data")
    gallery, probes = dataset.table("gallery"), dataset.table("probes")
    found = {name: np.asarray(column).tolist() for name, column in gallery.items()}
    assert found == {"template": [1, 7], "person": [4, 9], "gallery": [1, 2]}
    assert {name: np.asarray(column).tolist() for name, column in probes.items()} == {
        "template": [11065, 7],
        "person": [4, 9],
    }


def test_faces_are_searched_in_galleries_from_the_command_line(searched, tmp_path):
    prepared("ijb", searched, tmp_path / "data")
    config = "configs/evaluate/recognition.py:dataset=ijb/default,pairs=search,variant=Nano/8,size=48,"
    config += f"data_dir='{tmp_path / 'data'}'"
    where = ("--checkpoint=random", f"--workdir={tmp_path / 'out'}", "--config.devices=1")
    assert cli.main(["facerep", "evaluate", f"--config={config}", *where]) == 0
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    assert (metrics["mated"]["mean"], metrics["unmated"]["mean"]) == (2, 2)
    assert (metrics["rank_1"]["mean"], metrics["tpir_at_fpir_1e-1"]["mean"]) == (1, None)


@pytest.mark.parametrize(
    ("which", "lines", "message"),
    [
        (1, (HEADER, "8,9,a,1"), "line 2, template 8 has no image"),
        (0, (HEADER, "1,4,a,1", "1,5,a,1"), "line 3, template 1 is of person 4 above, not 5"),
        (2, (HEADER, "x,4,a,1"), "numbers are expected, not 'x' and '4'"),
        (2, (HEADER,), "lists no templates"),
        (0, ("TEMPLATE,SUBJECT_ID", "1,4"), "its header must have TEMPLATE_ID, SUBJECT_ID, but lacks TEMPLATE_ID"),
        (0, None, "no file"),
    ],
)
def test_other_lists_of_galleries_are_refused(searched, tmp_path, capsys, which, lines, message):
    path = sorted(searched.glob("meta/*_1N_*.csv"))[which]
    path.unlink()
    if lines is not None:
        text(path, *lines)
    assert prepare("ijb", searched, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert path.name in err
    assert err.count("\n") == 1


def test_a_changed_pair_is_another_input(raw, tmp_path, capsys):
    prepared("ijb", raw, tmp_path / "data")
    (path,) = raw.glob("meta/*pair_label.txt")
    text(path, *PAIRS[:-1], "1 7 1")
    assert prepare("ijb", raw, tmp_path / "data") == 2
    assert "prepared from another input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("template_pair_label", ("1 8 1",), "template 8 has no image"),
        ("template_pair_label", ("1 7 2",), "the third number must be 0 or 1, not 2"),
        ("template_pair_label", ("1 7",), "two templates and 0 or 1 are expected"),
        ("face_tid_mid", ("1.jpg 1 1", "3.jpg 1 1", "2.jpg 1 1", "4.jpg 7 1"), "does not belong to 2.jpg"),
    ],
)
def test_other_lists_are_refused(raw, tmp_path, capsys, file, lines, message):
    (path,) = raw.glob(f"meta/*_{file}.txt")
    text(path, *lines)
    assert prepare("ijb", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
