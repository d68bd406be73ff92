"""k-NN against scikit-learn, loops from the definition, and by hand.

Planted and seen red: a distance in place of the cosine, unknown labels that vote no, rows of the split in place of the
subset's.
"""

import math

import numpy as np
import pytest
from flax import nnx
from sklearn.neighbors import KNeighborsClassifier

from facerep_jax.config import build, spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation import cache
from facerep_jax.evaluation.person_metrics import normalised
from facerep_jax.evaluation.problem import ROLES, Problem
from facerep_jax.evaluation.protocols.knn import KNN, votes
from facerep_jax.evaluation.tasks.action_units import Detection, Intensity
from facerep_jax.evaluation.tasks.attributes import Attributes
from facerep_jax.evaluation.tasks.emotion import Expression
from facerep_jax.typing import Voted
from tests.evaluation.problems import HELD_OUT, SIZE, make_encoder

K, TEMPERATURE = 5, 0.07
SETTINGS = dict(neighbours=K, temperature=TEMPERATURE)


def reference():
    """scikit-learn's classifier of this definition."""
    weights = lambda distance: np.exp((1 - distance) / TEMPERATURE)  # noqa: E731
    return KNeighborsClassifier(K, metric="cosine", weights=weights, algorithm="brute")


def drawn(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 6)) + np.linspace(0, 1, 6)[None]


def test_classes_and_yes_or_no_are_voted_on_as_by_scikit_learn():
    train, test = drawn(60, 0), drawn(200, 1)
    label = np.random.default_rng(2).integers(0, 4, 60)
    values = np.where(label[:, None] == np.arange(4)[None], 1.0, -1.0).astype(np.float32)
    normal = [normalised(x).astype(np.float32) for x in (test, train)]
    found = votes(*normal, values, np.ones((60, 4), bool), **SETTINGS)
    shares = reference().fit(train, label).predict_proba(test)
    np.testing.assert_allclose((found + 1) / 2, shares, atol=1e-4)
    np.testing.assert_array_equal(found.argmax(1), shares.argmax(1))
    yes = np.random.default_rng(3).integers(0, 2, (60, 3))
    found = votes(*normal, (2.0 * yes - 1).astype(np.float32), np.ones((60, 3), bool), **SETTINGS)
    for each in range(3):
        expected = reference().fit(train, yes[:, each]).predict_proba(test)[:, 1]
        np.testing.assert_allclose((found[:, each] + 1) / 2, expected, atol=1e-4)


def test_what_is_not_known_does_not_vote():
    """NumPy loops from the definition."""
    train, test = normalised(drawn(30, 0)), normalised(drawn(40, 1))
    rng = np.random.default_rng(2)
    values, known = rng.choice([-1.0, 1.0], (30, 3)), rng.uniform(size=(30, 3)) < 0.4
    given = (x.astype(np.float32) for x in (test, train, values))
    found = votes(*given, known, **SETTINGS)
    for row, output in np.ndindex(found.shape):
        cosines = train @ test[row]
        nearest = [i for i in np.argsort(-cosines)[:K] if known[i, output]]
        weights = [math.exp(cosines[i] / TEMPERATURE) for i in nearest]
        total = sum(w * values[i, output] for w, i in zip(weights, nearest, strict=True))
        assert found[row, output] == pytest.approx(total / sum(weights) if weights else 0, abs=1e-4)


def test_votes_by_hand():
    """Two neighbours, at cosines of 1 and 0.5: the nearer one has e^0.5 times the weight of the other."""
    train = np.array([[1, 0], [0.5, math.sqrt(0.75)], [-1, 0]], np.float32)
    values = np.array([[1], [-1], [-1]], np.float32)
    given = (np.array([[1, 0]], np.float32), train, values, np.ones((3, 1), bool))
    found = votes(*given, neighbours=2, temperature=1.0)
    assert found[0, 0] == pytest.approx((math.exp(0.5) - 1) / (math.exp(0.5) + 1), abs=1e-5)
    alone = votes(*given, neighbours=9, temperature=1e-3)
    assert alone[0, 0] == pytest.approx(1)


def problem_of(kind, folder):
    dataset = open_dataset("generated_faces:size=48,train=48,validation=16,test=24", "nowhere")
    transforms = build_transforms([spec(CropToBox, size=SIZE, margin=0.2)])
    encoder = make_encoder()
    splits = {role: load(dataset.source(role), transforms, kind.needs) for role in ROLES}

    def make_task(seed):
        label_shape = splits["test"][kind.label].shape[1:]
        return kind(encoder, label_shape=label_shape, image_size=SIZE, meta=dataset.meta, rngs=nnx.Rngs(seed))

    metric, task = build(kind.metric(dataset.meta)), make_task(0)
    given = dict(encoder=encoder, make_task=make_task, task=task, metric=metric, splits=splits)
    return Problem(**given, source=[], transforms=transforms, folder=folder)


@pytest.mark.parametrize("kind", [Expression, Attributes])
def test_the_labels_of_a_subset_are_those_that_vote(kind, tmp_path):
    problem = problem_of(kind, tmp_path)
    assert isinstance(problem.task, Voted)
    rows = np.arange(1, 40)
    label = problem.splits["train"][kind.label]
    label[5] = -1
    outcome = KNN(**SETTINGS).prepare(problem)(rows, HELD_OUT, 0)
    assert outcome.selected == {"neighbours": K}
    assert outcome.weights is None
    extract = cache.extractor(problem.encoder, ())
    train, test = (
        np.asarray(extract(problem.splits[role]["image"])["pooled"], np.float64) for role in ("train", "test")
    )
    voters = np.delete(rows, 4)
    if kind is Expression:
        expected = reference().fit(train[voters], label[voters]).predict(test)
        np.testing.assert_array_equal(outcome.prediction, expected)
    else:
        yes = label[voters] > 0.5
        for each in np.flatnonzero(yes.any(0) & ~yes.all(0)):
            expected = reference().fit(train[voters], yes[:, each]).predict_proba(test)[:, 1]
            np.testing.assert_allclose((outcome.prediction[:, each] + 1) / 2, expected, atol=1e-3)
    few = KNN().prepare(problem)(rows[:3], HELD_OUT, 0)  # of which no more can vote
    assert few.selected == {"neighbours": 3}


def test_what_cannot_be_is_said(tmp_path):
    for settings in (dict(neighbours=0), dict(temperature=0.0)):
        with pytest.raises(ValueError, match="k-NN has at least 1 neighbour and a temperature above 0, not neigh"):
            KNN(**settings)
    intensity = problem_of(Intensity, tmp_path)
    assert not isinstance(intensity.task, Voted)
    with pytest.raises(ValueError, match="tasks with classes or yes-or-no labels, and Intensity of action units has"):
        KNN().prepare(intensity)
    detection = problem_of(Detection, tmp_path)
    detection.splits["train"]["action_units"][:] = np.nan
    with pytest.raises(ValueError, match="none of 4 training examples has a known label; nobody can vote"):
        KNN().prepare(detection)(np.arange(4), HELD_OUT, 0)
