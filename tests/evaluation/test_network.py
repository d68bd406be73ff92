"""What is read as it is needed gives what lies in memory gives."""

import numpy as np
import pytest

from facerep_jax.data import arrays
from facerep_jax.data.arrays import Lazy
from facerep_jax.evaluation import cache
from facerep_jax.evaluation.metrics import F1, rows_of
from facerep_jax.evaluation.network import Network, look_at_images
from facerep_jax.evaluation.protocols.ridge import Ridge
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.evaluation.tasks.parsing import Parsing
from tests.evaluation.problems import HELD_OUT, ROWS


class Read(Lazy):
    """An array that notes how many rows are read at a time."""

    def __init__(self, x, most):
        super().__init__(lambda rows: most.append(len(rows)) or x[rows], x.shape, x.dtype)


def read_as_needed(splits, keys, most):
    return {
        role: {name: Read(x, most) if name in keys else x for name, x in data.items()} for role, data in splits.items()
    }


@pytest.fixture
def parts_of_sixteen(monkeypatch):
    monkeypatch.setattr(cache, "ROWS", 16)


@pytest.mark.parametrize("cache_gigabytes", [20.0, 0.0])
def test_a_probe_reads_some_images_at_a_time_and_keeps_large_predictions_in_a_file(
    problem, parts_of_sixteen, monkeypatch, cache_gigabytes
):
    probe, most = Ridge(penalties=(1e-3, 1e-2), cache_gigabytes=cache_gigabytes), []
    expected = probe.prepare(problem)(ROWS, HELD_OUT, 0)
    monkeypatch.setattr(arrays, "MEMORY_BYTES", 1000)
    lazy = problem._replace(splits=read_as_needed(problem.splits, ("image", "landmarks"), most))
    outcome = probe.prepare(lazy)(ROWS, HELD_OUT, 0)
    assert isinstance(outcome.prediction, Lazy)
    np.testing.assert_array_equal(outcome.prediction[:], expected.prediction)
    assert outcome.selected == pytest.approx(expected.selected)
    assert not list(problem.folder.iterdir())
    if cache_gigabytes:
        assert max(most) <= 47  # of labels, which the head takes its statistics from


def test_predictions_that_a_folder_does_not_take_are_an_error(problem, monkeypatch, tmp_path):
    network = Network(problem.encoder, problem.task, look_at_images)
    monkeypatch.setattr(arrays, "MEMORY_BYTES", 0)
    weights, nowhere = network.weights(problem.task), tmp_path / "nowhere"
    with pytest.raises(ValueError, match=f"cannot keep predictions in {nowhere}: No such file"):
        network.predict(weights, problem.splits["test"], np.arange(4), nowhere)


def test_baselines_look_at_some_images_at_a_time(problem, monkeypatch):
    splits = {role: {**data, "mask": data["image"][..., 0] % 3} for role, data in problem.splits.items()}
    most = []
    lazy = read_as_needed(splits, ("image", "mask"), most)
    for task, meta in ((Landmarks, {}), (Parsing, {"classes": ["a", "b", "c"]})):
        one, other = (task.baselines(of["train"], of["validation"], of["test"], meta) for of in (splits, lazy))
        for name, prediction in one.items():
            np.testing.assert_array_equal(other[name], prediction)
    assert max(most) == arrays.PART < 48


def test_rows_of_single_images_are_scored_some_at_a_time_and_others_together():
    rng = np.random.default_rng(0)
    most, ids = [], [f"face_{i}" for i in range(70)]
    truth, prediction = rng.integers(0, 3, (2, 70, 4, 4)).astype(np.uint8)
    metric = F1(("a", "b", "c"))
    whole = metric.rows(prediction, {"mask": truth, "id": ids})
    found = rows_of(metric, Read(prediction, most), {"mask": Read(truth, most), "id": ids, "tables": {}})
    np.testing.assert_array_equal(found.statistics, whole.statistics)
    assert (found.ids, found.units) == (whole.ids, whole.units)
    assert max(most) == arrays.PART
    metric.unit = "pair"
    most.clear()
    np.testing.assert_array_equal(
        rows_of(metric, prediction, {"mask": Read(truth, most), "id": ids}).statistics, whole.statistics
    )
    assert most == [70]
