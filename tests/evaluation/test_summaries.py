import math

import numpy as np
import pytest

from facerep_jax.config import plain, spec
from facerep_jax.evaluation.metrics import NME
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.results import Summary
from facerep_jax.evaluation.summaries import described, in_words, settings_of, summarised, words_of
from facerep_jax.evaluation.tasks.landmarks import Heatmaps
from facerep_jax.models.uper import UPerHead
from facerep_jax.models.vit import ViT
from tests.evaluation.problems import make_encoder


def test_a_metric_is_summed_up_over_subsets():
    metric = NME({"kind": "box"})
    landmarks = np.random.default_rng(0).uniform(0, 30, (5, 4, 2))
    split = {"id": list("abcde"), "landmarks": landmarks}
    exact, none = (metric.rows(landmarks, part) for part in (split, split))
    blank = none._replace(statistics=np.zeros_like(none.statistics))
    found = summarised(metric, [exact, exact])
    assert found["nme_box"] == Summary(0.0, 0.0, [0.0, 0.0])
    assert found["images"] == Summary(5.0, 0.0, [5.0, 5.0])
    assert summarised(metric, [exact, blank])["nme_box"] == Summary(None, None, [0.0, None])


def test_words_are_those_of_the_things_themselves(problem):
    probe = LinearProbe()
    words = words_of(problem.task, problem.metric, [probe])
    assert (words.task.title, words.task.drawn) == (problem.task.title, problem.task.drawn)
    assert words.protocols == {"linear_probe": probe.explains}
    assert (words.metrics, words.columns, words.counts) == (
        problem.metric.explains,
        problem.metric.columns,
        problem.metric.counts,
    )
    assert math.isclose(words.error_limit, problem.metric.error_limit)


@pytest.mark.parametrize("trained", [True, False])
def test_an_encoder_is_described_without_what_does_not_matter(trained):
    found = described(spec(ViT, variant="Nano/8", drop_path=0.3), make_encoder(), trained=trained)
    assert (found.name, found.kind) == ("ViT Nano/8", "pre-trained" if trained else "random")
    assert found.parameters == 32_256
    assert found.architecture["variant"] == "Nano/8"
    assert not {"drop_path", "patch_dropout", "unroll"} & set(found.architecture)


def test_specs_are_put_in_words():
    head = plain(spec(Heatmaps, dense=spec(UPerHead, channels=8), size=48))
    assert in_words(head).startswith("Heatmaps (dense UPerHead (channels 8")
    assert in_words({"call": "m:Linear"}) == "Linear"
    assert settings_of(spec(LinearProbe, steps=7))["steps"] == 7
    assert "call" not in settings_of(spec(LinearProbe))
