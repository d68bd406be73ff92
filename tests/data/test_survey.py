"""Counts against NumPy's of the same values."""

import numpy as np
import pytest

from facerep_jax.data import survey as surveys
from facerep_jax.data.library import open_dataset
from facerep_jax.data.survey import Common, Spread, chosen, is_known, place_of, places_in, survey
from facerep_jax.data.transforms import decode_image


@pytest.fixture(scope="module")
def dataset():
    return open_dataset("tests.spoilt_faces:train=30,test=10", ".")


@pytest.fixture(scope="module")
def found(dataset):
    return survey(dataset, chosen(dataset, ("train", "test"), 0, True))


@pytest.fixture(scope="module")
def records(dataset):
    return [*dataset.source("train"), *dataset.source("test")]


def test_records_are_counted_by_split_and_feature(found):
    assert found.read == {"train": 30, "test": 10}
    assert found.count == 40
    assert set(found.known) == set(found.dataset.features) - {"id"}
    assert all(known == {"train": 30, "test": 10} for known in found.known.values())


def test_values_are_those_that_numpy_counts(found, records):
    heights = np.array([record["bbox"][3] - record["bbox"][1] for record in records])
    spread = found.spreads["face height"]
    assert (spread.least, spread.greatest) == (heights.min(), heights.max())
    assert spread.mean == pytest.approx(heights.mean())
    np.testing.assert_allclose(spread.quantiles(0.05, 0.5, 0.95), np.quantile(heights, [0.05, 0.5, 0.95]))
    assert found.sizes == {(64, 64): 40}
    masks = [decode_image(record["mask"], "L") for record in records]
    np.testing.assert_array_equal(found.masks.pixels, np.bincount(np.ravel(masks), minlength=256))
    np.testing.assert_array_equal(
        found.masks.images[:11], [sum((mask == i).any() for mask in masks) for i in range(11)]
    )
    attributes = np.array([record["attributes"] for record in records])
    np.testing.assert_array_equal(found.labels["attributes"].on, (attributes > 0.5).sum(0))
    expressions = [int(record["expression"]) for record in records]
    assert found.expressions == {label: expressions.count(label) for label in set(expressions)}
    assert found.people.total() == 40


def test_captions_are_counted(found, records):
    captions = [caption.decode() for record in records for caption in record["caption"]]
    assert found.spreads["caption, letters"].count == len(captions)
    assert found.spreads["caption, letters"].greatest == max(map(len, captions))
    assert found.captions_of_record.total() == 40
    word = found.words.most_common(1)[0]
    assert word[1] == sum(word[0] in caption.lower().replace(",", " ").split() for caption in captions)
    assert not {"the", "with"} & set(found.words)


def test_people_in_two_splits_are_counted(dataset):
    found = surveys.Survey(dataset)
    for split, person in [("train", 3), ("train", 3), ("test", 3), ("test", 4)]:
        found._add_labels(split, {"identity": np.int32(person)}, {"identity"})
    assert found.in_two_splits == 1


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("caption", [], False),
        ("caption", [b" "], False),
        ("caption", [b"a face"], True),
        ("landmarks", np.full((5, 2), np.nan, np.float32), False),
        ("landmarks", np.float32([[1, 2], [np.nan, np.nan]]), True),
        ("identity", np.int32(-1), False),
        ("identity", np.int32(0), True),
        ("visible", np.int32([-1, -1]), False),
        ("valence", np.float32(np.nan), False),
        ("valence", np.float32(-1), True),
        ("oracle_caption", b"", False),
    ],
)
def test_missing_values_are_not_known(name, value, known):
    assert is_known(name, value) is known


def test_memory_of_values_and_words_has_a_bound(monkeypatch):
    monkeypatch.setattr(surveys, "SHOWN", 100)
    spread, words = Spread(), Common()
    for value in range(5_000):
        spread.add(float(value))
        words.add(["often", f"word {value}"])
    assert len(spread._kept) == 100
    assert (spread.count, spread.least, spread.greatest, spread.mean) == (5_000, 0, 4_999, 2_499.5)
    assert spread.quantiles(0.5)[0] == pytest.approx(2_500, abs=600)
    assert spread.share_above(2_500) == pytest.approx(0.5, abs=0.15)
    assert len(words) <= 201
    assert words["often"] == 5_000


def test_a_large_set_is_read_in_part_the_same_each_time(dataset, monkeypatch):
    monkeypatch.setattr(surveys, "DRAWN", 20)
    one, same, other = (chosen(dataset, ("train", "test"), seed, False) for seed in (0, 0, 1))
    assert {split: len(indices) for split, indices in one.items()} == {"train": 15, "test": 5}
    for split, indices in one.items():
        assert (np.diff(indices) > 0).all()
        np.testing.assert_array_equal(indices, same[split])
    assert any((one[split] != other[split]).any() for split in one)
    assert {split: len(indices) for split, indices in chosen(dataset, ("train",), 0, False).items()} == {"train": 20}
    assert len(chosen(dataset, ("train",), 0, True)["train"]) == 30


def test_a_small_split_has_a_part_of_its_own(dataset, monkeypatch):
    monkeypatch.setattr(surveys, "DRAWN", 20)
    monkeypatch.setattr(surveys, "LEAST", 2)
    assert len(chosen(dataset, ("train", "test"), 0, False)["test"]) == 10


def test_records_that_a_warning_names_are_found_again():
    warning = f"odd, the first is {place_of('a (b) c.jpg', 'train', 12)}, which is {place_of('x', 'test', 0)} too"
    assert list(places_in(warning)) == [("train", 12), ("test", 0)]
