"""Scores of an encoder while it is trained; that they change nothing is in tests/test_pretrain.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.pretrain import farl_nano
from facerep_jax.data.library import open_dataset
from facerep_jax.evaluation.monitor import Monitor, labelled, scores_in
from facerep_jax.evaluation.probes import PROBES, Seen
from facerep_jax.models.vit import ViT
from facerep_jax.train.collapse import measures
from facerep_jax.train.sharding import make_mesh
from facerep_jax.train.state import Model, TrainState, split
from facerep_jax.typing import View

FACES = "generated_faces:size=48,train=30,validation=20,test=0"


def config(**changes):
    whole = farl_nano.get_config().evaluate
    for name, value in ({"every": 4, "dataset": FACES, "images": 24} | changes).items():
        whole[name] = value
    return whole


@pytest.fixture(scope="module")
def encoder():
    sizes = dict(image_size=32, width=16, depth=2, heads=2)
    return ViT(variant="Nano/8", **sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def graph_and_state(encoder):
    graph, params, variables, frozen = split(Model(encoder, None))
    average = {"params": jax.tree.map(lambda x: x * 3, params), "variables": {}}
    return graph, TrainState(jnp.zeros((), jnp.int32), params, variables, {}, average), frozen


def test_scores_are_those_of_the_probes(encoder, graph_and_state):
    """On eight devices, to which twenty images do not divide, and of the weights that the config names."""
    graph, state, frozen = graph_and_state
    monitor = Monitor(config(), graph, 32, make_mesh({"fsdp": -1}), average=True)
    found = monitor(state, frozen)

    splits, meta = labelled(config(), 32)
    assert {role: len(data["id"]) for role, data in splits.items()} == {"train": 24, "validation": 20}
    seen, look = {}, nnx.jit(lambda encoder, images: encoder(View(images, taps=(1,))))
    for role, data in splits.items():
        features = look(encoder, jnp.asarray(data["image"]))
        grid = np.asarray(features.maps[1]).reshape(len(data["id"]), -1)  # four cells a side are not averaged
        seen[role] = Seen(np.asarray(features.pooled), grid, data, meta)
    assert found == pytest.approx(
        {
            **{f"evaluate/{name}": value for name, value in measures(seen["validation"].pooled).items()},
            **{f"evaluate/{name}": probe.value(*seen.values()) for name, probe in PROBES.items()},
        },
        rel=1e-3,
    )
    monitor.weights, rank = "ema", "evaluate/effective_rank"
    assert monitor(state, frozen)[rank] != pytest.approx(found[rank], rel=0.01)


def test_they_are_due_before_the_first_step_and_at_multiples():
    monitor = Monitor(config(), None, 32, make_mesh({"fsdp": -1}), average=False)
    assert [step for step in range(10) if monitor.due(step)] == [0, 4, 8]
    never = Monitor(config(every=0, dataset=""), None, None, make_mesh({"fsdp": -1}), average=False)
    assert not any(map(never.due, range(10)))


def test_without_a_validation_split_half_of_the_training_examples_are_scored():
    splits, _ = labelled(config(dataset="generated_faces:size=48,train=12,validation=0", images=5), 32)
    assert not {*splits["train"]["identity"]} & {*splits["validation"]["identity"]}
    first = open_dataset("generated_faces:size=48,train=12,validation=0", "").source("train")
    assert {*splits["train"]["id"], *splits["validation"]["id"]} == {first[row]["id"].decode() for row in range(10)}


@pytest.mark.parametrize(
    ("changes", "image_size", "said"),
    [
        ({"dataset": ""}, 32, "evaluate.every needs a labelled set: give --config.evaluate.dataset=FAMILY/NAME"),
        ({"every": -1}, 32, "evaluate.every is a number of steps, or 0 for never, not -1"),
        ({"weights": "ema"}, 32, "evaluate.weights=ema needs an average of the weights: set --config.ema"),
        ({"weights": "mean"}, 32, "evaluate.weights is params or ema, not 'mean'"),
        ({"crop": "face"}, 32, "crop is box, whole or aligned, not 'face'"),
        ({"images": 1}, 32, "evaluate.images is at least 2, not 1"),
        ({"dataset": "generated_faces:size=48,train=0,test=4"}, 32, "has no training examples to fit probes on"),
        ({}, None, "evaluate.every needs an objective that trains on images"),
    ],
)
def test_what_cannot_be_scored_is_refused(changes, image_size, said):
    with pytest.raises(ValueError, match=said):
        Monitor(config(**changes), None, image_size, make_mesh({"fsdp": -1}), average=False)


def test_titles_are_there_for_what_is_scored():
    names = ["evaluate/landmarks", "evaluate/spread", "loss"]
    assert [name for name, _ in scores_in(names)] == names[:2]
