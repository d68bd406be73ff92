"""What the loss is by default, is compared with MCF's published code in tests/parity/test_mcf.py.

Planted and seen red: negatives of the whole batch; statistics of the whole batch; one mask for both encoders; one
direction twice in a symmetric loss; a momentum that does not follow its schedule.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import schedules
from facerep_jax.config import spec
from facerep_jax.models.crops import Crop
from facerep_jax.models.views import RandomPatches, encode
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.momentum_contrast import MomentumContrast, complement, group_of
from facerep_jax.train.state import split
from facerep_jax.typing import Objective, View

PATCH, SIDE, WIDTH, BATCH = 4, 4, 16, 8
TILES, KEPT = SIDE**2, 4
KEYS = jax.random.split(jax.random.key(0), BATCH)


def make_encoder():
    sizes = dict(flavour="mae", variant=f"Nano/{PATCH}", image_size=PATCH * SIDE, width=WIDTH, depth=1, heads=2)
    return ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


def make(**settings):
    small = dict(hidden=12, width=6, contrast_group=4, norm_rows=2, temperature=0.5, steps=10)
    return MomentumContrast(make_encoder(), **{**small, **settings}, rngs=nnx.Rngs(params=1))


@pytest.fixture(scope="module")
def models():
    """An encoder and objectives that differ in what costs nothing to build."""
    return jax.jit(lambda: (make_encoder(), make()))()


@pytest.fixture(scope="module")
def batch():
    image = np.random.default_rng(0).integers(0, 256, (BATCH, PATCH * SIDE, PATCH * SIDE, 3), np.uint8)
    return {"image": jnp.asarray(image)}


def kept(batch, keep):
    return View(batch["image"], keep=jnp.asarray(keep))


KEEP = np.sort(np.argsort(np.random.default_rng(1).uniform(size=(BATCH, TILES)), 1)[:, :KEPT])


def numpy_perceptron(p, x, rows, norm_out):
    """The published one in training: statistics of groups of rows, biased variance, eps 1e-5."""
    *hidden, last = [p["linear"][i]["kernel"] for i in sorted(p["linear"])]

    def norm(x):
        x = x.reshape(-1, rows, x.shape[-1])
        return ((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)).reshape(-1, x.shape[-1])

    for i, kernel in enumerate(hidden):
        x = np.maximum(norm(x @ kernel) * p["norms"][i]["scale"] + p["norms"][i]["bias"], 0)
    return norm(x @ last) if norm_out else x @ last


def numpy_loss(query, key, group, temperature):
    """Twice the temperature times the mean negative log-likelihood, an image at a time."""
    query, key = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
    losses = []
    for i, one in enumerate(query):
        first = i // group * group
        logits = key[first : first + group] @ one / temperature
        losses.append(np.log(np.exp(logits).sum()) - logits[i - first])
    return 2 * temperature * np.mean(losses)


def looked(reference, objective, encoder, seen_by_student, seen_by_teacher):
    """Queries and keys of two pooled features, by NumPy."""
    p = reference.params(objective)
    teacher = jax.tree.map(np.float64, nnx.to_pure_dict(nnx.state(objective.teacher_projector)))
    query = numpy_perceptron(p["projector"], np.float64(seen_by_student), 2, True)
    query = numpy_perceptron(p["predictor"], query, 2, False)
    return query, numpy_perceptron(teacher, np.float64(seen_by_teacher), 2, True)


def run(objective, encoder, batch, seen, views):
    more = dict(encoder=encoder, step=jnp.int32(5), rng=KEYS)
    return objective.loss(seen, views, batch, **more)


def test_it_is_infonce_within_groups(reference, models, batch):
    """The teacher sees patches that the spec of its view draws, by the stream of the view's name."""
    encoder, objective = models
    view = kept(batch, KEEP)
    seen = encoder(view)
    loss, metrics = run(objective, encoder, batch, {"kept": seen}, {"kept": view})
    taught = objective.taught({"kept": view}, batch, encoder=encoder, rng=KEYS)
    assert taught.keep.shape == (BATCH, KEPT)
    assert not np.array_equal(taught.keep, KEEP)
    query, key = looked(reference, objective, encoder, seen.pooled, objective.teacher(taught).pooled)
    np.testing.assert_allclose(loss, numpy_loss(query, key, 4, 0.5), rtol=1e-4)
    np.testing.assert_allclose(metrics["chance"], 2 * 0.5 * np.log(4), rtol=1e-6)
    assert 0 <= metrics["accuracy"] <= 1
    np.testing.assert_allclose(metrics["momentum"], 0.99)


