"""Sheets show what they say.

Planted and seen red: signs of the components left to the decomposition.
"""

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from facerep_jax import pictures
from facerep_jax.evaluation import sheets
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.metrics import F1, NME, score
from facerep_jax.evaluation.number_metrics import Numbers
from facerep_jax.evaluation.person_metrics import Verification
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.tasks.action_units import Detection, Intensity
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.evaluation.tasks.parsing import Parsing
from facerep_jax.models.vit import ViT
from facerep_jax.typing import Rows

SIZE, GRID = 16, (4, 5)


BOX = NME({"kind": "box"})


def problem(rng, metric=BOX, count=14):
    test = {
        "image": rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8),
        "landmarks": rng.uniform(2, 14, (count, 5, 2)),
        "mask": rng.integers(0, 3, (count, SIZE, SIZE), np.uint8),
        "id": [f"face_{i}" for i in range(count)],
    }
    return Problem(
        encoder=None, make_task=None, task=None, metric=metric, splits={"test": test}, source=[], transforms=()
    )


def test_the_worst_come_first_with_their_error(monkeypatch):
    rng = np.random.default_rng(0)
    some = problem(rng)
    offset = rng.permutation(14)[:, None, None] / 10
    prediction = some.splits["test"]["landmarks"] + offset
    statistics = some.metric.rows(prediction, some.splits["test"])
    statistics.statistics[3] = 0  # an image that does not count
    blank, names, rows = Image.new("RGB", (4, 4)), [], []
    monkeypatch.setattr(sheets, "sheet", lambda tiles, given=(), columns=4: names.extend(given) or blank)
    monkeypatch.setattr(sheets, "drawn", lambda *a, **k: rows.append(a[3]) or [blank])
    sheets.extremes(Landmarks, some, prediction, statistics)
    error = statistics.statistics[:, 0]
    order = [i for i in np.argsort(-error) if i != 3][: sheets.SHOWN]
    assert len(rows) == 2
    assert rows[0] == order
    assert names[0] == f"1:  {100 * error[order[0]]:.2f}%  face_{order[0]}"
    assert rows[1] == [i for i in np.argsort(error) if i != 3][: sheets.SHOWN]
    assert names[sheets.SHOWN] == f"1:  {100 * error[rows[1][0]]:.2f}%  face_{rows[1][0]}"


def test_the_worst_where_higher_is_better_and_where_nothing_is_defined(monkeypatch):
    rng = np.random.default_rng(0)
    some = problem(rng, F1(("background", "skin", "hair")))
    truth = some.splits["test"]["mask"]
    prediction = np.where(rng.random(truth.shape) < np.linspace(0, 1, 14)[:, None, None], truth, 0)
    statistics = some.metric.rows(prediction, some.splits["test"])
    rows = []
    monkeypatch.setattr(sheets, "drawn", lambda *a, **k: rows.append(a[3]) or [Image.new("RGB", (4, 4))])
    sheets.extremes(Parsing, some, prediction, statistics)
    assert rows[0][:3] == [0, 1, 2]
    assert rows[1][:3] == [13, 12, 11]
    blank = statistics._replace(statistics=np.zeros_like(statistics.statistics))
    assert sheets.extremes(Parsing, some, prediction, blank) == [None, None]


def test_rows_that_are_not_images_or_have_no_value_have_no_worst():
    rng = np.random.default_rng(0)
    for attribute, value in (("unit", "pair"), ("per_row", False)):
        metric = NME({"kind": "box"})
        setattr(metric, attribute, value)
        some = problem(rng, metric)
        prediction = some.splits["test"]["landmarks"] + 1
        rows = metric.rows(prediction, some.splits["test"])
        assert sheets.extremes(Landmarks, some, prediction, rows) == [None, None]


