from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.typing import Features

BATCH, WIDTH, EMBEDDING, END = 6, 16, 12, 19


def make_encoder():
    sizes = dict(variant="Nano/4", image_size=8, width=WIDTH, depth=1, heads=2)
    return ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=1))


def make(**settings):
    text = spec(TextTransformer, vocabulary=END + 1, context=6, width=8, depth=1, heads=2)
    return Contrastive(make_encoder(), text_encoder=text, embedding=EMBEDDING, **settings, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def encoder():
    return nnx.eval_shape(make_encoder)  # the loss has no use for its values


@pytest.fixture(scope="module")
def objective(reference):
    return reference.randomised(nnx.eval_shape(make))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    text = np.concatenate([rng.integers(1, END, (BATCH, 5)), np.full((BATCH, 1), END)], 1)
    pooled = jnp.asarray(rng.normal(size=(BATCH, WIDTH)), jnp.float32)
    return SimpleNamespace(pooled=pooled, text=jnp.asarray(text, jnp.int32))


@pytest.fixture(scope="module")
def run(encoder):
    @jax.jit
    def gradients(objective, pooled, text):
        def loss(objective, pooled):
            seen = {"image": Features(pooled=pooled, tokens=pooled[:, None])}
            rng = jax.random.split(jax.random.key(0), len(text))
            return objective.loss(seen, {}, {"text": text}, encoder=encoder, step=jnp.int32(0), rng=rng)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(objective, pooled)

    def run(objective, scale, pooled, text):
        """((loss, metrics), (gradient of log_scale, of pooled)) at an inverse temperature."""
        objective = nnx.clone(objective)
        objective.log_scale.set_value(jnp.log(jnp.float32(scale)))
        values, (of_objective, of_pooled) = gradients(objective, pooled, text)
        return values, (of_objective.log_scale[...], of_pooled)

    return run


def numpy_loss(reference, objective, data, scale):
    """Each image and each caption classified among all of the other kind, one at a time."""
    p = reference.params(objective)
    images = np.asarray(data.pooled, np.float64) @ p["image_projection"]
    texts = np.asarray(objective.text_encoder(data.text), np.float64) @ p["text_projection"]
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    losses, hits = [], []
    for i in range(BATCH):
        for_image = np.array([scale * images[i] @ t for t in texts])
        for_text = np.array([scale * texts[i] @ m for m in images])
        losses += [np.log(np.exp(s - s[i]).sum()) for s in (for_image, for_text)]
        hits.append(for_image.argmax() == i)
    return np.mean(losses), np.mean(hits)


@pytest.mark.parametrize("scale", [1.0, 14.0])
def test_loss_is_info_nce_both_ways(reference, objective, data, run, scale):
    """tried: one direction alone; images not normalised."""
    (loss, metrics), _ = run(objective, scale, data.pooled, data.text)
    expected, accuracy = numpy_loss(reference, objective, data, scale)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy"], accuracy, rtol=1e-6)
    np.testing.assert_allclose(metrics["temperature"], 1 / scale, rtol=1e-5)
    np.testing.assert_allclose(metrics["chance"], np.log(len(data.text)), rtol=1e-6)


def test_the_temperature_is_clamped_before_each_step_and_its_gradient_passes(encoder, reference, objective, data, run):
    """tried: a clamp in the loss, under which the parameter runs on; no clamp."""
    step = 1e-4
    for scale in (100.0, 14.0):
        gradient = run(objective, scale, data.pooled, data.text)[1][0]
        above, below = (numpy_loss(reference, objective, data, scale * np.exp(s))[0] for s in (step, -step))
        np.testing.assert_allclose(gradient, (above - below) / (2 * step), rtol=1e-3)
    for scale, clamped in ((1000.0, 100.0), (14.0, 14.0)):
        begun = nnx.clone(objective)
        begun.log_scale.set_value(jnp.log(jnp.float32(scale)))
        begun.begin(encoder, jnp.int32(0))
        np.testing.assert_allclose(begun.log_scale[...], np.log(clamped), rtol=1e-6)
        np.testing.assert_allclose(begun.scale(), clamped, rtol=1e-5)


def test_the_gradient_reaches_every_image_from_every_other(objective, data, run):
    """Images that are not the caption's own count: the gradient of one depends on all of the batch."""
    gradient = run(objective, 14.0, data.pooled, data.text)[1][1]
    other = run(objective, 14.0, data.pooled.at[0].multiply(-1), data.text)[1][1]
    assert (np.abs(np.asarray(gradient - other)).max(1) > 1e-6).all()


def test_the_order_of_the_batch_does_not_matter(objective, data, run):
    order = jnp.asarray([3, 1, 5, 0, 2, 4])
    (loss, _), (_, gradient) = run(objective, 14.0, data.pooled, data.text)
    (same, _), (_, permuted) = run(objective, 14.0, data.pooled[order], data.text[order])
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    np.testing.assert_allclose(permuted, gradient[order], rtol=1e-4, atol=1e-6)


def test_captions_are_found_by_images_that_agree_with_them(objective, data, run):
    p, texts = objective, np.asarray(objective.embed_text(data.text))
    pooled = texts @ np.linalg.pinv(np.asarray(p.image_projection[...]))
    (loss, metrics), _ = run(objective, 100.0, jnp.asarray(pooled, jnp.float32), data.text)
    assert metrics["accuracy"] == 1
    assert loss < np.log(BATCH)


def test_embeddings_have_length_one(objective, data):
    for embedded in (objective.embed_image(data.pooled.astype(jnp.bfloat16)), objective.embed_text(data.text)):
        assert embedded.dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)


def test_a_zero_feature_has_a_finite_gradient(objective, data, run):
    (loss, _), (_, gradient) = run(objective, 14.0, data.pooled.at[0].set(0), data.text)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_it_starts_at_its_temperature_and_sees_whole_images(data):
    objective = jax.jit(lambda: make(temperature=0.1))()
    np.testing.assert_allclose(objective.scale(), 10, rtol=1e-5)
    batch = {"image": jnp.zeros((2, 8, 8, 3), jnp.uint8), "text": data.text}
    encoder = make_encoder()
    views = objective.views(batch, encoder=encoder, rng=jax.random.split(jax.random.key(0), 2))
    assert list(views) == ["image"]
    assert views["image"].image is batch["image"]
    assert views["image"].masked is None
    assert set(objective.needs) == {"image", "text"}
    assert objective.offers == (("text_tower", ""),)
    assert objective.begin(encoder, jnp.int32(0)) is None
