from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.views import (
    RandomPatches,
    Seen,
    UnmaskedPatches,
    deinterleaved,
    encode,
    interleaved,
    random_patches,
)
from facerep_jax.models.vit import ViT
from facerep_jax.streams import stream
from facerep_jax.typing import Features, View

BATCH, WIDTH, TILES = 16, 16, 4


class Counting:
    """An encoder that counts its passes."""

    def __init__(self, encoder):
        self.encoder, self.passes = encoder, []
        self.width, self.stages, self.dtype, self.remat = encoder.width, encoder.stages, encoder.dtype, encoder.remat
        self.no_matter, self.rules = encoder.no_matter, encoder.rules
        self.tap_widths, self.tap_strides, self.grid = encoder.tap_widths, encoder.tap_strides, encoder.grid

    def __call__(self, view, *, train=False, rng=None):
        self.passes.append(view.image.shape[0])
        return self.encoder(view, train=train, rng=rng)


class Normed(nnx.Module):
    """The smallest encoder with batch statistics: each pixel is a token, normalised per colour."""

    width, stages, dtype, remat, no_matter, rules = 3, 1, "float32", "none", (), {}

    def __init__(self):
        self.norm = BatchNorm(3)

    def tap_widths(self, taps):
        return (3,) * len(taps)

    def tap_strides(self, taps):
        return (1,) * len(taps)

    def grid(self, image_size):
        return image_size

    def __call__(self, view, *, train=False, rng=None):
        x = self.norm(view.image, train=train)
        return Features(pooled=x.mean((1, 2)), tokens=x.reshape(len(x), -1, 3), maps=dict.fromkeys(view.taps, x))


@pytest.fixture(scope="module")
def vit(reference):
    sizes = dict(variant="Nano/4", image_size=8, width=WIDTH, depth=2, heads=2, drop_path=0.5)
    make = lambda: ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))  # noqa: E731
    return reference.randomised(nnx.eval_shape(make))


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 3)), jnp.uint8)


@pytest.fixture(scope="module")
def masked():
    rng = np.random.default_rng(1)
    return jnp.asarray([rng.permutation(TILES) < rng.integers(0, 3) for _ in range(BATCH)])


KEYS = jax.random.split(jax.random.key(0), BATCH)


