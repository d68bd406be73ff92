"""Planted and seen red: folds counted by lines of one kind, the second name of two people taken for the first."""

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

PEOPLE = {"Ann_A": 3, "Bo_B": 2, "Cy_C": 2}
PAIRS = (
    *("Ann_A\t1\t2", "Bo_B\t1\t2", "Ann_A\t3\tBo_B\t1", "Ann_A\t1\tCy_C\t2"),
    *("Ann_A\t2\t3", "Cy_C\t1\t2", "Bo_B\t2\tCy_C\t1", "Cy_C\t2\tAnn_A\t2"),
)


@pytest.fixture
def raw(tmp_path):
    index = 0
    for person, count in PEOPLE.items():
        for number in range(1, count + 1):
            write(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", face(index)["image"])
            index += 1
    text(tmp_path / "pairs.txt", "2\t2", *PAIRS)
    return tmp_path


def test_folders_become_records_and_lines_pairs(raw, tmp_path, capsys):
    dataset = prepared("lfw", raw, tmp_path / "data")
    assert "7 images in split test, but LFW was published with 13233" in capsys.readouterr().out
    found = records(dataset)
    assert dataset.splits == {"test": 7}
    assert dataset.meta["identities"] == [*PEOPLE]
    assert [dataset.meta["identities"][found[name]["identity"]] for name in ("Bo_B_0002", "Cy_C_0001")] == [
        "Bo_B",
        "Cy_C",
    ]
    table = dataset.table("pairs")
    assert [*table] == ["first", "second", "same", "fold"]
    assert table["first"].tolist()[:4] == ["Ann_A_0001", "Bo_B_0001", "Ann_A_0003", "Ann_A_0001"]
    assert table["second"].tolist()[:4] == ["Ann_A_0002", "Bo_B_0002", "Bo_B_0001", "Cy_C_0002"]
    assert (table["second"][-1], table["first"][-1]) == ("Ann_A_0002", "Cy_C_0002")
    np.testing.assert_array_equal(table["same"], [1, 1, 0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(table["fold"], [0, 0, 0, 0, 1, 1, 1, 1])
    same = [found[a]["identity"] == found[b]["identity"] for a, b in zip(table["first"], table["second"], strict=True)]
    np.testing.assert_array_equal(table["same"], same)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("2\t2", *PAIRS[:-1]), "8 pairs are expected, not 7"),
        (PAIRS, "the number of folds and of pairs are expected"),
        (("2\t2", *PAIRS[2:], *PAIRS[:2]), "line 2, a pair of one person is expected"),
        (("2\t2", "Ann_A\t1\t4", *PAIRS[1:]), "line 2, no image 'Ann_A_0004' in the set"),
        (("2\t2", "Ann_A\t1\tx", *PAIRS[1:]), "line 2, numbers of images are expected"),
    ],
)
def test_other_pairs_are_refused(raw, tmp_path, capsys, lines, message):
    text(raw / "pairs.txt", *lines)
    assert prepare("lfw", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
