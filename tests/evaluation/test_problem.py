"""Problems of an outsider's kind: recognition, scored by pairs of a side table, whose labels are drawn by person."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from ml_collections import ConfigDict

from facerep_jax.config import build, spec
from facerep_jax.data.library import Dataset, Kept, open_dataset
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.conditions import Conditions, axes_of
from facerep_jax.evaluation.labels import draw, labelled
from facerep_jax.evaluation.problem import CONDITIONS, NONE, make_problem, take, truth_of
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.protocols.frozen import FrozenEncoder
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.evaluation.sets import Sets
from facerep_jax.evaluation.shared import Shared
from facerep_jax.evaluation.statistics import resampled
from facerep_jax.evaluation.summaries import summarised, words_of
from facerep_jax.evaluation.tables import write_statistics
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.typing import Metric, Rows, Task
from tests.evaluation.problems import SIZE, make_encoder

DRAWN = "generated_faces:size=48,train=24,validation=8,test=12,sessions=2,frames=2"


class Verification:
    """TAR at FAR of 0.2: the share of pairs of one person above the threshold that a fifth of other pairs passes."""

    headline, lower_is_better, columns = "tar_at_far_0.20", False, ("tar_at_far_0.20",)
    optional, unit, belongs_to, per_row, error_limit = (), "pair", "fold", False, None
    names, counts, explains = {}, ("pairs",), ("TAR: true acceptance rate.",)

    def rows(self, prediction, split):
        pairs, place = split["tables"]["pairs"], {name: row for row, name in enumerate(split["id"])}
        there = [i for i, two in enumerate(zip(pairs["first"], pairs["second"], strict=True)) if {*two} <= {*place}]
        first, second = ([str(pairs[side][i]) for i in there] for side in ("first", "second"))
        unit = prediction / np.linalg.norm(prediction, axis=1, keepdims=True)
        alike = (unit[[place[x] for x in first]] * unit[[place[x] for x in second]]).sum(1)
        ids = [f"{a},{b}" for a, b in zip(first, second, strict=True)]
        statistics = np.stack([alike, pairs["same"][there]], axis=1).astype(np.float64)
        return Rows(ids, [str(fold) for fold in pairs["fold"][there]], statistics)

    def compute(self, statistics, weights):
        order = np.argsort(-statistics[:, 0], kind="stable")
        same, counted = statistics[order, 1] > 0, weights[:, order]
        accepted, passed = (np.cumsum(counted * of, axis=1) for of in (same, ~same))
        allowed = passed <= 0.2 * passed[:, -1:]
        return {
            "tar_at_far_0.20": np.where(allowed, accepted, 0).max(1) / accepted[:, -1],
            "pairs": weights.sum(1),
        }


class Recognition(Landmarks):
    """Persons by their pooled feature."""

    title, drawn, label, needs = "Recognition", "the face", "identity", ("image", "identity")
    tables, drawn_by = ("pairs",), "identity"

    def __init__(self, encoder, *, taps, image_size, meta, rngs):
        given = dict(taps=taps, image_size=image_size, meta=meta, rngs=rngs)
        super().__init__(encoder, label_shape=(68, 2), **given)  # a head that nothing reads

    @staticmethod
    def metric(meta):
        return spec(Verification)


class ZeroShot(Recognition):
    splits = ("test",)


class Pooled:
    """Predicts pooled features; nothing is learnt."""

    name, explains, trains_encoder, compares = "pooled", "Pooled features are compared.", False, False

    def prepare(self, problem):
        seen = extractor(problem.encoder, ())(problem.splits["test"]["image"])
        return lambda chosen, held_out, seed: Outcome(seen["pooled"].astype(np.float32), {})


class WithPairs(Dataset):
    def table(self, name):
        if name != "pairs":
            raise ValueError(f"no table {name!r}")
        examples = [(record["id"].decode(), int(record["identity"])) for record in self.source("test")]
        two = [(a, b) for i, a in enumerate(examples) for b in examples[i + 1 :]]
        return {
            "first": np.array([a[0] for a, _ in two]),
            "second": np.array([b[0] for _, b in two]),
            "same": np.array([a[1] == b[1] for a, b in two]),
            "fold": np.arange(len(two)) % 10,
        }


@pytest.fixture(scope="module")
def dataset():
    return WithPairs(**vars(open_dataset(DRAWN, "nowhere")))


def problem_of(dataset, folder, task=Recognition, splits=(), shared=None, **over):
    crop = (spec(CropToBox, size=SIZE, margin=0.2),)
    data = dict(splits=dict(splits), transforms=crop, augmentations=crop, size=SIZE, crop="box")
    config = ConfigDict(dict(task=spec(task, taps=(0.5, 1.0)), selection="validation", data=data) | over)
    sets = dataset if isinstance(dataset, Sets) else Sets(dataset, dataset)
    return make_problem(config, sets, make_encoder(), folder, shared=shared)


def test_recognition_goes_the_whole_way(dataset, tmp_path):
    problem = problem_of(dataset, tmp_path)
    assert isinstance(problem.task, Task)
    assert isinstance(problem.metric, Metric)
    assert isinstance(Pooled(), Protocol)
    labels = draw(problem, 0.5, (0, 1), least=1)
    for subset in labels:  # whole persons
        people = problem.splits["train"]["identity"]
        assert not {*people[subset.train]} & {*np.delete(people, subset.train)}
    problem, labels = labelled(problem, labels)
    learn = Pooled().prepare(problem)
    predictions = [learn(subset.train, subset.validation, subset.seed).prediction for subset in labels]
    rows = [problem.metric.rows(each, truth_of(problem.splits["test"])) for each in predictions]
    assert len(rows[0].ids) == 12 * 11 // 2
    summary = summarised(problem.metric, rows)["tar_at_far_0.20"]
    assert 0 <= summary.mean <= 1
    assert summary.std == 0  # nothing was learnt
    write_statistics(tmp_path / "examples.parquet", {"encoder": rows})
    assert len(pq.read_table(tmp_path / "examples.parquet")) == 2 * 66
    assert words_of(problem.task, problem.metric, [Pooled()]).unit == "pair"

    def value(statistics, weights):
        return problem.metric.compute(statistics, weights)[problem.metric.headline]

    draws = resampled(np.stack([[each.statistics for each in rows]]), value, units=rows[0].units, resamples=100)
    assert draws.drawn == 10  # folds
    np.testing.assert_array_equal(draws.values, [[summary.mean] * 2])
    assert 0 < draws.draws.std() < 0.5


def test_tar_at_far_by_hand():
    statistics = np.array([[0.9, 1], [0.8, 0], [0.7, 1], [0.6, 0], [0.5, 1], [0.4, 0], [0.3, 0], [0.2, 0]])
    weights = np.ones((2, 8))
    weights[1, 1] = 2  # the closest of other pairs is drawn twice
    got = build(spec(Verification)).compute(statistics, weights)
    np.testing.assert_allclose(got["tar_at_far_0.20"], [2 / 3, 1 / 3])
    np.testing.assert_array_equal(got["pairs"], [8, 9])


def test_some_examples_have_all_tables_and_pairs_among_themselves(dataset, tmp_path):
    test = problem_of(dataset, tmp_path).splits["test"]
    some = take(test, np.arange(4))
    assert some["id"] == test["id"][:4]
    assert some["tables"] is test["tables"]
    assert len(Verification().rows(np.eye(4), truth_of(some)).ids) == 6


def test_a_task_names_the_splits_that_it_needs(dataset, tmp_path):
    problem = problem_of(dataset, tmp_path, task=ZeroShot)
    assert problem.splits["train"] is problem.splits["validation"] is NONE
    (labels,) = draw(problem, 1.0, (0,), least=1)
    assert len(labels.train) == len(labels.validation) == len(problem.source) == 0
    assert Pooled().prepare(problem)(labels.train, labels.validation, 0).prediction.shape == (12, 32)


def test_roles_are_mapped_to_the_splits_of_the_data_set(dataset, tmp_path):
    problem = problem_of(dataset, tmp_path, splits={"test": "validation"})
    assert problem.splits["test"]["id"] == problem.splits["validation"]["id"]
    with pytest.raises(ValueError, match=r"needs the splits train, other, test; 'other' of .* is empty: train \(24\)"):
        problem_of(dataset, tmp_path, splits={"validation": "other"})
    last = problem_of(dataset, tmp_path, splits={"validation": "other"}, selection="last")
    assert last.splits["validation"] is NONE


def test_training_and_validation_examples_may_be_of_another_set(dataset, tmp_path):
    other = open_dataset("generated_faces:world=evaluate,size=48,train=10,validation=4,test=2", "nowhere")
    shared, sets = Shared(), Sets(dataset, other)
    problem = problem_of(sets, tmp_path, task=Landmarks, shared=shared)
    for role, source in (("train", other), ("validation", other), ("test", dataset)):
        assert problem.splits[role]["id"] == [record["id"].decode() for record in source.source(role)]
    assert [record["id"] for record in problem.source] == [record["id"] for record in other.source("train")]
    alone = problem_of(dataset, tmp_path, task=Landmarks, shared=shared).images
    assert problem.images["test"] == alone["test"]  # features of these are shared
    assert {problem.images[role] for role in ("train", "validation")}.isdisjoint(alone.values())
    with pytest.raises(ValueError, match=r"needs the splits none, test; 'none' of 'generated_faces:world=evaluate,"):
        problem_of(sets, tmp_path, task=Landmarks, splits={"train": "none"})
    with pytest.raises(ValueError, match="but the task learns nothing from a data set"):
        problem_of(sets, tmp_path, task=ZeroShot)


class Fewer(Dataset):
    def source(self, split):
        return Kept({**record, "landmarks": record["landmarks"][:60]} for record in super().source(split))


def test_another_number_of_landmarks_is_refused(dataset, tmp_path):
    other = Fewer(**vars(open_dataset(DRAWN.replace("size=48", "size=40"), "nowhere")))
    message = r"the shape of landmarks is \(60, 2\) in the one and \(68, 2\) in the other"
    with pytest.raises(ValueError, match=message):
        problem_of(Sets(dataset, other), tmp_path, task=Landmarks)


@pytest.mark.parametrize(
    ("splits", "selection", "warning"),
    [
        ({}, "validation", ""),
        ({"test": "train"}, "last", "test examples are learnt from: data.splits has 'train' for both; "),
        ({"test": "validation"}, "validation", "test examples are chosen by: data.splits has 'validation' for both; "),
        ({"test": "validation"}, "last", ""),
    ],
)
def test_a_test_split_that_also_teaches_or_chooses_is_warned_of(dataset, tmp_path, caplog, splits, selection, warning):
    problem_of(dataset, tmp_path, splits=splits, selection=selection)
    assert caplog.messages == ([f"{warning}no fair number comes of it"] if warning else [])


def test_what_a_metric_may_read_is_loaded_if_it_is_there(dataset, tmp_path):
    assert "bbox" not in problem_of(dataset, tmp_path).splits["test"]
    assert {"bbox", "landmarks_scale"} <= set(problem_of(dataset, tmp_path, task=Landmarks).splits["test"])


class OfFirstFrames(Recognition):
    """Learns from the first of the two frames of each session alone, and is chosen by `Landmarks`' metric."""

    @staticmethod
    def usable(split, role):
        assert role in ("train", "validation")
        return np.arange(0, len(split["id"]), 2)

    validation_metric = Landmarks.metric


