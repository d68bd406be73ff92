"""Identity classification against NumPy, over devices and with drawn classes.

Planted and seen red: the margin on all classes; padding that counts as classes; the batch's own classes not among the
drawn. Stayed green: no `pin` of the parts, for XLA then takes their split from that of the weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.stats import rankdata

from facerep_jax.config import spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.cache import extractor
from facerep_jax.models import margins
from facerep_jax.objectives.supervised import Supervised
from facerep_jax.train import handover, larc
from facerep_jax.train.sharding import batch_shapes, batch_sharding, make_mesh, placed, replicated, rules_of, shardings
from facerep_jax.train.state import Model, abstract, initial, merge, split
from facerep_jax.train.step import make_step
from facerep_jax.typing import Features
from tests.contracts.whole_way import assert_kill_and_resume_change_nothing, pretrain
from tests.train.tiny import TinyEncoder

B, D, K = 6, 4, 10
LABELS = np.array([3, 9, 0, 3, -1, 7], np.int32)
KEYS = jax.random.split(jax.random.key(0), B)
RULES = ((r"classes$", ("fsdp", None, None)),)
HEADS = {
    "softmax": None,
    "cosface": spec(margins.CosFace, scale=8.0),
    "arcface": spec(margins.ArcFace, scale=8.0),
    "adaface": spec(margins.AdaFace, scale=8.0),
}


def make(**settings):
    encoder = TinyEncoder(width=D, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    return Model(encoder, Supervised(encoder, **{"classes": K, **settings}, rngs=nnx.Rngs(params=1)))


ENCODER = make().encoder


@pytest.fixture(scope="module")
def pooled():
    return np.random.default_rng(0).normal(size=(B, D)).astype(np.float32)


def run(objective, pooled, labels=LABELS, step=0):
    seen = {"image": Features(jnp.asarray(pooled), jnp.asarray(pooled)[:, None])}
    batch = {"identity": jnp.asarray(labels)}
    return objective.loss(seen, {}, batch, encoder=ENCODER, step=jnp.int32(step), rng=KEYS)


def numpy_loss(objective, pooled, margin, classes):
    """The mean over labelled examples of their negative log-likelihood among some classes."""
    weights = np.asarray(objective.classes[...], np.float64).reshape(-1, D)[classes]
    losses, hits = [], []
    for x, label in zip(pooled.astype(np.float64), LABELS, strict=True):
        if label < 0:
            continue
        own = list(classes).index(label)
        if margin is None:
            logits = weights @ x + np.asarray(objective.bias[...]).reshape(-1)[classes]
        else:
            logits = weights @ x / np.linalg.norm(weights, axis=1) / np.linalg.norm(x)
        hits.append(logits.argmax() == own)
        if margin is not None:
            norms = jnp.asarray(np.linalg.norm(pooled, axis=1))
            cosines = jnp.full(B, logits[own], jnp.float32)
            index = int(np.flatnonzero((pooled == x.astype(np.float32)).all(1))[0])
            logits[own] = margin(cosines, norms)[index]
            logits *= margin.scale
        losses.append(np.log(np.exp(logits).sum()) - logits[own])
    return np.mean(losses), np.mean(hits)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("head", HEADS)
def test_the_loss_is_that_of_its_definition_however_classes_are_parted(head, parts, pooled):
    """Four parts of ten classes are of three, so that the last has two that are none."""
    objective = make(margin=HEADS[head], parts=parts).objective
    if parts > 1:
        assert objective.classes.shape == (4, 3, D)
        objective.classes.set_value(objective.classes[...].at[-1, 1:].set(1e3))  # of no class
    loss, metrics = run(objective, pooled)
    fresh = make(margin=HEADS[head], parts=parts).objective
    expected, accuracy = numpy_loss(objective, pooled, fresh.margin, np.arange(K))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(accuracy)
    assert float(metrics["labelled"]) == pytest.approx(5 / 6)
    assert ("chance" in metrics) == (head == "softmax")


def test_drawn_classes_are_the_batchs_and_others_of_each_part(pooled):
    """Partial FC: the loss is that among those that are drawn."""
    classes, share, parts = 40, 0.6, 2
    objective = make(classes=classes, parts=parts, share=share, margin=HEADS["cosface"]).objective
    drawn = [np.asarray(objective.drawn(jnp.asarray(LABELS), jnp.int32(step))) for step in (0, 0, 1)]
    assert drawn[0].shape == (parts, 12)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(np.sort(drawn[0]), np.sort(drawn[2]))
    names = [np.concatenate([part * 20 + places for part, places in enumerate(each)]) for each in drawn]
    for each in names:
        assert len(set(each)) == 24
        assert set(LABELS[LABELS >= 0]) <= set(each)
    loss, _ = run(objective, pooled)
    expected, _ = numpy_loss(objective, pooled, objective.margin, names[0])
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    whole, _ = run(make(classes=classes, margin=HEADS["cosface"]).objective, pooled)
    assert float(whole) > float(loss)


def compiled(parts, rules, *, classes, width, share=1.0):
    """A step on eight devices: compiled, and what it is made of."""
    mesh = make_mesh({"fsdp": -1})

    def big():
        encoder = TinyEncoder(width=width, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        settings = dict(classes=classes, parts=parts, share=share, margin=HEADS["arcface"])
        return Model(encoder, Supervised(encoder, **settings, rngs=nnx.Rngs(params=1)))

    optimizer = larc.larc(steps=4).transform
    graph = abstract(big)[0]
    example = {"image": np.zeros((8, 8, 3), np.uint8), "identity": np.int32(0), "position": np.uint32(0)}
    example = {name: np.asarray(x) for name, x in example.items()}
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(lambda: initial(big, optimizer.init, ema=False))
        layout = shardings(shapes, mesh, rules_of("replicated", {}, rules))
        whole = replicated(mesh)
        step = jax.jit(
            make_step(graph, optimizer, seed=0),
            in_shardings=(layout, whole, None),
            out_shardings=(layout, whole),
            donate_argnums=0,
        )
        program = step.lower(placed(shapes, layout), {}, batch_shapes(example, 64, mesh)).compile()
    return program, step, mesh, layout, lambda: initial(big, optimizer.init, ema=False)


def test_a_hundred_thousand_identities_take_an_eighth_of_their_memory_on_each_of_eight_devices():
    """Weights of 51 MB and their momentum; neither they nor their gradient are ever whole on a device."""
    classes, width = 100_000, 128
    weights = 4 * classes * width
    divided = compiled(8, RULES, classes=classes, width=width)[0].memory_analysis()
    copied = compiled(1, (), classes=classes, width=width)[0].memory_analysis()
    assert divided.argument_size_in_bytes == pytest.approx(2 * weights / 8, rel=0.01)
    assert copied.argument_size_in_bytes == pytest.approx(2 * weights, rel=0.01)
    logits = 4 * classes * 64 / 8
    assert divided.temp_size_in_bytes < 3 * weights / 8 + 4 * logits
    assert copied.temp_size_in_bytes > weights


@pytest.mark.parametrize("share", [0.8, pytest.param(1.0, marks=pytest.mark.slow)])
def test_eight_devices_equal_one(share):
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (64, 8, 8, 3), np.uint8)),
        "identity": jnp.asarray(rng.integers(-1, 800, 64), jnp.int32),
        "position": jnp.arange(64, dtype=jnp.uint32),
    }
    program, step, mesh, layout, first = compiled(8, RULES, classes=800, width=16, share=share)
    rows = batch_sharding(mesh)
    with jax.set_mesh(mesh):
        state = jax.jit(first, out_shardings=layout)()
        after, metrics = program(state, {}, jax.device_put(batch, jax.tree.map(lambda _: rows, batch)))
    alone = jax.device_put(jax.jit(first)(), jax.devices()[0])
    state, expected = step.__wrapped__(alone, {}, jax.device_put(batch, jax.devices()[0]))
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["softmax", "arcface"])
def test_it_learns_classes_that_can_be_told(head):
    def four():
        return make(classes=4, margin=HEADS[head], embedding=3)

    optimizer = optax.adam(0.03)
    state = initial(four, optimizer.init, ema=False)
    step = jax.jit(make_step(abstract(four)[0], optimizer, seed=0))
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 4
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [200, 200, 200]])[labels]
    image = np.clip(colours[:, None, None] + rng.integers(-20, 20, (16, 8, 8, 3)), 0, 255).astype(np.uint8)
    batch = {"image": image, "identity": labels.astype(np.int32), "position": np.arange(16, dtype=np.uint32)}
    for _ in range(80):
        state, metrics = step(state, {}, jax.tree.map(jnp.asarray, batch))
    assert float(metrics["accuracy"]) == 1


def test_nothing_but_a_margins_statistics_is_carried():
    assert set(split(make(margin=HEADS["adaface"]).objective)[2]) == {"margin"}
    assert not split(make(margin=HEADS["arcface"]).objective)[2]
    assert merge(*split(make())).objective.count == K


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(classes=1), "at least 2 classes, in 1 to as many parts, not 1 in 1"),
        (dict(parts=11), "not 10 in 11"),
        (dict(share=0.0), "above 0 and at most 1, not 0"),
    ],
)
def test_what_cannot_be_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_too_small_a_share_is_named_with_one_that_is_not(pooled):
    objective = make(classes=100, share=0.02).objective
    with pytest.raises(ValueError, match=r"leaves 2 of 100 classes in a part, .* may have 6 .* at least 0\.06"):
        run(objective, pooled)


FACES = "generated_faces:size=48,train=960,validation=0,test=240,sessions=3,frames=4"
IDENTITIES = "configs/pretrain/supervised.py:smoke,encoder=resnet,head=cosface"


def auc(x, people):
    """How often two images of a person are more alike than two of different persons."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    one, other = np.triu_indices(len(x), 1)
    alike, same = (x @ x.T)[one, other], people[one] == people[other]
    return (rankdata(alike)[same].sum() - same.sum() * (same.sum() + 1) / 2) / same.sum() / (~same).sum()


