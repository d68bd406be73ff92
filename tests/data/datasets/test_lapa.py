"""Planted and seen red: brows left where they are by the mirror, classes 2 and 3 not swapped."""

import numpy as np
import pytest

from facerep_jax.config import spec
from facerep_jax.data.datasets.lapa import BENCHMARK
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.transforms import Flip, decode
from tests.data.datasets.drawn import IBUG, SIZE, face, points106, prepare, prepared, records, sides, text, write

COUNTS = {"train": 3, "val": 1, "test": 2}


@pytest.fixture
def raw(tmp_path):
    folder, index = tmp_path / "LaPa", 0
    for part, count in COUNTS.items():
        for _ in range(count):
            name, drawn = f"{index}_0", face(index)
            write(folder / part / "images" / f"{name}.jpg", drawn["image"])
            write(folder / part / "labels" / f"{name}.png", drawn["mask"])
            points = (f"{x:.6f} {y:.6f}" for x, y in points106(drawn["landmarks"]))
            text(folder / part / "landmarks" / f"{name}.txt", "106", *points)
            index += 1
    return folder


def test_its_files_become_records(raw, tmp_path, capsys):
    dataset = prepared("lapa", raw, tmp_path / "data")
    out = capsys.readouterr().out
    assert "warning: 3 images in split train, but LaPa was published with 18176" in out
    assert dataset.splits == {"train": 3, "validation": 1, "test": 2}
    assert dataset.features == ("id", "image", "mask", "landmarks")
    for split, first in (("train", 0), ("validation", 3), ("test", 4)):
        for name, record in records(dataset, split).items():
            index = int(name.split("/")[1].split("_")[0])
            assert first <= index
            drawn = face(index)
            np.testing.assert_allclose(record["landmarks"], points106(drawn["landmarks"]), atol=1e-5)
            np.testing.assert_array_equal(decode(record)["mask"], drawn["mask"])
            sides(dataset, record, [0, 33, 37, 66, 70, 84, 104], [32, 46, 42, 79, 75, 90, 105])


def test_a_mirror_swaps_brows_and_eyes(raw, tmp_path):
    dataset = prepared("lapa", raw, tmp_path / "data")
    (flip,) = build_transforms((spec(Flip, probability=1.0),), dataset.meta)
    for record in records(dataset, "train").values():
        plain = decode(record)
        flipped = flip(plain, np.random.default_rng(0))
        swap = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10])
        np.testing.assert_array_equal(flipped["mask"], swap[plain["mask"]][:, ::-1])
        # Landmarks of the mirror image are what one would make of the mirrored 68 points.
        ibug = face(int(record["id"].decode().split("/")[1].split("_")[0]))["landmarks"]
        mirrored = (ibug * [-1, 1] + [SIZE - 1, 0])[list(IBUG)]
        np.testing.assert_allclose(flipped["landmarks"], points106(mirrored), atol=1e-3)


def test_its_terms_travel_with_it(raw, tmp_path):
    meta = prepared("lapa", raw, tmp_path / "data").meta
    assert meta["licence"] == BENCHMARK.licence
    assert meta["research_only"] is True
    assert meta["may_show_images"] is False
    assert BENCHMARK.citation in meta["agreement"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("val/landmarks/3_0.txt", "106, is expected, not '68'"),
        ("val/labels/3_0.png", "no file 'val/labels/3_0.png'"),
        ("val/images", "no val/images"),
        ("train/landmarks/0_0.txt", "x and y of 106 points are expected, not 2 numbers"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, part, message):
    path = raw / part
    if path.suffix == ".txt":
        path.write_text("106\n1 2\n" if "train" in part else "68\n1 2\n")
    else:
        path.rename(raw / "elsewhere")
    assert prepare("lapa", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
