"""Planted and seen red: items that are kept as well as handed on."""

import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from facerep_jax import torch_files
from facerep_jax.data import detections
from facerep_jax.data.detections import Detections
from tests.data.laion import FIRST, face, write_detections


def test_faces_are_found_by_the_id_of_their_image(tmp_path):
    several = [face((1, 2, 30, 40), 0.5), face((5, 6, 70, 80), 0.9)]
    lists = [(box.tolist(), points.tolist(), float(score)) for box, points, score in several]
    first = write_detections(tmp_path / "0.pth", {FIRST + 3: several, float(FIRST + 1): [], str(FIRST): lists})
    second = write_detections(tmp_path / "1.pth", {FIRST + 9: [face()]})
    for source, name in ((first, "a"), (second, "b")):
        detections.index(source, tmp_path / name)
    found = Detections([tmp_path / "a", tmp_path / "b"])
    for wanted in (FIRST + 3, FIRST):
        for got, (box, points, score) in zip(found.of(wanted), several, strict=True):
            np.testing.assert_array_equal(got.bbox, box)
            np.testing.assert_array_equal(got.landmarks, points)
            assert got.score == score
    assert [len(found.of(FIRST + n) or ()) for n in (9, 3)] == [1, 2]
    assert found.of(FIRST + 1) == []
    assert found.of(FIRST + 2) is None
    assert found.of(FIRST + 9)[0].side == 40


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ({"x": []}, "a SAMPLE_ID is an integer"),
        ({1: [face()[:2]]}, r"the faces of SAMPLE_ID 1 must be \(box of 4, 5 points, score\)"),
        ({1: [(face()[1], face()[0], 0.9)]}, "the faces of SAMPLE_ID 1 must be"),
        ({1: [("abcd", [0] * 10, 0.5)]}, "the faces of SAMPLE_ID 1 must be"),
    ],
)
def test_other_contents_are_named(tmp_path, faces, message):
    path = write_detections(tmp_path / "0.pth", faces)
    with pytest.raises(ValueError, match=message):
        detections.index(path, tmp_path / "a")
    assert not list(tmp_path.glob("a*"))


def test_memory_is_that_of_the_numbers(tmp_path):
    """Not that of the objects, which take fifteen times as much."""
    path = write_detections(tmp_path / "0.pth", {FIRST + n: [face((n, 0, n + 9, 9))] for n in range(800)})
    tracemalloc.start()
    detections.index(path, tmp_path / "a")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 800 * 70 * 4 + 700_000
    assert Detections([tmp_path / "a"]).of(FIRST + 799)[0].bbox[0] == 799
    tracemalloc.start()
    assert len(torch_files.read(path)) == 800
    _, whole = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < whole / 3


def test_only_dicts_are_visited(tmp_path):
    seen = []
    path = write_detections(tmp_path / "0.pth", {1: {2: {3: 4}}, 5: [{}]})
    torch_files.visit(path, lambda key, value: seen.append((key, value)))
    assert seen == [(1, {2: {3: 4}}), (5, [{}])]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickle.dumps([1, 2], 2))
    with pytest.raises(ValueError, match="a dict is expected"):
        torch_files.visit(path, lambda key, value: None)
