"""From the command line to page and sheet: healthy sets say nothing, each planted fault is told of and shown."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.data import survey
from facerep_jax.reporting.annotated import BOX, LEFT, RIGHT
from tests.test_prepare import write


@pytest.fixture
def inspect(tmp_path, capsys):
    """Runs the command; gives its status, warnings, last line, and the page."""

    def run(dataset, *flags, data_dir=tmp_path / "data"):
        words = ["facerep", "inspect", dataset, f"--data_dir={data_dir}", f"--out={tmp_path / 'out'}", *flags]
        status = cli.main(words)
        out, err = capsys.readouterr()
        page = tmp_path / "out" / "inspect.html"
        warnings = re.findall("^warning: (.*)$", out, re.MULTILINE)
        return status, warnings, (out + err).splitlines()[-1], page.read_text() if page.exists() else ""

    return run


@pytest.fixture
def sheet(tmp_path):
    return tmp_path / "out" / "sheet.png"


def test_a_healthy_set_says_nothing_and_is_shown(inspect, sheet):
    status, warnings, line, page = inspect("tests.spoilt_faces:fault=none", "--count=4")
    assert (status, warnings) == (0, [])
    assert "all 120 were read; no warning; " in line
    assert page.count("data:image/webp;base64,") == 4
    assert not re.search(r"http|url\((?!#)|@import|//", re.sub(r'src="data:[^"]*"', "", page))
    for words in (
        "Nothing stands out",
        "left_brow",
        "smiling",
        "AU12",
        "happiness",
        "Images of each",
        "kB of the file",
    ):
        assert words in page
    with Image.open(sheet) as picture:
        assert picture.width > 1_000
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert all((pixels == np.array([colour])).all(1).any() for colour in (BOX, LEFT, RIGHT))


def test_two_faces_in_one_image_are_no_fault(inspect):
    assert inspect("tests.spoilt_faces:fault=several_faces", "--count=1")[1] == []


FAULTS = {
    "sides": (r"69 of 69 faces have a bbox that fits their landmarks better as \[x, y, width, height\]",),
    "relative": ("120 of 120 faces: bbox seems to be relative to the image's size",),
    "outside": ("12 of 120 faces have landmarks outside of their image",),
    "persons_own": ("in 120 of 120 faces the eye that is named left lies right of the other", "'right_eye' under the"),
    "crossed": ("in 14 of 120 faces left and right eye are in another order than the corners of the mouth",),
    "shifted": ("class 'background' has no pixel", r"'right_eye' under the left eye .* shifted by \+1"),
    "masks_mirrored": ("masks: 'left_brow' lies right of 'right_brow'", "'right_eye' under the left eye"),
    "hairless": ("class 'hair' has no pixel in any of 120 masks",),
    "unnamed": ("masks hold 12, but only 0 to 10 have names", "class 'hair'"),
    "constant": (
        r"never changes: attribute 'glasses' \(1 in 120\)",
        "never changes: action unit 'AU1'",
        "expression never changes: it is 'sadness' in 120",
    ),
    "signed": ("below 0, down to -1: attribute 'smiling'",),
    "one_caption": ("120 of 120 captions are the same: 'a face'",),
    "twice": ("2 of 120 images stand there twice, byte for byte; the first is pretrain-0-00000005",),
    "in_two_splits": ("3 of 120 images stand in another split too, byte for byte",),
    "without_flip": (r"landmarks.flip does not mirror .* point 0 is near to 16, not to 0",),
    "neighbours": (r"landmarks.flip does not mirror .* at 4 of 68 points \(37, 38, 43, 44\)",),
    "mask_stays": ("mask_flip turns 'left_brow' into 'left_brow', not into 'right_brow'",),
    "attributes_stay": ("attribute_flip turns 'facing_left' into 'facing_left'",),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_told_of_and_no_other(inspect, fault):
    status, told, _, page = inspect(f"tests.spoilt_faces:fault={fault}", "--count=1")
    assert status == 0
    warnings = [warning for warning in told if fault != "sides" or ": bbox " not in warning]  # impossible ones
    assert len(warnings) == len(FAULTS[fault]), warnings
    for warning, words in zip(warnings, FAULTS[fault], strict=True):
        assert re.search(words, warning), warning
    named = {place for warning in told for place in survey.places_in(warning)}
    assert page.count("data:image/webp;base64,") == 1 + len(named)
    assert ("Faces that warnings name" in page) == bool(named)


def test_where_the_terms_forbid_it_no_picture_is_written(inspect, sheet, tmp_path):
    inspect("tests.spoilt_faces:fault=none", "--count=1")
    assert sheet.exists()
    status, _, line, page = inspect("tests.spoilt_faces:fault=secret")
    assert status == 0
    assert "no picture, since the set's terms forbid it" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["inspect.html"]  # nor one of another set left
    assert "data:image" not in page
    assert "The terms of this set forbid to show its images, so none is drawn. Its agreement: signed by hand." in page
    assert "left_brow" in page


def test_a_prepared_set_is_found_by_its_family_and_split(inspect, tmp_path):
    raw = write(tmp_path / "raw", caption="a face")
    for name in ("one", "two"):
        words = ("prepare", "manifest", f"--manual_dir={raw}", f"--name={name}", f"--data_dir={tmp_path / 'data'}")
        assert cli.main(["facerep", *words]) == 0
        if name == "one":
            assert "manifest/one: all 4 were read" in inspect("manifest")[2]
    assert inspect("manifest")[::2] == (2, "facerep inspect: which of manifest/one, manifest/two?")
    _, _, line, page = inspect("manifest/two", "--split=test")
    assert "manifest/two: all 1 of test were read" in line
    assert re.search(r'<th scope="row">records</th><td>1', page)


def test_what_is_missing_is_counted_as_prepare_counted_it(inspect, tmp_path):
    raw = write(tmp_path / "raw")
    lines = [json.loads(line) for line in (raw / "faces.jsonl").read_text().splitlines()]
    lines[0]["caption"] = "x" * 1_000 + " <b>&"
    lines[1] |= {"identity": "ada", "bbox": [0, 0, 7, 7], "attributes": {"smiling": 1}}
    (raw / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("prepare", "manifest", f"--manual_dir={raw}", "--name=some", f"--data_dir={tmp_path / 'data'}")
    assert cli.main(["facerep", *words]) == 0
    status, warnings, _, page = inspect("manifest/some")
    assert (status, warnings) == (0, [])
    row = re.search(r'<th scope="row">caption</th>(.*?)</tr>', page)[1]
    assert re.findall(r"<td>(\d+)", row) == ["1", "0"]
    assert "<b>" not in page
    assert "ada" in page


def test_a_large_set_is_read_in_part(inspect, monkeypatch):
    monkeypatch.setattr(survey, "DRAWN", 40)
    _, _, line, page = inspect("tests.spoilt_faces:fault=none", "--count=1")
    assert "40 of 120 were read, drawn at random; --all reads all" in line
    assert "shares are of those that were read" in page
    assert "all 120 were read" in inspect("tests.spoilt_faces:fault=none", "--count=1", "--all")[2]


def test_equal_seeds_show_equal_faces(inspect):
    pages = [inspect("tests.spoilt_faces:fault=none", "--count=2", f"--seed={seed}")[3] for seed in (3, 3, 4)]
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "one data set is expected, not none"),
        (("a/b", "c/d"), "one data set is expected, not a/b c/d"),
        (("lapa",), "data set 'lapa/default' is not prepared in .*; run: facerep prepare lapa .*--manual_dir FOLDER"),
        (("nothing",), "data set 'nothing' is not prepared"),
        (("tests.spoilt_faces:fault=none", "--split=validation"), "has no records in split 'validation'"),
        (("tests.spoilt_faces:fault=none", "--count=0"), "count"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, capsys, words, message):
    flags = [f"--data_dir={tmp_path / 'data'}", f"--out={tmp_path / 'out'}"]
    assert cli.main(["facerep", "inspect", *words, *flags]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(f"facerep inspect: .*{message}.*\n", err), err
    assert not (tmp_path / "out").exists()


def test_real_faces_say_nothing(inspect, real_faces, tmp_path):
    lines = (real_faces / "faces.jsonl").read_text().splitlines()[::6]
    raw = tmp_path / "raw"
    for line in map(json.loads, lines):
        for key in {"image", "mask", "vertices"} & line.keys():
            (raw / line[key]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_faces / line[key], raw / line[key])
    (raw / "faces.jsonl").write_text("\n".join(lines))
    shutil.copy(real_faces / "faces.meta.json", raw)
    words = ("prepare", "manifest", f"--manual_dir={raw}", "--name=real", f"--data_dir={tmp_path / 'data'}")
    assert cli.main(["facerep", *words]) == 0
    assert inspect("manifest/real", "--count=2")[:2] == (0, [])
