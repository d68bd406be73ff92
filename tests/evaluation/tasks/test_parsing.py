import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.tasks import parsing
from facerep_jax.evaluation.tasks.parsing import OriginalParsing, Parsing
from facerep_jax.models.heads import PerToken, resized
from facerep_jax.models.uper import UPerHead
from facerep_jax.models.vit import ViT
from facerep_jax.typing import Features

SIZE, CLASSES = 32, ("background", "skin", "hair")
META = {"classes": CLASSES}


@pytest.fixture(scope="module")
def encoder():
    return ViT(
        variant="Nano/8", image_size=SIZE, width=16, depth=2, heads=2, dtype="float32", remat="none", rngs=nnx.Rngs(0)
    )


def task_with(encoder, cells: int, kind=Parsing) -> Parsing:
    return kind(encoder, taps=(1.0,), head=spec(PerToken, cells=cells), image_size=SIZE, meta=META, rngs=nnx.Rngs(0))


def features(count: int) -> dict[str, Features]:
    maps = {1: jnp.asarray(np.random.default_rng(0).normal(3, 2, (count, 4, 4, 16)), jnp.float32)}
    return {"image": Features(pooled=jnp.zeros((count, 16)), tokens=jnp.zeros((count, 16, 16)), maps=maps)}


def logits_of(task: Parsing) -> np.ndarray:
    return np.asarray(resized(task.head(features(2)["image"].at((1,))), (SIZE, SIZE)), np.float64)


def test_each_part_of_a_patch_has_its_own_logits_in_its_own_place(encoder):
    """The head gives part (row r, column c) of every patch the logit 10 r + c of class 1."""
    task = task_with(encoder, cells=8)
    table = np.zeros((8, 8, 3), np.float32)
    table[..., 1] = 10 * np.arange(8)[:, None] + np.arange(8)
    task.head.linear.kernel[...] = jnp.zeros_like(task.head.linear.kernel[...])
    task.head.linear.bias[...] = jnp.asarray(table.reshape(-1))
    logits = logits_of(task)
    np.testing.assert_allclose(logits[1, :, :, 1], np.tile(table[..., 1], (4, 4)))


def test_the_loss_is_cross_entropy_over_pixels_that_are_annotated(encoder):
    task = task_with(encoder, cells=4)
    task.calibrate(features(2), {})
    mask = np.random.default_rng(1).integers(0, 3, (2, SIZE, SIZE)).astype(np.uint8)
    mask[0, :9] = 255
    loss, metrics = task.loss(
        features(2),
        {},
        {"mask": jnp.asarray(mask)},
        encoder=None,
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.split(jax.random.key(0), 2),
    )
    logits = logits_of(task)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    known = mask != 255
    expected = -log_p[known][np.arange(known.sum()), mask[known]].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["known"] == known.mean()


def test_large_logits_are_resized_in_turns_with_the_same_loss_and_gradient(monkeypatch):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(0, 2, (6, 8, 8, 3)), jnp.float32)
    mask = jnp.asarray(rng.choice([0, 1, 2, 255], (6, SIZE, SIZE)), jnp.uint8)
    both = jax.value_and_grad(parsing.entropy_in_turns)
    at_once, gradient = both(logits, mask)
    monkeypatch.setattr(parsing, "TURN_BYTES", 4 * SIZE * SIZE * 3 * 2.5)  # two images, in three turns
    assert "scan" in str(jax.make_jaxpr(parsing.entropy_in_turns)(logits, mask))
    in_turns, gradient_in_turns = both(logits, mask)
    np.testing.assert_allclose(in_turns, at_once, rtol=1e-6)
    np.testing.assert_allclose(gradient_in_turns, gradient, rtol=1e-5, atol=1e-7)


def test_predictions_are_the_likeliest_class_of_every_pixel(encoder):
    task = task_with(encoder, cells=1)
    task.calibrate(features(2), {})
    predicted = np.asarray(task.predict(features(2), {}))
    assert predicted.dtype == np.uint8
    np.testing.assert_array_equal(predicted, logits_of(task).argmax(-1))


def test_for_original_images_logits_are_kept_at_the_heads_resolution(encoder):
    task = task_with(encoder, cells=2, kind=OriginalParsing)
    task.calibrate(features(2), {})
    task.head.linear.bias[...] = task.head.linear.bias[...] + 1e5  # far beyond half precision
    kept, logits = np.asarray(task.predict(features(2), {})), np.asarray(task.head(features(2)["image"].at((1,))))
    assert (kept.shape, kept.dtype) == ((2, 8, 8, 3), np.float16)
    log_p = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    np.testing.assert_allclose(kept, log_p - logits.max(-1, keepdims=True), atol=2e-2)
    picture = OriginalParsing.draw(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), kept[0], scale=1)
    classes = np.asarray(resized(jnp.asarray(kept[:1], jnp.float32), (8, 8)))[0].argmax(-1)
    assert picture == Parsing.draw(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), classes, scale=1)


@pytest.mark.slow
def test_farls_head_learns_eight_faces(learnt):
    """Scored in evaluation mode: with running statistics and without dropout. The inner mouth is a pixel or two."""
    faces, meta, prediction = learnt(Parsing, head=spec(UPerHead, channels=16), steps=300)
    metric = build(Parsing.metric(meta))
    frequent = Parsing.baselines(faces, {}, faces, meta)["most_frequent_class"]
    learnt_score, frequent_score = (
        score(metric, metric.rows(classes, faces).statistics)["f1_mean_foreground"]
        for classes in (prediction, frequent)
    )
    assert frequent_score < 0.2
    assert learnt_score > 0.6


def test_the_baseline_is_the_most_frequent_class_of_each_pixel():
    train = np.zeros((3, 4, 4), np.uint8)
    train[:2, 0, 0], train[:, 1, 1], train[1:, 2, 2] = 1, 2, 255
    test = {"mask": np.zeros((5, 4, 4), np.uint8)}
    found = Parsing.baselines({"mask": train}, {}, test, META)["most_frequent_class"]
    assert found.shape == (5, 4, 4)
    assert (found[3, 0, 0], found[3, 1, 1], found[3, 2, 2]) == (1, 2, 0)


def test_the_names_of_the_classes_are_needed():
    assert build(Parsing.metric(META)).classes == CLASSES
    with pytest.raises(ValueError, match=r"put `classes` into faces.meta.json"):
        Parsing.metric({})


def test_pictures_show_image_truth_and_prediction():
    picture = Parsing.draw(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), np.full((8, 8), 2), scale=2)
    assert picture.size == (48, 16)
    assert picture.getpixel((20, 4)) != picture.getpixel((40, 4))
