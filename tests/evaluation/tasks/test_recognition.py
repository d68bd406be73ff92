"""Planted and seen red: a softmax over persons without a labelled image, a margin taken from the other classes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import build, spec
from facerep_jax.evaluation import learnt
from facerep_jax.evaluation.network import Network, look_at_given
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.protocols.ridge import head_of
from facerep_jax.evaluation.tasks import recognition
from facerep_jax.evaluation.tasks.knn import KNN
from facerep_jax.evaluation.tasks.recognition import DrawnPairs, LearntDrawnPairs, Persons, Recognition
from facerep_jax.models.margins import AdaFace, ArcFace, CosFace
from facerep_jax.models.pooled import Layers
from facerep_jax.typing import Choosy, Task, Validated
from tests.evaluation.tasks.pooled_features import loss_of, make_encoder, pictures, seen

TASKS = (Recognition, DrawnPairs, KNN)


@pytest.mark.parametrize("kind", TASKS)
def test_pooled_features_are_compared_and_nothing_is_learnt(kind):
    task = kind(make_encoder(), image_size=32, meta={}, rngs=nnx.Rngs(0))
    assert isinstance(task, Task)
    assert task.splits == ("test",)
    np.testing.assert_array_equal(task.predict(seen(3), {}), seen(3)["image"].pooled)
    with pytest.raises(ValueError, match=f"{kind.title} compares features as they are"):
        loss_of(task, seen(3), {"identity": jnp.zeros(3)})


def test_pairs_come_from_the_table_or_are_drawn():
    assert (Recognition.tables, Recognition.needs) == (("pairs",), ("image",))
    assert (DrawnPairs.tables, DrawnPairs.needs) == ((), ("image", "identity"))
    assert build(Recognition.metric({})).table == "pairs"
    assert build(DrawnPairs.metric({})).table == ""


def test_the_baseline_does_not_see_brightness():
    images = pictures(3) // 2
    found = Recognition.baselines({}, {}, {"image": images}, {})["pixels"]
    brighter = KNN.baselines({}, {}, {"image": images + 40}, {})["pixels"]
    np.testing.assert_allclose(found, brighter, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    flat = Recognition.baselines({}, {}, {"image": np.full((2, 32, 32, 3), 7, np.uint8)}, {})["pixels"]
    assert not flat.any()


PEOPLE, IMAGES = 6, 4
META = {"identities": [f"person {number}" for number in range(PEOPLE + 2)]}  # two of them in no training image
FORMS = (
    recognition.LearntRecognition,
    recognition.LearntDrawnPairs,
    recognition.LearntTemplates,
    recognition.LearntDrawnTemplates,
    recognition.LearntSearch,
    recognition.LearntDrawnSearch,
)


def learner(kind=LearntDrawnPairs, meta=META, **settings):
    return kind(make_encoder(), embedding=8, image_size=32, meta=meta, rngs=nnx.Rngs(0), **settings)


def persons():
    return jnp.asarray(np.repeat(np.arange(PEOPLE), IMAGES), jnp.int32)


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
def test_the_loss_is_a_margin_softmax_over_the_persons_of_the_labels(kind):
    """NumPy in float64 from equation 4 of CosFace and equation 3 of ArcFace."""
    rng = np.random.default_rng(0)
    told = Persons(5, 8, spec(kind, scale=8.0), rngs=nnx.Rngs(0))
    directions, x = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
    told.directions.set_value(jnp.asarray(directions, jnp.float32))
    labels = np.array([0, 3, -1, 4, 1, 3])  # of nobody, and of 1, who is not among those that are told apart
    told.fit(jnp.array([0, 3, 4, -1, 3]))
    loss, metrics = told(jnp.asarray(x, jnp.float32), jnp.asarray(labels))

    there, terms, hits = [0, 3, 4], [], []
    for vector, label in zip(x, labels, strict=True):
        if label not in there:
            continue
        cosines = {k: directions[k] @ vector / np.linalg.norm(directions[k]) / np.linalg.norm(vector) for k in there}
        own = cosines[label] - 0.4 if kind is CosFace else math.cos(math.acos(cosines[label]) + 0.5)
        others = sum(math.exp(8 * (cosine - own)) for k, cosine in cosines.items() if k != label)
        terms.append(math.log1p(others))
        hits.append(cosines[label] == max(cosines.values()))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean(hits))
    assert float(metrics["known"]) == pytest.approx(4 / 6)


@pytest.mark.parametrize("kind", FORMS)
def test_each_form_is_a_task_that_learns_from_persons(kind):
    compared = kind.__mro__[2]
    task = learner(kind)
    assert isinstance(task, Task)
    assert isinstance(task, Choosy)
    assert isinstance(task, Validated)
    assert (task.splits, task.drawn_by, task.label) == (("train", "validation", "test"), "identity", "identity")
    assert {*task.needs} == {*compared.needs, "identity"}
    assert (task.tables, kind.metric({})) == (compared.tables, compared.metric({}))
    assert build(task.validation_metric({})).table == ""
    assert task.title.startswith("Learnt")


@pytest.mark.parametrize("settings", [{}, dict(taps=(0.5, 1.0), head=spec(Layers)), dict(margin=spec(AdaFace))])
def test_persons_are_told_apart_by_heart(settings):
    task, features, labels = learner(**settings), seen(PEOPLE * IMAGES), persons()
    task.calibrate(features, {"identity": labels})
    graph, params, rest = nnx.split(task, nnx.Param, ...)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss(params):
            return loss_of(nnx.merge(graph, params, rest, copy=True), features, {"identity": labels})

        gradient, metrics = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, metrics

    state = optimizer.init(params)
    for _ in range(150):
        params, state, metrics = step(params, state)
    assert float(metrics["accuracy"]) > 0.95
    found = np.asarray(nnx.merge(graph, params, rest).predict(features, {}))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    same = labels[:, None] == labels[None]
    assert (found @ found.T)[same].mean() > 0.5 + (found @ found.T)[~same].mean()


def test_what_is_kept_has_no_persons_and_predicts_the_same():
    task, features = learner(), seen(PEOPLE * IMAGES)
    task.calibrate(features, {"identity": persons()})
    network = Network(None, task, look_at_given)
    split = {"image": np.zeros((2, 32, 32, 3), np.uint8), "identity": np.zeros(2, np.int32)}
    given = dict(encoder=make_encoder(), task=task, splits={"test": split})
    problem = Problem(**given, make_task=None, metric=None, source=[], transforms=())
    kept = learnt.learnt_by(problem, LinearProbe(), network.weights(task), 0, META, learnt.LEARNT)
    assert not [path for path in kept.arrays if "persons" in path]
    assert "identities" not in kept.meta
    again = kept.task(ConfigDict({"task": spec(LearntDrawnPairs, embedding=8)}), make_encoder())
    assert again.persons is None
    np.testing.assert_array_equal(again.predict(features, {}), task.predict(features, {}))
    assert len(again.named(np.asarray(again.predict(features, {}))[0], {})["embedding"]) == 8
    with pytest.raises(ValueError, match="the meta of the data set names no `identities`"):
        again.calibrate(features, {"identity": persons()})


def test_what_nothing_can_be_learnt_from_is_refused_in_a_line():
    def usable(*identity, role="train"):
        return LearntDrawnPairs.usable({"identity": np.array(identity)}, role).tolist()

    assert usable(0, -1, 0, 3) == [0, 2, 3]
    assert usable(-1, 5, role="validation") == [1]
    with pytest.raises(ValueError, match="the 2 training images are of no known person, and at least two are needed"):
        usable(-1, -1)
    with pytest.raises(ValueError, match="the 3 training images are of one known person, and at least two are needed"):
        usable(4, 4, -1)
    with pytest.raises(ValueError, match="each of 3 training persons has one image, from which nothing is learnt"):
        usable(0, 1, 2, -1)
    with pytest.raises(ValueError, match="learns to tell persons apart, and 3 labels are of 1"):
        learner().calibrate(seen(3), {"identity": jnp.array([2, 2, -1])})
    with pytest.raises(ValueError, match=r"protocol=ridge solves for a linear head, .* and Projection is none"):
        head_of(learner())
