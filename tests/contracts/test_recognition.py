"""A stranger's recognition, k-NN and zero-shot go the whole way of an evaluation.

Planted and seen red: an accuracy whose threshold is chosen on its own fold.
"""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

from facerep_jax import cli
from facerep_jax.config import spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox, tokens
from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.statistics import paired_difference
from facerep_jax.face_world import META
from facerep_jax.reporting import wording
from facerep_jax.reporting.workdirs import read_statistics
from facerep_jax.train import handover
from facerep_jax.typing import Metric
from tests import processes
from tests.contracts.configs.recognition import FACES
from tests.contracts.recognition import RankedAttributes, Verification, ZeroShot
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
    against_pixels(tmp_path, page)
    assert not (tmp_path / "worst.png").exists()  # no pair is a face


def against_pixels(workdir, page):
    """The report's interval is that of folds drawn whole, which no bootstrap of single pairs gives."""
    encoder, pixels = (read_statistics(workdir, who) for who in ("encoder", "pixels"))
    both = pixels.rows, encoder.rows
    drawn = dict(lower_is_better=False, units=encoder.units)
    got = paired_difference(*both, lambda s, w: Verification().compute(s, w)["tar_at_far_1e-1"], **drawn)
    assert len(set(encoder.units)) == 10
    said = wording.improvement(got.difference, got.low, got.high)
    assert said in page or wording.improvement(-got.difference, -got.high, -got.low) in page


@pytest.fixture(scope="module")
def faces(run):
    """Images, attributes and pooled features of the splits."""
    dataset, encoder = open_dataset(FACES, "nowhere"), handover.encoder(str(run)).encoder
    transforms = build_transforms((spec(CropToBox, margin=0.25, size=48),), dataset.meta)
    splits = {role: load(dataset.source(role), transforms, ("image", "attributes")) for role in ("train", "test")}
    extract = extractor(encoder, ())
    pooled = {role: np.asarray(extract(split["image"])["pooled"], np.float64) for role, split in splits.items()}
    return SimpleNamespace(encoder=encoder, splits=splits, pooled=pooled)


def predicted(workdir):
    rows = pq.read_table(workdir / "predictions.parquet").to_pylist()
    return np.array([row["prediction"] for row in rows if row["encoder"] == "encoder"])


def auc(scores, truth):
    """Mean area under the ROC curve over attributes, by ranks."""
    found = []
    for score, true in zip(scores.T, truth.T, strict=True):
        n = true.sum()
        if 0 < n < len(true):
            found.append((rankdata(score)[true == 1].sum() - n * (n + 1) / 2) / (n * (len(true) - n)))
    return np.mean(found)


def test_neighbours_are_a_protocol(run, faces, tmp_path):
    results, page = evaluated(run, tmp_path, "task=attributes,protocol=k_nearest")
    assert results["protocol"] == "k_nearest"
    assert "k nearest neighbours: " in page
    train, labels = faces.pooled["train"], faces.splits["train"]["attributes"]
    answers = []
    for face in faces.pooled["test"]:
        cosine = [face @ other / np.linalg.norm(face) / np.linalg.norm(other) for other in train]
        answers.append(labels[np.argsort(cosine)[-3:]].mean(0))
    np.testing.assert_allclose(predicted(tmp_path), answers, rtol=1e-5)
    expected = auc(np.array(answers), faces.splits["test"]["attributes"])
    assert results["metrics"]["auc_mean"]["mean"] == pytest.approx(expected)


def test_prompts_are_a_protocol(run, faces, tmp_path):
    results, page = evaluated(run, tmp_path, f"task=attributes,protocol=zero_shot,run={run}")
    assert results["protocol"] == "zero_shot"
    assert "no label is looked at" in page
    names, truth = tuple(META["attributes"]), faces.splits["test"]["attributes"]
    tower = handover.offered(str(run), "text_tower")
    prompts = [tokens(f"a face with {name.replace('_', ' ')}", length=16, buckets=256)[0] for name in names]
    text = np.asarray(tower.embed_text(jnp.asarray(np.stack(prompts))), np.float64)
    images = np.asarray(tower.embed_image(jnp.asarray(faces.pooled["test"], jnp.float32)), np.float64)
    np.testing.assert_allclose(predicted(tmp_path), images @ text.T, atol=1e-5)
    assert results["metrics"]["auc_mean"]["mean"] == pytest.approx(auc(images @ text.T, truth), abs=1e-3)
    turned = ZeroShot(run=str(run), names=names[::-1]).prepare(faces)(None, None, 0).prediction
    np.testing.assert_allclose(turned, images @ text[::-1].T, atol=1e-5)
    assert abs(auc(turned, truth) - auc(images @ text.T, truth)) > 1e-3


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
    found = ranked.compute(np.concatenate([scores, truth], axis=1), np.ones((1, 20)))["auc_mean"]
    assert found[0] == pytest.approx(auc(scores, truth))
