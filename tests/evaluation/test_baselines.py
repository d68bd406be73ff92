from types import SimpleNamespace

import numpy as np
import pytest

from facerep_jax.evaluation.baselines import learnt_from, patch_kmeans, without_network
from facerep_jax.evaluation.labels import Labels
from facerep_jax.evaluation.problem import NONE
from tests.evaluation.problems import HELD_OUT, ROWS

LABELS = [Labels(0, ROWS, HELD_OUT), Labels(1, ROWS[:30], HELD_OUT[:8])]


def test_each_subset_has_its_predictions_of_the_test_examples(problem):
    found = without_network(None, problem, LABELS, {})
    assert set(found) == {"mean_shape", "linear_pixels"}
    for subset, prediction in zip(LABELS, found["mean_shape"], strict=True):
        mean = problem.splits["train"]["landmarks"][subset.train].mean(0)
        np.testing.assert_allclose(prediction, np.broadcast_to(mean, (24, 68, 2)), rtol=1e-6)


def test_those_that_are_asked_for_are_made(problem):
    assert set(without_network(("mean_shape", "random"), problem, LABELS, {})) == {"mean_shape"}
    assert without_network(("random", "scratch"), problem, LABELS, {}) == {}
    with pytest.raises(ValueError, match="no baseline 'mean_shap'; did you mean 'mean_shape'"):
        without_network(("mean_shap",), problem, LABELS, {})


def test_a_tenth_of_the_labels_stands_in_for_validation(problem):
    train, validation = learnt_from(problem, LABELS[0])
    assert (len(train["id"]), len(validation["id"])) == (47, 16)
    bare = problem._replace(splits={**problem.splits, "validation": NONE})
    train, validation = learnt_from(bare, Labels(0, ROWS, np.arange(0)))
    assert (len(train["id"]), len(validation["id"])) == (43, 4)
    assert not set(train["id"]) & set(validation["id"])


def test_patches_of_k_means_are_the_encoders_whatever_the_task_reads(problem, monkeypatch):
    monkeypatch.setattr("facerep_jax.models.patch_kmeans.PatchKMeans.fit_images", lambda self, images: None)
    pooled = problem._replace(task=SimpleNamespace(taps=()))  # reads no map
    assert patch_kmeans(pooled, problem.splits["train"]["image"]).patch == problem.encoder.tap_strides((0,))[0] == 8
