"""Pairs as insightface pickles them, by Python 3, by Python 2 and with arrays; and a pickle that would run code."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.data.datasets.drawn import face, pixels, prepare, prepared, records, write

COUNT = 22
SAME = [index % 2 == 0 for index in range(COUNT)]


@pytest.fixture
def images(tmp_path):
    return [write(tmp_path / "images" / f"{i}.jpg", face(i % 8)["image"]).read_bytes() for i in range(2 * COUNT)]


def python2(images, same) -> bytes:
    """What Python 2 writes by its protocol 2: strings of bytes (U and T), in two lists of a tuple."""
    out = b"\x80\x02]("
    for image in images:
        out += b"T" + len(image).to_bytes(4, "little") + image
    return out + b"e](" + b"".join(b"\x88" if one else b"\x89" for one in same) + b"e\x86."


WRITERS = {
    "python3": lambda images, same: pickle.dumps((images, same), protocol=pickle.HIGHEST_PROTOCOL),
    "old_protocol": lambda images, same: pickle.dumps((images, same), protocol=2),
    "arrays": lambda images, same: pickle.dumps(
        ([np.frombuffer(image, np.uint8) for image in images], np.array(same)), protocol=4
    ),
    "scalars": lambda images, same: pickle.dumps((images, list(np.array(same))), protocol=2),
    "python2": python2,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_pickles_become_records_and_pairs(images, tmp_path, writer):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "cfp_fp.bin").write_bytes(WRITERS[writer](images, SAME))
    dataset = prepared("insightface_bin", tmp_path / "raw", tmp_path / "data")
    found = records(dataset)
    assert dataset.splits == {"test": 2 * COUNT}
    assert [record["image"] for record in found.values()] == images
    table = dataset.table("pairs")
    names = [*found]
    assert table["first"].tolist() == names[::2]
    assert table["second"].tolist() == names[1::2]
    np.testing.assert_array_equal(table["same"], SAME)
    np.testing.assert_array_equal(table["fold"], np.repeat(np.arange(10), [3, 3, *[2] * 8]))  # as KFold splits 22
    assert pixels(found["000003"]["image"]).shape == face(3)["image"].shape


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Shell:
    def __reduce__(self):
        return eval, ("__import__('os').system('true')",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda out: pickle.dumps(([Trap(out)], [True])), "it asks for pathlib"),
        (lambda out: pickle.dumps(([Shell()], [True])), "it asks for builtins.eval, which is not allowed"),
        (lambda out: b"nothing of the kind", "cannot be read as a pickle"),
        (lambda out: pickle.dumps(([b"a", b"b", b"c"], [True])), "two images for each pair are expected, not 3 for 1"),
        (lambda out: pickle.dumps(([b"a", 3], [True])), "an image is int, not bytes"),
        (lambda out: pickle.dumps({"a": 1}), "is no file of pairs"),
        (lambda out: pickle.dumps(([b"a", b"b"], [True]))[:-4], "cannot be read as a pickle"),
    ],
)
def test_other_pickles_are_refused_and_run_nothing(tmp_path, capsys, content, message):
    out = tmp_path / "made"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "lfw.bin").write_bytes(content(out))
    assert prepare("insightface_bin", tmp_path / "raw", tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_of_several_files_one_is_named(images, tmp_path, capsys):
    for name in ("lfw", "agedb_30"):
        (tmp_path / "raw" / f"{name}.bin").parent.mkdir(exist_ok=True)
        (tmp_path / "raw" / f"{name}.bin").write_bytes(pickle.dumps((images, SAME)))
    assert prepare("insightface_bin", tmp_path / "raw", tmp_path / "data") == 2
    assert "say which file by set=NAME" in capsys.readouterr().err
    dataset = prepared("insightface_bin:set=agedb_30", tmp_path / "raw", tmp_path / "data", "--name=agedb_30")
    assert dataset.name == "insightface_bin/agedb_30"
