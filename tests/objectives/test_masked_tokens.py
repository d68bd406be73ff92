import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.masked_tokens import MaskedTokens, masked_positions
from facerep_jax.typing import Features

PATCH, SIDE, WIDTH, CODES, COUNT, HEADS = 4, 3, 16, 10, 4, 2
TILES = SIDE**2


def make_encoder(**settings):
    sizes = dict(variant=f"Nano/{PATCH}", image_size=PATCH * SIDE, width=WIDTH, depth=1, heads=2)
    return ViT(**{**sizes, "dtype": "float32", "remat": "none", **settings}, rngs=nnx.Rngs(params=1))


def make(**settings):
    tokenizer = spec(KMeansTokenizer, patch=PATCH, codes=CODES, cells=2)
    sizes = dict(tokenizer=tokenizer, count=COUNT, depth=2, heads=HEADS)
    return MaskedTokens(make_encoder(), **{**sizes, **settings}, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def encoder():
    return nnx.eval_shape(make_encoder)


@pytest.fixture(scope="module")
def objective(reference):
    rng = np.random.default_rng(5)
    objective = reference.randomised(nnx.eval_shape(make))
    objective.tokenizer.centres.set_value(jnp.asarray(rng.normal(size=(CODES, 12)), jnp.float32))
    objective.tokenizer.frequency.set_value(jnp.asarray(rng.dirichlet(np.ones(CODES)), jnp.float32))
    return objective


@pytest.fixture(scope="module")
def batch():
    masked = np.zeros((3, TILES), bool)
    masked[0, [1, 4, 5, 8]] = True  # as many as `count`
    masked[1, [7]] = True  # fewer
    masked[2, [0, 2, 3, 4, 6, 7]] = True  # more: the first `count` are predicted
    image = np.random.default_rng(0).integers(0, 256, (3, PATCH * SIDE, PATCH * SIDE, 3))
    return {"image": jnp.asarray(image, jnp.uint8), "masked": jnp.asarray(masked)}


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(2)
    tokens, cls = rng.normal(size=(3, TILES, WIDTH)), rng.normal(size=(3, WIDTH))
    tokens, cls = jnp.asarray(tokens, jnp.float32), jnp.asarray(cls, jnp.float32)
    return {"masked": Features(pooled=cls, tokens=tokens, cls=cls)}


@pytest.fixture(scope="module")
def run(encoder):
    @jax.jit
    def run(objective, seen, batch):
        def loss(seen):
            rng = jax.random.split(jax.random.key(0), len(batch["image"]))
            return objective.loss(seen, {}, batch, encoder=encoder, step=jnp.int32(0), rng=rng)

        return jax.value_and_grad(loss, has_aux=True)(seen)

    return run


def numpy_losses(reference, objective, seen, batch):
    """Negative log-likelihood, hit and unigram log-likelihood of each predicted patch, one at a time."""
    p = reference.params(objective)
    codes = np.asarray(objective.tokenizer(batch["image"]))
    x = np.concatenate([np.asarray(seen.cls)[:, None], np.asarray(seen.tokens)], 1).astype(np.float64)
    x = reference.blocks(p["blocks"], x, HEADS)[-1][:, 1:]
    logits = reference.linear(p["head"], reference.norm(p["norm"], x))
    frequency = np.asarray(objective.tokenizer.frequency[...], np.float64)
    rows = []
    for i, masked in enumerate(np.asarray(batch["masked"])):
        for n in np.flatnonzero(masked)[:COUNT]:
            own, code = logits[i, n], codes[i, n]
            rows.append((np.log(np.exp(own - own[code]).sum()), own.argmax() == code, -np.log(frequency[code])))
    return np.array(rows)


def test_loss_is_cross_entropy_of_masked_patches_alone(reference, objective, batch, seen, run):
    """tried: the class token not dropped; the mean over all slots; codes of the first patches; no norm."""
    (loss, metrics), _ = run(objective, seen, batch)
    rows = numpy_losses(reference, objective, seen["masked"], batch)
    assert len(rows) == 4 + 1 + 4
    np.testing.assert_allclose(loss, rows[:, 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], rows[:, 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy"], rows[:, 1].mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["unigram"], rows[:, 2].mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["share"], 11 / 27, rtol=1e-6)


def test_the_class_token_takes_part_and_the_pooled_feature_does_not(objective, batch, seen, run):
    gradient = run(objective, seen, batch)[1]["masked"]
    assert np.abs(np.asarray(gradient.cls)).min() > 0
    assert not np.asarray(gradient.pooled).any()


def test_what_is_not_masked_has_no_target(objective, batch, seen, run):
    image = np.asarray(batch["image"]).copy()
    pixels = np.arange(PATCH * SIDE) // PATCH
    patch = pixels[:, None] * SIDE + pixels
    for i, masked in enumerate(np.asarray(batch["masked"])):
        shown = ~masked[patch]
        image[i][shown] = image[i][shown][::-1]  # other patches in place of it, with the same mean and deviation
    loss, changed = (
        run(objective, seen, batch)[0][0],
        run(objective, seen, {**batch, "image": jnp.asarray(image)})[0][0],
    )
    assert (image != np.asarray(batch["image"])).any()
    np.testing.assert_allclose(loss, changed, rtol=1e-6)


def test_a_batch_without_masks_has_no_loss(objective, batch, seen, run):
    (loss, metrics), gradient = run(objective, seen, {**batch, "masked": jnp.zeros_like(batch["masked"])})
    assert loss == 0
    assert all(np.isfinite(value) for value in metrics.values())
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


def test_the_view_is_the_masked_image_and_the_gradient_reaches_the_mask_token(reference, objective, batch):
    encoder = reference.randomised(nnx.eval_shape(make_encoder))
    rng = jax.random.split(jax.random.key(0), 3)
    views = objective.views(batch, encoder=encoder, rng=rng)
    assert list(views) == ["masked"]
    np.testing.assert_array_equal(views["masked"].masked, batch["masked"])
    np.testing.assert_array_equal(views["masked"].fill, objective.mask_token[...])

    def loss(objective):
        views = objective.views(batch, encoder=encoder, rng=rng)
        seen = {name: encoder(view) for name, view in views.items()}
        return objective.loss(seen, views, batch, encoder=encoder, step=jnp.int32(0), rng=rng)[0]

    gradient = jax.jit(jax.grad(loss))(objective)
    assert np.abs(np.asarray(gradient.mask_token[...])).min() > 0


def test_masked_positions_come_in_order_with_weights():
    masked = jnp.asarray([[0, 1, 0, 1, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    where, weight = masked_positions(masked, 2)
    np.testing.assert_array_equal(where[0], [1, 3])
    assert where[1, 0] == 3
    np.testing.assert_array_equal(weight, [[1, 1], [1, 0], [0, 0]])


def test_logits_are_float32_where_products_are_not(reference, seen):
    half = reference.randomised(
        nnx.eval_shape(
            lambda: MaskedTokens(
                make_encoder(dtype="bfloat16"),
                tokenizer=spec(KMeansTokenizer, patch=PATCH, codes=CODES),
                heads=HEADS,
                rngs=nnx.Rngs(params=0),
            )
        )
    )
    features = jax.tree.map(lambda x: x.astype(jnp.bfloat16), seen["masked"])
    assert half.logits(features, jnp.zeros((3, 2), int), remat="none").dtype == jnp.float32


def test_the_codebook_is_frozen_and_not_learnt(objective):
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(objective, nnx.Param))}
    assert not any(name.startswith("tokenizer") for name in names)
    assert {"mask_token", "head/kernel", "norm/scale", "blocks/up/bias"} <= names


def test_an_encoder_without_a_class_token_is_an_error(objective, seen):
    bare = seen["masked"]._replace(cls=None)
    with pytest.raises(ValueError, match="masked tokens need an encoder with a class token"):
        objective.logits(bare, jnp.zeros((3, 2), int), remat="none")


@pytest.mark.parametrize("patch", [2, 6])
def test_a_tokenizer_of_other_patches_is_refused(patch):
    """Its codes would be those of other places."""
    with pytest.raises(ValueError, match=rf"patches of {patch} pixels are not the encoder's of 4: give .* patch=4"):
        nnx.eval_shape(lambda: make(tokenizer=spec(KMeansTokenizer, patch=patch, codes=CODES, cells=2)))


def test_masks_of_another_grid_are_refused(objective, batch, seen, encoder):
    masks = {**batch, "masked": batch["masked"][:, :4]}
    with pytest.raises(ValueError, match="9 codes for the 4 patches of a mask"):
        objective.loss(seen, {}, masks, encoder=encoder, step=jnp.int32(0), rng=jax.random.split(jax.random.key(0), 3))
