"""A stranger's recognition, k-NN and zero-shot go the whole way of an evaluation.

Planted and seen red: an accuracy whose threshold is chosen on its own fold.
"""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

from facerep_jax import cli
from facerep_jax.data.library import open_dataset
from facerep_jax.typing import Metric
from tests import processes
from tests.contracts.configs.recognition import FACES
from tests.contracts.recognition import RankedAttributes, Verification
from tests.contracts.whole_way import pretrain

CONFIG = "tests/contracts/configs/recognition.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A contrastive pre-training of a stranger's network."""
    return pretrain("tests/contracts/configs/residual.py", tmp_path_factory.mktemp("residual"))


def evaluated(run, workdir, arg):
    status, said = processes.here("evaluate", workdir, f"--config={CONFIG}:{arg}", f"--checkpoint={run}")
    assert status == 0, said
    assert cli.main(["facerep", "report", str(workdir), f"--out={workdir / 'page'}"]) == 0
    return json.loads((workdir / "results.json").read_text()), (workdir / "page" / "report.md").read_text()


def test_pairs_are_scored_and_reported(run, tmp_path):
    results, page = evaluated(run, tmp_path, "task=recognition")
    assert results["headline"] == "tar_at_far_1e-1"
    assert results["words"]["unit"] == "pair"
    pairs = open_dataset(FACES, "nowhere").table("pairs")
    rows = pq.read_table(tmp_path / "examples.parquet").to_pylist()
    ours = [row for row in rows if row["encoder"] == "encoder"]
    assert [row["id"] for row in ours] == [" ".join(two) for two in zip(pairs["first"], pairs["second"], strict=True)]
    statistics = np.array([row["statistics"] for row in ours])
    value = Verification().compute(statistics, np.ones((1, len(ours))))["tar_at_far_1e-1"][0]
    assert results["metrics"]["tar_at_far_1e-1"]["mean"] == pytest.approx(value)
    assert set(results["baselines"]) == {"pixels"}
    for words in ("TAR at FAR 0.1", "Ten-fold accuracy: ", f"{len(ours)} test pairs"):
        assert words in page
    assert (tmp_path / "overlays.png").exists()
    assert not (tmp_path / "worst.png").exists()  # no pair is a face


def test_neighbours_and_prompts_are_protocols(run, tmp_path):
    neighbours, page = evaluated(run, tmp_path / "near", "task=attributes,protocol=k_nearest")
    assert neighbours["protocol"] == "k_nearest"
    assert "k nearest neighbours: " in page
    shot, page = evaluated(run, tmp_path / "shot", f"task=attributes,protocol=zero_shot,run={run}")
    assert shot["protocol"] == "zero_shot"
    assert "no label is looked at" in page
    assert 0 < shot["metrics"]["auc_mean"]["mean"] < 1


def test_metrics_by_hand():
    metric = Verification()
    assert isinstance(metric, Metric)
    alike, same = np.array([0.9, 0.8, 0.7, 0.6, 0.1] * 2), np.array([1, 0, 1, 0, 0] * 2)
    statistics = np.column_stack([alike, same, np.arange(10) % 5])
    found = metric.compute(statistics, np.ones((1, 10)))
    assert found["tar_at_far_1e-1"][0] == 0.5  # 0.9 passes, 0.8 would let a third of the others in
    right = []
    for fold in range(5):  # by each fold's own definition: the threshold is the lowest of those best on the others
        inside = np.arange(10) % 5 == fold
        scores = [((alike >= t) == (same > 0))[~inside].mean() for t in np.unique(alike)]
        threshold = np.unique(alike)[int(np.argmax(scores))]
        right.append(((alike >= threshold) == (same > 0))[inside].mean())
    assert found["accuracy_ten_fold"][0] == pytest.approx(np.mean(right))
    ranked = RankedAttributes(("a", "b"))
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(20, 2)), rng.integers(0, 2, (20, 2))
    expected = []
    for score, true in zip(scores.T, truth.T, strict=True):
        n = true.sum()
        expected.append((rankdata(score)[true == 1].sum() - n * (n + 1) / 2) / (n * (20 - n)))
    found = ranked.compute(np.concatenate([scores, truth], axis=1), np.ones((1, 20)))["auc_mean"]
    assert found[0] == pytest.approx(np.mean(expected))