@pytest.mark.parametrize(
    ("metric", "task", "shown"),
    [
        (Numbers(("a", "b"), "action_units", ("icc", "mse", "mae")), Intensity, "1:  6.500  face_13"),
        (Numbers(("a", "b"), "action_units", ("ccc", "rmse")), Intensity, "1:  2.500  face_13"),
        (MultiLabel(("a", "b"), "action_units", "f1_mean"), Detection, "1:  0.00%  face_3"),
        (Numbers(("a", "b"), "action_units", ("icc", "pcc")), Intensity, None),
    ],
)
def test_faces_without_a_headline_of_their_own_are_ranked_by_the_value_that_they_have(metric, task, shown, monkeypatch):
    """Errors grow with the place; those of face 13 are 2 and 3, as squares 6.5 in the mean. Or face 3 is wrong."""
    some, names = problem(np.random.default_rng(0), metric), []
    truth = np.ones((14, 2))
    error = np.repeat(np.arange(14)[:, None] / 10, 2, axis=1)
    error[13] = 2, 3
    prediction = truth + (error if task is Intensity else -3 * (np.arange(14) == 3)[:, None])
    some.splits["test"]["action_units"] = truth
    monkeypatch.setattr(sheets, "sheet", lambda tiles, given, columns: names.append(given) or tiles[0])
    found = sheets.extremes(task, some, prediction, metric.rows(prediction, some.splits["test"]))
    if shown is None:
        assert found == [None, None]
        return
    assert names[0][0] == shown
    assert names[1][0].split()[-1] == ("face_0" if task is Intensity else "face_13")


def test_the_worst_pairs_are_the_least_alike_of_one_person_and_the_most_alike_of_two(monkeypatch):
    some, shown = problem(np.random.default_rng(0), Verification()), []
    first, second = np.triu_indices(14, 1)
    ids = [f"face_{a} face_{b}" for a, b in zip(first, second, strict=True)]
    alike, same = np.random.default_rng(1).normal(size=len(ids)), np.arange(len(ids)) % 3 == 0
    rows = Rows(ids, ids, np.column_stack([alike, same, np.zeros(len(ids))]).astype(np.float64))

    def tile(image, label, prediction, scale):
        return Image.fromarray(image)

    task = type("Alone", (), {"label": "landmarks", "draw": staticmethod(tile)})
    monkeypatch.setattr(sheets, "sheet", lambda tiles, names, columns: shown.append((tiles, names)) or tiles[0])
    sheets.extremes(task, some, np.zeros((14, 4)), rows)
    for (tiles, names), sign in zip(shown, (1, -1), strict=True):
        one, two = (
            [i for i in np.argsort(way * alike) if same[i] == kind][:5] for kind, way in ((1, sign), (0, -sign))
        )
        expected = [(f"{n}:  one person", i) for n, i in enumerate(one, 1)]
        expected += [(f"{n}:  two persons", i) for n, i in enumerate(two, 1)]
        assert names == [f"{said}, {alike[i]:.3f}  {ids[i]}" for said, i in expected]
        left, right = (np.asarray(tiles[0])[:, part] for part in (slice(112), slice(112, None)))
        images = some.splits["test"]["image"]
        for half, place in ((left, first[one[0]]), (right, second[one[0]])):
            face = Image.fromarray(images[place]).resize((112, 112))
            np.testing.assert_array_equal(half, np.asarray(face))
    none = Rows([f"{i} {i + 1}" for i in range(4)], list("abcd"), rows.statistics[:4])  # of templates
    assert sheets.extremes(task, some, np.zeros((14, 4)), none) == [None, None]


def test_rows_find_their_faces_in_any_order(monkeypatch):
    """A metric may leave rows out or give them in another order."""
    rng = np.random.default_rng(0)
    some = problem(rng)
    prediction = some.splits["test"]["landmarks"] + np.arange(14)[:, None, None] / 10
    found = some.metric.rows(prediction, some.splits["test"])
    found = Rows(found.ids[:4:-1], found.units[:4:-1], found.statistics[:4:-1])
    places = []
    monkeypatch.setattr(sheets, "drawn", lambda *a, **k: places.append(a[3]) or [Image.new("RGB", (4, 4))])
    sheets.extremes(Landmarks, some, prediction, found)
    expected = worst_first(some, found)
    assert [some.splits["test"]["id"][i] for i in places[0]] == expected[: sheets.SHOWN]


