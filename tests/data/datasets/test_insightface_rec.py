"""RecordIO written from its description: whole records, one that holds the magic number, the records of people.

Planted and seen red: the first record taken for an image, the magic number not put back between parts.
"""

import struct

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, write

MAGIC = 0xCED7230A
LABELS = (0, 0, 1, 7, -1)


def header(label, ids=(0, 0)) -> bytes:
    if isinstance(label, tuple):
        return struct.pack("<IfQQ", len(label), 0.0, *ids) + struct.pack(f"<{len(label)}f", *label)
    return struct.pack("<IfQQ", 0, label, *ids)


def written(data: bytes) -> bytes:
    """A record: split where the magic number stands at a multiple of four, and it is left out there."""
    marks = [i for i in range(0, len(data) - 3, 4) if data[i : i + 4] == struct.pack("<I", MAGIC)]
    edges = [0, *(edge for mark in marks for edge in (mark, mark + 4)), len(data)]
    parts = [data[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    out = b""
    for kind, part in zip(kinds, parts, strict=True):
        out += struct.pack("<II", MAGIC, kind << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return out


@pytest.fixture
def images(tmp_path):
    made = [write(tmp_path / "images" / f"{i}.png", face(i)["image"]).read_bytes() for i in range(len(LABELS))]
    # Behind the end of a PNG, where readers do not look: at a multiple of four of the record, after its header.
    pad = b"\0" * (-len(made[2]) % 4)
    made[2] += pad + struct.pack("<I", MAGIC) + b"tail"
    return made


@pytest.fixture
def raw(tmp_path, images):
    """Record 0 says that images end before key 6 and people before key 9, whose records list their images."""
    all_records = {0: header((6.0, 9.0))}
    all_records |= {
        key: header(float(label)) + image for key, label, image in zip(range(1, 6), LABELS, images, strict=True)
    }
    all_records |= {6: header((1.0, 3.0)), 7: header((3.0, 4.0)), 8: header((4.0, 5.0))}
    data, index = b"", []
    for key, value in all_records.items():
        index.append(f"{key}\t{len(data)}\n")
        data += written(value)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.rec").write_bytes(data)
    (tmp_path / "raw" / "train.idx").write_text("".join(index))
    (tmp_path / "raw" / "property").write_text("3,112,112")
    return tmp_path / "raw"


def test_records_become_records(raw, images, tmp_path):
    assert struct.pack("<I", MAGIC) in images[2]
    dataset = prepared("insightface_rec", raw, tmp_path / "data")
    found = records(dataset)
    assert dataset.splits == {"train": 5}
    assert [*found] == [f"{key:08d}" for key in range(1, 6)]
    assert [record["image"] for record in found.values()] == images
    assert dataset.meta["identities"] == ["0", "1", "7"]
    assert [record["identity"] for record in found.values()] == [0, 0, 1, 2, -1]


def test_a_file_without_records_of_people_has_images_alone(tmp_path, images):
    (tmp_path / "raw").mkdir()
    data, index = b"", ""
    for key, (label, image) in enumerate(zip(LABELS, images, strict=True)):
        index += f"{key}\t{len(data)}\n"
        data += written(header((float(label), 0.5)) + image if key else header(float(label)) + image)
    (tmp_path / "raw" / "train.rec").write_bytes(data)
    (tmp_path / "raw" / "train.idx").write_text(index)
    found = records(prepared("insightface_rec", tmp_path / "raw", tmp_path / "data"))
    assert [record["image"] for record in found.values()] == images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: (raw / "train.idx").write_text("0\t0\n1\t4\n"), "no record begins at byte 4"),
        (lambda raw: (raw / "train.idx").write_text("a\tb\n"), "a key and a number of bytes are expected, not 'a b'"),
        (lambda raw: (raw / "train.rec").write_bytes((raw / "train.rec").read_bytes()[:200]), "is cut off"),
        (lambda raw: (raw / "train.idx").unlink(), "no train.idx"),
    ],
)
def test_damaged_files_are_refused(raw, tmp_path, capsys, change, message):
    change(raw)
    assert prepare("insightface_rec", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_changed_image_is_another_input(raw, tmp_path, capsys):
    prepared("insightface_rec", raw, tmp_path / "data")
    data = bytearray((raw / "train.rec").read_bytes())
    place = bytes(data).rindex(b"IEND")
    data[place + 10 : place + 11] = np.array([data[place + 10] ^ 1], np.uint8).tobytes()
    (raw / "train.rec").write_bytes(bytes(data))
    assert prepare("insightface_rec", raw, tmp_path / "data") == 2
    assert "prepared from another input" in capsys.readouterr().err
