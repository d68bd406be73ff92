"""A stranger's SwAV goes the whole way of a pre-training.

Planted and seen red: a pass for each crop; prototypes that are trained from the first step.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax import schedules
from facerep_jax.config import spec
from facerep_jax.train.model import model_maker
from facerep_jax.train.step import look_at_views
from facerep_jax.typing import Features
from tests import processes
from tests.contracts.configs import swav_like as config
from tests.contracts.swav_like import CROPS, SwAV, larc_sgd, normalised, sinkhorn
from tests.contracts.whole_way import (
    assert_kill_and_resume_change_nothing,
    assert_one_device_comes_to_the_same,
    pretrain,
    probe,
)

CONFIG = "tests/contracts/configs/swav_like.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrain(CONFIG, tmp_path_factory.mktemp("swav"))


def test_eight_crops_take_one_pass_a_resolution_and_statistics_are_over_all_of_them():
    make = model_maker(config.get_config())
    calls = []

    def look(large, small, keys):
        model = make()

        class Counted(type(model.encoder)):
            def __call__(self, view, **keywords):
                calls.append(view.image.shape)
                return super().__call__(view, **keywords)

        model.encoder.__class__ = Counted
        batch = {"image_large": large, "image_small": small}
        return look_at_views(model.encoder, model.objective, batch, keys)[1]

    shapes = [jax.ShapeDtypeStruct((4, v, size, size, 3), np.uint8) for v, size in ((2, 32), (6, 16))]
    seen = jax.eval_shape(look, *shapes, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4)))
    assert sorted(calls) == [(8, 32, 32, 3), (24, 16, 16, 3)]
    assert len(seen) == 8


def test_sinkhorn_by_its_definition():
    scores = np.random.default_rng(0).normal(size=(6, 3))
    q = np.exp(scores)
    for _ in range(3):
        q = q / q.sum(0) / 3
        q = q / q.sum(1, keepdims=True)
    np.testing.assert_allclose(sinkhorn(jax.numpy.asarray(scores, np.float32), np.ones(6, bool)), q, rtol=1e-4)


def test_views_of_others_are_not_its_own():
    """As one term among others it is given theirs too."""
    encoder = nnx.eval_shape(model_maker(config.get_config())).encoder
    keys = jax.random.split(jax.random.key(0), 4)
    pooled = np.random.default_rng(0).normal(size=(9, 4, encoder.width)).astype(np.float32)
    seen = {name: Features(x, x[:, None]) for name, x in zip((*CROPS, "image"), jnp.asarray(pooled), strict=True)}

    def loss(names):
        some = {name: seen[name] for name in names}
        objective = SwAV(encoder, rngs=nnx.Rngs(params=0))
        return objective.loss(some, some, {}, encoder=encoder, step=jnp.int32(0), rng=keys)[0]

    assert loss(CROPS) == loss(seen)


def test_larc_sgd_by_its_definition():
    """1708.03888, equation 6, with momentum: v = momentum * v + trust * |p| / (|g| + decay * |p|) * (g + decay * p)."""
    rng = np.random.default_rng(0)
    p, rate, decay, trust = rng.normal(size=(3, 4)), 0.5, 0.1, 0.02
    still = spec(schedules.warmup_cosine, last=rate)
    optimizer = larc_sgd(learning_rate=rate, schedule=still, momentum=0.9, weight_decay=decay, trust=trust, steps=9)
    ours, v = {"w": jnp.asarray(p, jnp.float32)}, 0.0
    state = optimizer.transform.init(ours)
    for _ in range(2):
        g = rng.normal(size=p.shape)
        updates, state = optimizer.transform.update({"w": jnp.asarray(g, jnp.float32)}, state, ours)
        ours = optax.apply_updates(ours, updates)
        size, slope = np.linalg.norm(p), np.linalg.norm(g)
        v = 0.9 * v + trust * size / (slope + decay * size) * (g + decay * p)
        p = p - rate * v
        np.testing.assert_allclose(ours["w"], p, rtol=1e-5)


@pytest.mark.slow
def test_prototypes_are_frozen_for_two_steps(run):
    """Before each step they are made of length one, which alone moves them."""
    drawn = np.asarray(nnx.state(model_maker(config.get_config())().objective)["prototypes"][...])
    two, four = (processes.saved(run, step)["params/objective/prototypes"] for step in (2, 4))
    np.testing.assert_allclose(two, normalised(drawn, axis=0), rtol=1e-5)
    assert np.abs(normalised(four, axis=0) - normalised(drawn, axis=0)).max() > 1e-6


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal_queue_included(run, tmp_path):
    assert np.abs(processes.saved(run, 4)["variables/objective/queue"]).max() > 0
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path)


@pytest.mark.slow
def test_eight_devices_equal_one(run, tmp_path):
    assert_one_device_comes_to_the_same(CONFIG, run, tmp_path)


@pytest.mark.slow
def test_it_is_probed(run, tmp_path):
    assert probe(run, tmp_path, "--config.data.size=48")["encoder"]["name"].startswith("Residual")
