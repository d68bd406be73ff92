"""Planted and seen red: numbers counted from 0, both sides of a frontal-profile pair taken from the first list."""

import numpy as np
import pytest

from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

PEOPLE, KINDS = ("001", "002"), {"frontal": 2, "profile": 1}


@pytest.fixture
def raw(tmp_path):
    root, index = tmp_path / "cfp-dataset", 0
    for kind, name in (("frontal", "F"), ("profile", "P")):
        lines = []
        for person in PEOPLE:
            for number in range(1, KINDS[kind] + 1):
                path = f"Data/Images/{person}/{kind}/{number:02d}.jpg"
                write(root / path, face(index)["image"])
                lines.append(f"{len(lines) + 1} ../{path}")
                index += 1
        text(root / "Protocol" / f"Pair_list_{name}.txt", *lines)
    for fold in range(1, 11):
        text(root / f"Protocol/Split/FP/{fold:02d}/same.txt", "1,1", "4,2")
        text(root / f"Protocol/Split/FP/{fold:02d}/diff.txt", "2,2")
        text(root / f"Protocol/Split/FF/{fold:02d}/same.txt", "1,2")
        text(root / f"Protocol/Split/FF/{fold:02d}/diff.txt", "1,3")
    return root


def test_lists_become_records_and_pairs(raw, tmp_path, capsys):
    dataset = prepared("cfp", raw, tmp_path / "data")
    assert "6 images in split test, but CFP was published with 7000" in capsys.readouterr().out
    assert set(records(dataset)) == {
        *(f"{person}/frontal/{number}" for person in PEOPLE for number in ("01", "02")),
        *(f"{person}/profile/01" for person in PEOPLE),
    }
    assert dataset.meta["identities"] == [*PEOPLE]
    table = dataset.table("pairs")
    assert table["first"].tolist()[:3] == ["001/frontal/01", "002/frontal/02", "001/frontal/02"]
    assert table["second"].tolist()[:3] == ["001/profile/01", "002/profile/01", "002/profile/01"]
    np.testing.assert_array_equal(table["same"][:3], [True, True, False])
    np.testing.assert_array_equal(table["fold"], np.repeat(np.arange(10), 3))
    assert dataset.table("pairs_ff")["second"].tolist()[:2] == ["001/frontal/02", "002/frontal/01"]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("Split/FP/03/same.txt", "1,3", "FP/03/same.txt: no images of numbers 1 and 3"),
        ("Pair_list_F.txt", "1 01.jpg", "a number and a path PERSON/KIND/IMAGE.jpg are expected"),
        ("Split/FF/10/diff.txt", "1 2", "2 columns are expected, not 1"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, file, line, message):
    text(raw / "Protocol" / file, line)
    assert prepare("cfp", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