def test_a_symmetric_loss_is_that_of_both_directions(reference, models, batch):
    encoder, _ = models
    objective = jax.jit(lambda: make(symmetric=True))()
    views = {"kept": kept(batch, KEEP), **objective.views(batch, encoder=encoder, rng=KEYS)}
    assert set(views) == {"kept", "taught"}
    seen = {name: encoder(view) for name, view in views.items()}
    loss, metrics = run(objective, encoder, batch, seen, views)
    expected = 0.0
    for ours, theirs in (("kept", "taught"), ("taught", "kept")):
        query, key = looked(reference, objective, encoder, seen[ours].pooled, objective.teacher(views[theirs]).pooled)
        expected += numpy_loss(query, key, 4, 0.5)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["chance"], 2 * 2 * 0.5 * np.log(4), rtol=1e-6)


@pytest.mark.parametrize("pair", ["complementary", "shared", "whole"])
def test_pairs_of_masks_are_what_they_are_called(models, batch, pair):
    encoder, _ = models
    objective = nnx.eval_shape(lambda: make(pair=pair))
    taught = objective.taught({"kept": kept(batch, KEEP)}, batch, encoder=encoder, rng=KEYS)
    np.testing.assert_array_equal(taught.image, batch["image"])
    match pair:
        case "shared":
            np.testing.assert_array_equal(taught.keep, KEEP)
        case "whole":
            assert taught.keep is None
        case "complementary":
            assert taught.keep.shape == KEEP.shape
            assert (np.diff(taught.keep) > 0).all()
            for ours, theirs in zip(KEEP, np.asarray(taught.keep), strict=True):
                assert not set(ours) & set(theirs)


def test_complements_are_drawn_evenly():
    keys = jax.random.split(jax.random.key(1), 2000)
    keep = jnp.tile(jnp.array([[1, 3]]), (2000, 1))
    drawn = np.bincount(np.asarray(complement(keys, keep, 7)).ravel(), minlength=7) / 2000
    np.testing.assert_array_equal(drawn[[1, 3]], [0, 0])
    assert np.abs(drawn[[0, 2, 4, 5, 6]] - 2 / 5).max() < 0.05


def test_the_teacher_and_its_projector_follow_as_the_schedule_says(models):
    encoder, _ = models
    momentum = spec(schedules.cosine, first=0.5, last=1.0)
    objective = jax.jit(lambda: make(momentum=momentum))()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state((objective.teacher, objective.teacher_projector))))
    moved = jax.tree.map(lambda x: x + 1, nnx.state(encoder))
    student = nnx.merge(nnx.graphdef(encoder), moved)
    projector = nnx.to_pure_dict(nnx.state(objective.projector, nnx.Param))
    objective.begin(student, jnp.int32(5))  # half of the way from 0.5 to 1
    after = nnx.to_pure_dict(nnx.state((objective.teacher, objective.teacher_projector)))
    np.testing.assert_allclose(after[0]["class_token"], before[0]["class_token"] + 0.25, rtol=1e-5)
    old, moving, new = (of["linear"][0]["kernel"] for of in (before[1], projector, after[1]))
    np.testing.assert_allclose(new, 0.75 * old + 0.25 * moving, rtol=1e-5)


def test_the_teacher_is_carried_and_has_no_gradient(models):
    objective = nnx.eval_shape(make)
    assert isinstance(objective, Objective)
    _, params, variables, frozen = split(objective)
    assert set(params) == {"projector", "predictor"}
    assert {"teacher", "teacher_projector"} <= set(variables)
    assert not frozen
    assert set(params["projector"]) == {"linear", "norms"}  # the norm behind it has no parameters
    assert objective.offers == (("teacher", "teacher"),)


