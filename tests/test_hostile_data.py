"""`facerep prepare` on what strangers may put into a folder: left out by name, or read as what it is; nothing else.

Each kind of file has closer tests beside its reader; docs/guarantees.md lists them. Here the whole command runs in a
process of its own, whose memory is measured, in a folder whose other files must stay as they are.
"""

import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data.library import open_dataset
from facerep_jax.data.transforms import Tokenize, decode_image
from tests.data.laion import FIRST, picture, sample, write_tar

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).resize((120, 80))
COMMAND = (
    "import re, sys; from facerep_jax import cli; status = cli.main(sys.argv[1:])\n"
    # What getrusage says may be the parent's, of before the child began.
    r"print('peak', int(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]) // 1024); sys.exit(status)"
)


def encoded(image=RGB, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(side=30_000) -> bytes:
    """A PNG of 900 million white pixels in less than a megabyte, whole in every respect."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    rows = b"".join(packer.compress(b"\0" + b"\xff" * side) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def turned(orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def many_scans(data: bytes, count=2_000) -> bytes:
    """A progressive JPEG whose last scan is repeated, which decoders redraw the image for each time."""
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + data[-2:]


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("RAN"),)


LEFT_OUT = {
    "bomb.png": (bomb, "more than 50 megapixels"),
    "page.jpg": (lambda: b"<html><script>alert(1)</script></html>", "not an image"),
    "script.png": (lambda: b"#!/bin/sh\ntouch RAN\n", "not an image"),
    "pickle.jpg": (lambda: pickle.dumps(Trap()), "not an image"),
    "postscript.jpg": (lambda: encoded(kind="EPS"), "EPS is not read"),
    "archive.jpg": (lambda: b"PK\3\4" + bytes(100), "not an image"),
    "cut.png": (lambda: encoded()[:-200], "broken|runcated"),
    "empty.jpg": (lambda: b"", "the file is empty"),
    "scans.jpg": (lambda: many_scans(encoded(kind="JPEG", progressive=True)), "Inconsistent progression sequence"),
}
READ = {
    "a_png.jpg": lambda: encoded(),
    "a_jpeg.png": lambda: encoded(kind="JPEG"),
    "turned.jpg": lambda: encoded(kind="JPEG", exif=turned()),
    "turned.png": lambda: encoded(exif=turned()),
    "cmyk.jpg": lambda: encoded(RGB.convert("CMYK"), "JPEG"),
    "palette.png": lambda: encoded(RGB.quantize(16)),
    "alpha.png": lambda: encoded(RGB.convert("RGBA")),
    "deep.png": lambda: encoded(Image.fromarray(np.arange(9600, dtype=np.uint16).reshape(80, 120) * 6)),
}
TURNED = {"turned.jpg", "turned.png"}


def tree(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder, and where each link leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def prepare(home: Path, *words: str) -> tuple[int, str, int]:
    """Runs `facerep prepare` in a folder: (status, what it printed, peak memory in MiB)."""
    words = ("facerep", "prepare", *words, "--data_dir=data")
    run = subprocess.run([sys.executable, "-c", COMMAND, *words], cwd=home, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr, int(run.stdout.rpartition("peak ")[2] or 0)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "mine.txt").write_text("to stay as it is")
    return tmp_path


def write(home: Path, lines) -> None:
    (home / "raw" / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_hostile_images_are_left_out_by_name_and_odd_ones_are_read(home):
    """Planted and seen red: images as large as Pillow takes them; PNG that no EXIF turns."""
    files = {name: content for name, (content, _) in LEFT_OUT.items()} | READ
    for name, content in files.items():
        (home / "raw" / name).write_bytes(content())
    write(home, [{"image": name, "caption": "face " * 20_000} for name in files])
    before = tree(home)
    status, told, peak = prepare(home, "manifest", "--manual_dir=raw", "--max_rejected=0.6")
    assert status == 0, told
    assert peak < 700  # MiB; the bomb alone would take 900
    after = tree(home)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"data"}
    dataset = open_dataset("manifest/faces", home / "data")
    rows = map(json.loads, (dataset.path / "rejected.jsonl").read_text().splitlines())
    rejected = {row["id"]: row["reason"] for row in rows}
    assert rejected.keys() == LEFT_OUT.keys()
    for name, (_, reason) in LEFT_OUT.items():
        assert any(word in rejected[name] for word in reason.split("|")), (name, rejected[name])
    source = dataset.source("train")
    found = {record["id"].decode(): record for record in (source[index] for index in range(len(source)))}
    assert found.keys() == READ.keys()
    for name, record in found.items():
        assert decode_image(record["image"]).shape == ((120, 80, 3) if name in TURNED else (80, 120, 3))
        example = Tokenize()(record, np.random.default_rng(0))
        assert example["truncated"]
        assert example["text"].shape == (77,)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("../mine.png", "must be relative to faces.jsonl and inside its folder"),
        ("/etc/hostname", "must be relative to faces.jsonl and inside its folder"),
        ("a/../../mine.png", "must be relative to faces.jsonl and inside its folder"),
        ("link.png", "is a link to HOME/mine.png, outside of the folder; give --follow_links to read it"),
        ("folder/mine.png", "is a link to HOME/mine.png, outside of the folder; give --follow_links to read it"),
    ],
)
def test_no_path_of_a_manifest_leads_out_of_its_folder(home, image, message):
    (home / "mine.png").write_bytes(encoded())
    (home / "raw" / "link.png").symlink_to("../mine.png")
    (home / "raw" / "folder").symlink_to("..")
    write(home, [{"image": image}])
    before = tree(home)
    status, told, _ = prepare(home, "manifest", "--manual_dir=raw")
    assert status == 2
    assert message.replace("HOME", str(home.resolve())) in told
    assert told.count("\n") == 2  # the error, and the peak
    assert tree(home) == before
    if "link" in message:
        assert prepare(home, "manifest", "--manual_dir=raw", "--follow_links")[0] == 0


def test_hostile_archives_write_and_run_nothing(home):
    """An archive whose samples are a bomb, a pickle, a page, long and cut captions, and paths that lead elsewhere."""
    samples = {
        "000000000": sample(0),
        "000000001": sample(1, image=bomb()),
        "000000002": sample(2, image=pickle.dumps(Trap())),
        "000000003": sample(3, caption="x" * 100_000),
        "000000004": sample(4, caption="a\0b"),
        "../../000000005": sample(5),
        "/tmp/000000006": sample(6),
        "000000007": {**sample(7), "pyd": pickle.dumps(Trap())},
    }
    write_tar(home / "raw" / "00000.tar", samples)
    before = tree(home)
    status, told, peak = prepare(home, "laion_face:no_safety_list", "--manual_dir=raw")
    assert status == 0, told
    assert peak < 700
    after = tree(home)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"data"}
    assert not (home.parent / "000000005.jpg").exists()
    assert not Path("/tmp/000000006.jpg").exists()
    dataset = open_dataset("laion_face/default", home / "data")
    source = dataset.source("train")
    found = {source[index]["id"].decode(): source[index] for index in range(len(source))}
    assert list(found) == [str(FIRST), str(FIRST + 7)]
    assert found[str(FIRST)]["image"] == picture(0)
    left_out = json.loads((dataset.path / "coverage.json").read_text())["left_out"]
    assert left_out == {
        "image: more than 50 megapixels": 1,
        "image: not an image": 1,
        "caption of more than # letters": 1,
        "caption with a NUL byte": 1,
        "a path that leads out of its folder": 1,
        "a path that is not relative": 1,
    }


def test_hostile_lists_run_nothing(home):
    """Detections and lists of ids that are pickles with code."""
    write_tar(home / "raw" / "00000.tar", {"000000000": sample(0)})
    (home / "evil.pth").write_bytes(pickle.dumps({0: Trap()}, 2))
    for argument in ("detections", "exclude_ids"):
        status, told, _ = prepare(home, f"laion_face:no_safety_list,{argument}=evil.pth", "--manual_dir=raw")
        assert status == 2
        assert "evil.pth cannot be read as a file of torch.save" in told
        assert not list(home.rglob("RAN"))
