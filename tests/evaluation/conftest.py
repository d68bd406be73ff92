"""Problems of landmarks that all protocols share."""

import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.data.library import Kept, open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.problem import ROLES, Problem
from facerep_jax.evaluation.tasks.landmarks import Landmarks, Regression
from tests.evaluation.problems import SIZE, Counting, make_encoder


@pytest.fixture(scope="session")
def problem(tmp_path_factory):
    dataset = open_dataset("generated_faces:size=48,train=48,validation=16,test=24", "nowhere")
    transforms = build_transforms([spec(CropToBox, size=SIZE, margin=0.2)])
    metric, encoder = build(Landmarks.metric(dataset.meta)), make_encoder()
    splits = {s: load(dataset.source(s), transforms, Landmarks.needs, optional=metric.optional) for s in ROLES}

    def make_task(seed):
        settings = dict(taps=(0.5, 1.0), label_shape=(68, 2), image_size=SIZE, meta=dataset.meta)
        return Landmarks(encoder, **settings, rngs=nnx.Rngs(seed))

    return Problem(
        encoder=encoder,
        make_task=make_task,
        task=make_task(0),
        metric=metric,
        splits=splits,
        source=Kept(dataset.source("train")),  # drawn once
        transforms=transforms,
        folder=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="session")
def counting(problem):
    def make_task(seed):
        head = spec(Regression, cells=1)
        settings = dict(taps=(0.5,), head=head, label_shape=(68, 2), image_size=SIZE, meta={})
        return Counting(problem.encoder, **settings, rngs=nnx.Rngs(seed))

    return problem._replace(make_task=make_task, task=make_task(0), selection="last")
