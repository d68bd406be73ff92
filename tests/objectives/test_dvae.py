"""Planted and seen red: one key for the whole batch, the sign of the log scale, the divergence not divided by pixel
values, temperature and weight that do not move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import face_world, schedules
from facerep_jax.config import spec
from facerep_jax.models.dvae import DVAEEncoder, unmap_pixels
from facerep_jax.models.tokenizer import DVAE
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.dvae import DiscreteVAE, gumbel, logit_laplace
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train import optim
from facerep_jax.train.state import Model, initial, merge, split
from facerep_jax.train.step import make_step
from facerep_jax.typing import View

CODES, STEPS, PATCH = 32, 160, 4
SIZES = dict(variant="Nano", groups=3, codes=CODES)


def make_encoder():
    return DVAEEncoder(**SIZES, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


def make():
    encoder = make_encoder()
    temperature = spec(schedules.cosine, first=1.0, last=1 / 16, duration_share=0.5)
    kl_weight = spec(schedules.cosine, first=0.0, last=6.6, duration_share=0.1)
    settings = dict(embedding=32, temperature=temperature, kl_weight=kl_weight, steps=STEPS)
    return Model(encoder, DiscreteVAE(encoder, **settings, rngs=nnx.Rngs(params=1)))


@pytest.fixture(scope="module")
def images():
    return np.stack([face_world.face(0, index, 32)["image"] for index in range(8)])


def train(make, batch, frozen=None, *, warmup_steps, **settings):
    """The metrics of each step, and the state after."""
    schedule = spec(schedules.warmup_cosine, warmup_steps=warmup_steps)
    optimizer = optim.adamw(**settings, schedule=schedule, weight_decay=1e-4, clip_norm=1.0)
    state = jax.jit(lambda: initial(make, optimizer.transform.init, ema=False))()
    graph, _, _, given = split(nnx.eval_shape(make))
    step = jax.jit(make_step(graph, optimizer.transform, seed=0))
    history = []
    for _ in range(settings["steps"]):
        state, metrics = step(state, given if frozen is None else frozen, batch)
        history.append(metrics)
    return history, state


@pytest.fixture(scope="module")
def trained(images):
    batch = {"image": images, "position": np.arange(8, dtype=np.uint32)}
    history, state = train(make, batch, learning_rate=1e-2, warmup_steps=8, steps=STEPS)
    return history, merge(split(nnx.eval_shape(make))[0], state.params, {}, {})


@jax.jit
def codes_of(model, images):
    return model.encoder(View(images)).tokens.argmax(-1)


def numpy_logit_laplace(x, mean, scale):
    """The negative log of the density of x where log(x / (1 - x)) is Laplace, one number at a time."""
    y = np.log(x / (1 - x))
    return -np.log(np.exp(-abs(y - mean) / scale) / (2 * scale) * (1 / (x * (1 - x))))


def test_likelihood_is_a_density_and_that_of_the_definition():
    rng = np.random.default_rng(0)
    x, mean, log_scale = (
        rng.uniform(0.1, 0.9, (1, 4, 4, 3)),
        rng.normal(size=(1, 4, 4, 3)),
        rng.normal(size=(1, 4, 4, 3)),
    )
    ours = logit_laplace(*(jnp.asarray(v, jnp.float32) for v in (x, mean, log_scale)))
    np.testing.assert_allclose(ours, numpy_logit_laplace(x, mean, np.exp(log_scale)), rtol=1e-4, atol=1e-5)
    grid = jnp.asarray((np.arange(30_000, dtype=np.float32) + 0.5).reshape(1, 100, 100, 3) / 30_000)
    density = np.exp(-np.asarray(logit_laplace(grid, jnp.full_like(grid, 0.3), jnp.full_like(grid, -0.5))))
    assert density.mean() == pytest.approx(1, abs=1e-2)


def test_loss_is_the_evidence_bound_by_numpy(images):
    """At a temperature, weight and noise of a step in the middle."""
    model, step = make(), jnp.int32(10)
    rng = jax.random.split(jax.random.key(3), 2)
    batch = {"image": jnp.asarray(images[:2])}

    @jax.jit
    def run(model):
        seen = {"image": model.encoder(View(batch["image"]))}
        loss, metrics = model.objective.loss(seen, {}, batch, encoder=model.encoder, step=step, rng=rng)
        temperature = 1 / 16 + 15 / 16 * (1 + jnp.cos(jnp.pi * step / (STEPS // 2))) / 2
        weights = jax.nn.softmax((seen["image"].tokens + gumbel(rng, (64, CODES))) / temperature)
        return loss, metrics, seen["image"].tokens, model.objective.decoder(weights.reshape(2, 8, 8, CODES))

    loss, metrics, logits, maps = (np.asarray(x, np.float64) if isinstance(x, jax.Array) else x for x in run(model))
    x = 0.8 * images[:2] / 255 + 0.1
    reconstruction = numpy_logit_laplace(x, maps[..., :3], np.exp(maps[..., 3:])).sum((1, 2, 3)).mean()
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    kl = (q * np.log(q * CODES)).sum((1, 2)).mean()
    weight = 6.6 * (1 - np.cos(np.pi * 10 / 16)) / 2
    assert loss == pytest.approx((reconstruction + weight * kl) / x[0].size, rel=1e-4)
    assert metrics["kl"] == pytest.approx(kl / 64, rel=1e-3)
    assert metrics["kl_weight"] == pytest.approx(weight, rel=1e-5)
    used = np.bincount(logits.argmax(-1).ravel(), minlength=CODES) / 128
    assert metrics["codes_used"] == (used > 0).sum()
    assert metrics["perplexity"] == pytest.approx(np.exp(-(used[used > 0] * np.log(used[used > 0])).sum()), rel=1e-4)


def test_schedules_are_dall_es_unless_told_otherwise():
    objective = nnx.eval_shape(lambda: DiscreteVAE(make_encoder(), steps=10, rngs=nnx.Rngs(params=0)))
    values = [float(objective.temperature(step)) for step in (0, 75_000, 150_000, 1_000_000)]
    assert values == pytest.approx([1, (1 + 1 / 16) / 2, 1 / 16, 1 / 16])
    assert [float(objective.kl_weight(step)) for step in (0, 2_500, 5_000, 6_000)] == pytest.approx([0, 3.3, 6.6, 6.6])


def test_noise_follows_the_example_and_not_the_row():
    rng = jax.random.split(jax.random.key(0), 4)
    noise = np.asarray(gumbel(rng, (3, 500)))
    np.testing.assert_array_equal(gumbel(rng[::-1], (3, 500)), noise[::-1])
    assert len(np.unique(noise[:, 0, 0])) == 4
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.08)
    assert noise.std() == pytest.approx(np.pi / 6**0.5, abs=0.08)


@pytest.mark.slow
def test_a_tiny_one_learns_faces_by_more_than_a_few_codes(trained, images):
    """Against the mean colour of each image and of all: what a decoder knows that no code tells anything."""
    history, model = trained
    truth = images / 255
    mean_colour = np.square(truth - truth.mean((1, 2), keepdims=True)).mean()
    assert history[-1]["reconstruction"] < history[0]["reconstruction"] - 0.5
    codes = codes_of(model, images)
    assert len(np.unique(codes)) >= 8
    one_hot = jax.nn.one_hot(codes, CODES)
    picture = jax.jit(lambda model: unmap_pixels(jax.nn.sigmoid(model.objective.decode(one_hot, (8, 8))[0])))(model)
    assert np.square(picture - truth).mean() < 0.6 * mean_colour  # by codes alone, without relaxation
    assert [h["temperature"] for h in (history[0], history[-1])] == pytest.approx([1, 1 / 16])


@pytest.mark.slow
def test_masked_tokens_learn_the_codes_of_one_that_was_trained(trained, images):
    """Two steps and more, with the tokenizer among the frozen networks; its codes are the encoder's own."""
    tokenizer_spec = spec(DVAE, patch=PATCH, **SIZES, weights="runs/dvae")

    def make_masked():
        sizes = dict(variant=f"Nano/{PATCH}", image_size=32, width=32, depth=1, heads=2)
        encoder = ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        return Model(
            encoder, MaskedTokens(encoder, tokenizer=tokenizer_spec, count=24, heads=2, rngs=nnx.Rngs(params=1))
        )

    model = nnx.eval_shape(make_masked)
    tokenizer = model.objective.tokenizer
    nnx.update(tokenizer.network, nnx.to_pure_dict(nnx.state(trained[1].encoder)))
    tokenizer.fit_images(images)
    counts = np.bincount(np.asarray(codes_of(trained[1], images)).ravel(), minlength=CODES) + 1
    np.testing.assert_allclose(tokenizer.frequency[...], counts / counts.sum(), rtol=1e-5)
    rng = np.random.default_rng(0)
    batch = {
        "image": images,
        "masked": np.array([rng.permutation(64) < 24 for _ in images]),
        "position": np.arange(8, dtype=np.uint32),
    }
    history, _ = train(make_masked, batch, split(model)[3], learning_rate=3e-3, warmup_steps=2, steps=40)
    losses = [float(metrics["loss"]) for metrics in history]
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-1] < float(history[-1]["unigram"])


def test_another_encoder_or_temperature_is_an_error():
    vit = nnx.eval_shape(lambda: ViT(variant="Nano/8", dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    with pytest.raises(ValueError, match=r"a dVAE's encoder is dvae\.DVAEEncoder, not ViT"):
        DiscreteVAE(vit, steps=10, rngs=nnx.Rngs(params=0))
    for first, last in ((1.0, 0.0), (-1.0, 1.0)):
        schedule = spec(schedules.cosine, first=first, last=last)
        with pytest.raises(ValueError, match=f"temperature is above 0 from the first step .* {first} and {last}"):
            nnx.eval_shape(
                lambda schedule=schedule: DiscreteVAE(
                    make_encoder(), temperature=schedule, steps=10, rngs=nnx.Rngs(params=0)
                )
            )