def encode_counted(vit, views, rng=None):
    """Features of views, in training if there are keys; and the rows of each pass."""
    passes = []

    def run(vit, views, rng):
        counting = Counting(vit)
        seen = encode(counting, views(), train=rng is not None, rng=rng)
        passes.extend(counting.passes)
        return seen

    return jax.jit(run, static_argnums=1)(vit, lambda: views, rng), passes


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(dict(ours)), jax.tree.leaves(dict(theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_views_of_equal_shape_share_a_pass_and_are_what_they_are_apart(vit, image, masked):
    """tried: views one after another taken apart as if interleaved; keys of one view for both."""
    fill = jnp.linspace(-2, 2, WIDTH)
    views = {
        "masked": View(image, masked=masked, fill=fill, taps=(1,)),
        "clean": View(255 - image, taps=(1,)),
        "large": View(jnp.tile(image, (1, 2, 1, 1)), taps=(1,)),
    }
    together, passes = encode_counted(vit, views, KEYS)
    apart, more = encode_counted(vit, {name: replace(view, apart=True) for name, view in views.items()}, KEYS)
    assert sorted(passes) == [BATCH, 2 * BATCH]
    assert more == [BATCH] * 3
    assert set(together) == set(apart) == set(views)
    assert_same(together, apart)
    alone = jax.jit(lambda vit, view: vit(view))(vit, views["masked"])
    assert np.abs(np.asarray(alone.pooled - together["masked"].pooled)).max() > 1e-2  # drop-path is at work


def test_views_of_one_image_draw_on_their_own_and_one_more_changes_no_draw(vit, image):
    """tried: one stream for all views; keys by the view's number."""
    seen, _ = encode_counted(vit, {"b": View(image), "c": View(image)}, KEYS)
    assert np.abs(np.asarray(seen["b"].pooled - seen["c"].pooled)).max() > 1e-2
    more, passes = encode_counted(vit, {name: View(image) for name in "abc"}, KEYS)
    assert passes == [3 * BATCH]
    assert_same({name: more[name] for name in "bc"}, seen)


def test_views_that_keep_patches_share_a_pass_where_they_keep_as_many(vit, image):
    rows = np.stack([np.random.default_rng(i).permutation(TILES) for i in range(BATCH)])
    keep = {"a": jnp.asarray(rows[:, :2]), "b": jnp.asarray(rows[:, 2:]), "c": jnp.asarray(rows[:, :3])}
    views = {name: View(image, keep=kept) for name, kept in keep.items()}
    together, passes = encode_counted(vit, views)
    assert sorted(passes) == [BATCH, 2 * BATCH]
    assert_same(together, jax.jit(lambda vit, views: {name: vit(view) for name, view in views.items()})(vit, views))


def test_two_mask_tokens_take_two_passes(vit, image, masked):
    """tried: one pass for all, with the first token."""
    tokens = [jnp.linspace(-2, 2, WIDTH), jnp.linspace(3, -1, WIDTH)]
    views = {name: View(image, masked=masked, fill=fill) for name, fill in zip("ab", tokens, strict=True)}
    views |= {"c": View(255 - image, masked=~masked, fill=tokens[0]), "clean": View(image)}
    seen, passes = encode_counted(vit, views)
    assert sorted(passes) == [BATCH, 3 * BATCH]  # the clean one goes with the first token
    alone = jax.jit(lambda vit, views: {name: vit(view) for name, view in views.items()})(vit, views)
    assert_same(seen, alone)
    assert np.abs(np.asarray(seen["a"].pooled - seen["b"].pooled)).max() > 1e-2


def test_a_mask_without_a_token_replaces_nothing_in_a_shared_pass_either(vit, image, masked):
    """tried: the token of the view beside it."""
    token = jnp.linspace(-2, 2, WIDTH)
    views = {"a": View(image, masked=masked), "b": View(image, masked=masked, fill=token)}
    seen, passes = encode_counted(vit, views)
    assert passes == [2 * BATCH]
    clean = jax.jit(lambda vit, view: vit(view))(vit, View(image))
    np.testing.assert_allclose(seen["a"].pooled, clean.pooled, rtol=1e-5, atol=1e-5)


def test_each_view_has_the_maps_of_its_taps(vit, image):
    """tried: the taps of the first view for all."""
    views = {"a": View(image, taps=(1,)), "b": View(255 - image, taps=(0,)), "none": View(image[:, :4])}
    seen, passes = encode_counted(vit, views)
    assert sorted(passes) == [BATCH, 2 * BATCH]
    alone = jax.jit(lambda vit, views: {name: vit(view) for name, view in views.items()})(vit, views)
    for name, view in views.items():
        for ours, theirs in zip(seen[name].at(view.taps), alone[name].at(view.taps), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert seen["none"].maps == {}


def test_views_share_batch_statistics_as_they_share_passes():
    """By NumPy over all rows of a pass; the running statistics move once per pass.

    tried: a pass for each view of an encoder with batch statistics; `apart` that nothing reads.
    """
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(place, 1 + place, (6, side, side, 3))
        for name, side, place in (("a", 4, 0), ("b", 4, 3), ("c", 2, 1), ("d", 4, 6))
    }
    views = {name: View(jnp.asarray(x, jnp.float32), apart=name == "d") for name, x in arrays.items()}
    encoder = Normed()
    counting = Counting(encoder)
    seen = encode(counting, views, train=True, rng=jax.random.split(jax.random.key(0), 6))
    assert counting.passes == [12, 6, 6]
    mean, variance = np.zeros(3), np.ones(3)
    for names in ("ab", "c", "d"):
        rows = np.concatenate([arrays[name].reshape(-1, 3) for name in names])
        mean, variance = 0.9 * mean + 0.1 * rows.mean(0), 0.9 * variance + 0.1 * rows.var(0, ddof=1)
        for name in names:
            expected = (arrays[name] - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
            np.testing.assert_allclose(seen[name].tokens, expected.reshape(6, -1, 3), atol=2e-5)
    np.testing.assert_allclose(encoder.norm.mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(encoder.norm.variance[...], variance, rtol=1e-5)


def test_nothing_moves_outside_of_training():
    encoder = Normed()
    encode(encoder, {"a": View(jnp.ones((2, 4, 4, 3)))})
    np.testing.assert_array_equal(encoder.norm.mean[...], np.zeros(3))


def test_interleaved_rows_lie_side_by_side_and_come_apart_again():
    a, b = jnp.arange(6).reshape(3, 2), 10 + jnp.arange(6).reshape(3, 2)
    joined = interleaved([a, b])
    np.testing.assert_array_equal(joined, [[0, 1], [10, 11], [2, 3], [12, 13], [4, 5], [14, 15]])
    for part, whole in zip(deinterleaved({"x": joined}, 2), (a, b), strict=True):
        np.testing.assert_array_equal(part["x"], whole)
    keys = jax.random.split(jax.random.key(0), 3)
    assert interleaved([keys, keys]).shape == (6,)
    assert interleaved([a]) is a
    assert deinterleaved({"x": a}, 1)[0]["x"] is a


def test_a_missing_view_is_an_error_that_lists_those_there_are():
    features = Features(jnp.zeros((1, 2)), jnp.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match="no view is called 'imgae'; there are: image, masked"):
        Seen(masked=features, image=features)["imgae"]
    with pytest.raises(ValueError, match="there are: none"):
        Seen()["image"]


def test_what_is_seen_passes_through_transformations():
    """tried: a plain subclass of dict, which jax takes for a leaf."""
    features = Features(jnp.zeros((1, 2)), jnp.zeros((1, 3, 2)))
    seen = jax.jit(lambda seen: jax.tree.map(lambda x: x + 1, seen))(Seen(b=features, a=features))
    assert type(seen) is Seen
    assert list(seen) == ["a", "b"]
    np.testing.assert_array_equal(seen["b"].pooled, np.ones((1, 2)))


def test_patches_are_drawn_evenly_without_repetition_in_order():
    """tried: draws with replacement; the first patches always."""
    count, draws, kept = 10, 3000, 3
    keys = jax.random.split(jax.random.key(1), draws)
    keep = np.asarray(jax.jit(lambda keys: random_patches(keys, count, kept))(keys))
    assert keep.shape == (draws, kept)
    assert (np.diff(keep, axis=1) > 0).all()
    share = np.bincount(keep.ravel(), minlength=count) / draws
    assert np.abs(share - kept / count).max() < 4 * (0.3 * 0.7 / draws) ** 0.5


@pytest.mark.parametrize(("share", "kept"), [(0.5, 2), (0.9, 3), (0.1, 1), (1.0, 4)])
def test_random_patches_keep_a_share_of_the_grid_and_go_with_the_key(vit, image, share, kept):
    make = build(spec(RandomPatches, share=share, image="photo"))
    view = make({"photo": image}, encoder=vit, rng=KEYS)
    assert view.image is image
    np.testing.assert_array_equal(view.keep, random_patches(KEYS, TILES, kept))
    np.testing.assert_array_equal(make({"photo": image}, encoder=vit, rng=KEYS[::-1]).keep, view.keep[::-1])
    other = make({"photo": image}, encoder=vit, rng=stream(KEYS, "other")).keep
    assert share in (1.0,) or not np.array_equal(other, view.keep)


def test_unmasked_patches_are_those_that_a_mask_leaves(vit, image):
    """tried: those that it masks."""
    masked = np.zeros((BATCH, TILES), bool)
    masked[0, [0, 3]] = masked[1, [1, 2]] = masked[2, [0, 1]] = True
    masked[3, 1] = masked[4, :3] = True  # one that masks too few patches, one that masks too many
    make = build(spec(UnmaskedPatches, share=0.5, image="photo"))
    assert make.needs == ("photo", "masked")
    view = make({"photo": image, "masked": jnp.asarray(masked)}, encoder=vit, rng=KEYS)
    assert view.image is image
    np.testing.assert_array_equal(view.keep[:6], [[1, 2], [0, 3], [2, 3], [0, 2], [0, 3], [0, 1]])
    with pytest.raises(ValueError, match="masks of 9 patches are not for images of 4"):
        make({"photo": image, "masked": jnp.zeros((BATCH, 9), bool)}, encoder=vit, rng=KEYS)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
@pytest.mark.parametrize("view", [RandomPatches, UnmaskedPatches])
def test_a_share_that_keeps_nothing_or_too_much_is_an_error(view, share):
    with pytest.raises(ValueError, match=f"the share of kept patches is above 0 and at most 1, not {share}"):
        view(share=share)