def test_the_mean_of_each_group_of_a_projector_is_0():
    mlp = make(hidden=8, width=5, norm_rows=4).projector
    x = mlp(jnp.asarray(np.random.default_rng(0).normal(size=(8, WIDTH)), jnp.float32))
    np.testing.assert_allclose(np.asarray(x).reshape(2, 4, 5).mean(1), np.zeros((2, 5)), atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "wanted", "nearest"), [(96, 64, 128), (80, 64, 64), (8, 16, 16), (1, 0, 2), (8, 1, 8)]
)
def test_a_batch_that_is_no_multiple_of_a_group_is_refused(rows, wanted, nearest):
    with pytest.raises(ValueError, match=rf"a batch of {rows} .* contrast_group={wanted}.*: {nearest}$"):
        group_of(rows, wanted)
    assert group_of(nearest, max(wanted, 2)) == max(wanted, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(pair="other"), "pair is independent or complementary or shared or whole, not 'other'"),
        (dict(pair="whole", symmetric=True), "a symmetric contrast has a pair of independent masks, not 'whole'"),
        (dict(temperature=0.0), "temperature is above 0, not 0.0"),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: make(**settings))


def test_a_complement_needs_enough_masked_patches():
    for keep, count in ((jnp.zeros((2, 3), int), 5), (None, 5)):
        with pytest.raises(ValueError, match="a complementary mask needs half of the 5 patches to be masked"):
            complement(KEYS[:2], keep, count)


def test_the_terms_of_a_sum_share_no_draw(models, batch):
    """The view that the encoder sees, and the teacher's, are drawn apart though one spec draws both."""
    encoder, _ = models
    term = spec(MomentumContrast, hidden=12, width=6, contrast_group=4, norm_rows=2, symmetric=True)
    both = Combined(
        encoder,
        terms=dict(contrast=term),
        views=dict(kept=spec(RandomPatches, share=0.25)),
        steps=10,
        rngs=nnx.Rngs(params=0),
    )
    views = both.views(batch, encoder=encoder, rng=KEYS)
    assert (np.asarray(views["kept"].keep) != np.asarray(views["taught"].keep)).any(1).sum() >= BATCH - 2


def test_moco_v3_contrasts_two_crops_both_ways(reference):
    """Planted and seen red: the keys of the same crop; a predictor without a norm at its end."""
    sizes = dict(hidden=12, width=6, projector_layers=3, predictor_norm=True, contrast_group=0, norm_rows=0)
    term = spec(MomentumContrast, **sizes, patches=spec(Crop, index=1), symmetric=True, temperature=0.5)
    encoder, batch = make_encoder(), {name: x[:BATCH] for name, x in two_crops().items()}
    both = Combined(
        encoder, terms=dict(c=term), views=dict(kept=spec(Crop, index=0)), steps=10, rngs=nnx.Rngs(params=0)
    )
    assert set(both.needs) == {"image", "image_large"}
    views = both.views(batch, encoder=encoder, rng=KEYS)
    seen = encode(encoder, views)
    loss, _ = run(both, encoder, batch, seen, views)
    p = reference.params(both.terms["c"])
    assert len(p["projector"]["linear"]) == 3
    ours = [np.float64(encoder(View(image)).pooled) for image in (batch["image"], batch["image_large"][:, 0])]
    keys = [numpy_perceptron(p["projector"], x, BATCH, True) for x in ours]  # the teacher is the encoder at first
    queries = [numpy_perceptron(p["predictor"], x, BATCH, True) for x in keys]
    expected = sum(numpy_loss(queries[i], keys[1 - i], BATCH, 0.5) for i in (0, 1))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def two_crops():
    """A batch with a second crop that is of another example, so that it matters which is contrasted with which."""
    draw = np.random.default_rng(3).integers(0, 256, (2, BATCH, PATCH * SIDE, PATCH * SIDE, 3), np.uint8)
    return {"image": jnp.asarray(draw[0]), "image_large": jnp.asarray(draw[1][:, None])}