@pytest.mark.slow
def test_persons_that_it_never_saw_are_told_apart_better_than_by_pixels(tmp_path):
    flags = (f"--config.data.dataset={FACES}", "--config.steps=400", "--config.data.batch_size=48",
             "--config.objective.terms.identity.classes=128", "--config.data.transforms[2].classes=128",
             "--config.encoder.channels=16", "--config.objective.terms.identity.margin.scale=16.0",
             "--config.optimizer.learning_rate=0.1", "--config.log_every=100")  # fmt: skip
    run = pretrain(IDENTITIES, tmp_path, *flags)
    dataset = open_dataset(FACES, "nowhere")
    transforms = build_transforms((spec(CropToBox, margin=0.25, size=48),), dataset.meta)
    test = load(dataset.source("test"), transforms, ("image", "identity"))
    images, people = np.asarray(test["image"]), np.asarray(test["identity"])
    assert people.min() > 79  # none of those that were trained on
    seen = np.asarray(extractor(handover.encoder(str(run)).encoder, ())(images)["pooled"], np.float64)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    ours, theirs = auc(seen - seen.mean(0), people), auc(pixels - pixels.mean(0), people)
    assert ours > 0.8
    assert ours > theirs + 0.03


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(tmp_path):
    config = "configs/pretrain/supervised.py:smoke,head=adaface,parts=8,attributes=21,number=valence"
    run = pretrain(config, tmp_path / "whole", "--config.steps=4")
    assert_kill_and_resume_change_nothing(config, run, tmp_path / "killed", "--config.steps=4")
