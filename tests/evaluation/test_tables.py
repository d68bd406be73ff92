import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from facerep_jax.evaluation.tables import evenly, write_predictions, write_statistics
from facerep_jax.typing import Rows

RNG = np.random.default_rng(0)
IDS = ["a", "b", "c"]


def rows(ids=IDS, units=IDS):
    return Rows(list(ids), list(units), RNG.normal(size=(len(ids), 2)))


def test_every_row_of_a_metric_is_there_for_each_encoder_and_subset(tmp_path):
    statistics = {"encoder": [rows(), rows()], "mean_shape": [rows()] * 2}
    write_statistics(tmp_path / "examples.parquet", statistics)
    found = pq.read_table(tmp_path / "examples.parquet").to_pylist()
    assert [(r["encoder"], r["subset"], r["id"]) for r in found] == [
        (encoder, subset, name) for encoder in statistics for subset in range(2) for name in IDS
    ]
    assert found[4]["statistics"] == statistics["encoder"][1].statistics[1].tolist()


def test_rows_may_be_pairs_with_units_of_their_own(tmp_path):
    pairs = rows(("a,b", "a,c"), ("anna", "anna"))
    write_statistics(tmp_path / "examples.parquet", {"encoder": [pairs]})
    found = pq.read_table(tmp_path / "examples.parquet").to_pylist()
    assert [(r["id"], r["unit"]) for r in found] == [("a,b", "anna"), ("a,c", "anna")]


def test_points_are_flat_lists(tmp_path):
    points = RNG.normal(size=(3, 4, 2)).astype(np.float32)
    write_predictions(tmp_path / "predictions.parquet", {"encoder": [points]}, IDS, range(3))
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    np.testing.assert_array_equal([r["prediction"] for r in rows], points.reshape(3, 8))


def test_maps_of_classes_are_png(tmp_path):
    maps = RNG.integers(0, 19, (3, 16, 12), np.uint8)
    write_predictions(tmp_path / "predictions.parquet", {"encoder": [maps]}, IDS, range(3))
    for row, classes in zip(pq.read_table(tmp_path / "predictions.parquet").to_pylist(), maps, strict=True):
        with Image.open(io.BytesIO(row["prediction"])) as image:
            np.testing.assert_array_equal(np.asarray(image), classes)


def test_of_logits_the_likeliest_class_is_kept_beside_maps_of_classes(tmp_path):
    logits, maps = RNG.normal(size=(3, 6, 6, 4)).astype(np.float16), RNG.integers(0, 4, (3, 12, 12), np.uint8)
    write_predictions(tmp_path / "predictions.parquet", {"encoder": [logits], "other": [maps]}, IDS, range(3))
    expected = [*logits.argmax(-1), *maps]
    for row, classes in zip(pq.read_table(tmp_path / "predictions.parquet").to_pylist(), expected, strict=True):
        with Image.open(io.BytesIO(row["prediction"])) as image:
            np.testing.assert_array_equal(np.asarray(image), classes)


def test_no_examples_are_a_table_too(tmp_path):
    write_predictions(tmp_path / "predictions.parquet", {"encoder": [np.zeros((0, 4, 2))]}, [], [])
    assert pq.read_table(tmp_path / "predictions.parquet").to_pylist() == []


def test_rows_are_evenly_spaced():
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [0, 4, 8]
    assert evenly(9, 0).tolist() == []
    assert evenly(100_000, 1000)[-1] == 99_999