def test_a_task_says_what_it_can_learn_from_and_what_chooses(dataset, tmp_path):
    whole, problem = problem_of(dataset, tmp_path), problem_of(dataset, tmp_path, task=OfFirstFrames)
    assert problem.splits["train"]["id"] == whole.splits["train"]["id"][::2]
    assert len(problem.source) == 12
    assert problem.source[1]["id"].decode() == whole.splits["train"]["id"][2]
    assert problem.left_out == {"train": 12, "validation": 4}
    assert len(problem.splits["test"]["id"]) == 12
    assert (problem.metric.headline, problem.validation_metric.headline) == ("tar_at_far_0.20", "nme_box")
    assert whole.validation_metric.headline == "tar_at_far_0.20"


def test_sheets_and_gradient_descent_need_nothing_of_tables(dataset, tmp_path):
    problem = problem_of(dataset, tmp_path, task=OfPairs)
    learn = FrozenEncoder(steps=1, rounds=1, batch_size=4).prepare(problem._replace(selection="last"))
    assert learn(np.arange(8), np.arange(0), 0).prediction.shape == (12, 68, 2)


class OfPairs(Landmarks):
    tables = ("pairs",)


def test_a_split_that_is_shared_is_broken_down_by_what_each_asks_for(dataset, tmp_path):
    shared = Shared()

    def asked(*names):
        conditions = Conditions(axes_of(dataset, names))
        crop = (spec(CropToBox, size=SIZE, margin=0.2),)
        data = dict(splits={}, transforms=crop, augmentations=crop, size=SIZE, crop="box")
        config = ConfigDict(dict(task=spec(Recognition, taps=(0.5, 1.0)), selection="validation", data=data))
        given = dict(shared=shared, conditions=conditions)
        return make_problem(config, Sets(dataset, dataset), make_encoder(), tmp_path, **given).splits["test"]

    turned, large = asked("yaw"), asked("face size")
    assert turned["image"] is large["image"]
    assert not np.allclose(turned[CONDITIONS], large[CONDITIONS])
    assert np.allclose(asked("yaw", "face size")[CONDITIONS], np.hstack([turned[CONDITIONS], large[CONDITIONS]]))