def worst_first(some, rows):
    """Ids of the rows, worst first."""
    values = [score(some.metric, row[None])[some.metric.headline] for row in rows.statistics]
    return [rows.ids[i] for i in np.argsort([-v for v in values], kind="stable")]


@pytest.mark.parametrize(("task", "label"), [(Landmarks, "landmarks"), (Parsing, "mask")])
def test_sheets_of_a_task(task, label):
    rng = np.random.default_rng(0)
    some = problem(rng)
    made = sheets.overlays(task, some, some.splits["test"][label])
    assert 2 / 3 <= made.width / pictures.WIDTH <= 1
    assert np.asarray(made).std() > 20
    worst = pictures.sheet(
        sheets.drawn(task, some, some.splits["test"][label], [0, 1] * 5, 5), ["1: a", "2: " + "b" * 99] * 5, 5
    )
    assert 2 / 3 <= worst.width / pictures.WIDTH <= 1
    assert (np.asarray(worst)[-pictures.TEXT :] < 100).any()  # the names


def test_components_are_those_of_numpy_and_turned():
    tokens = np.random.default_rng(0).normal(size=(6, 20, 8)) * np.geomspace(4, 0.1, 8)
    found = sheets.components(tokens, GRID)
    flat = tokens.reshape(-1, 8)
    _, vectors = np.linalg.eigh(np.cov(flat.T))
    scores = (flat - flat.mean(0)) @ vectors[:, ::-1][:, :3]
    for ours, theirs in zip(found.reshape(-1, 3).T, scores.T, strict=True):
        low, high = np.quantile(theirs, [0.02, 0.98])
        inside = (theirs > low) & (theirs < high)
        assert abs(np.corrcoef(ours[inside], theirs[inside])[0, 1]) > 0.9999
    assert (found.min(), found.max()) == (0, 255)


def test_components_depend_neither_on_the_basis_nor_on_the_order():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(6, 20, 8)) * np.geomspace(4, 0.1, 8)
    found = sheets.components(tokens, GRID).astype(int)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    order = rng.permutation(6)
    for other, mine in ((tokens @ turn + 3, found), (-tokens, None), (tokens[order], found[order])):
        theirs = sheets.components(other, GRID).astype(int)
        if mine is None:  # turned back: what follows the middle does so again
            mine = found
        assert np.abs(theirs - mine).max() <= 1


def test_a_component_grows_towards_the_middle_top_or_left():
    rows, columns = np.mgrid[0:4, 0:5]
    middle = -((rows - 1.5) ** 2 / 16 + (columns - 2) ** 2 / 25)
    tokens = np.stack([9 * (middle - middle.mean()), 2 * (rows - 1.5), 0.5 * (columns - 2.0)], -1).reshape(1, 20, 3)
    found = sheets.components(tokens, GRID)[0].astype(int)
    by_size = np.argsort(-tokens.std((0, 1)))
    seen = {int(place): found[..., i] for i, place in enumerate(by_size)}
    assert seen[0][1, 2] > seen[0][0, 0]
    assert seen[1][0, 2] > seen[1][3, 2]
    assert seen[2][2, 0] > seen[2][2, 4]


def test_a_component_that_says_nothing_is_grey():
    tokens = np.zeros((2, 20, 4))
    tokens[..., 0] = np.arange(20)
    found = sheets.components(tokens, GRID)
    assert set(found[..., 1:].ravel()) == {128}
    assert len(set(found[..., 0].ravel())) > 10
    assert set(sheets.components(np.zeros((2, 20, 2)), GRID).ravel()) == {128}


def test_tokens_of_an_encoder():
    encoder = ViT(variant="Nano/8", image_size=16, width=32, depth=1, heads=2, dtype="float32", remat="none",
                  rngs=nnx.Rngs(params=0))  # fmt: skip
    made = sheets.tokens(encoder, np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8))
    assert 2 / 3 <= made.width / pictures.WIDTH <= 1
    assert np.asarray(made).std() > 20
