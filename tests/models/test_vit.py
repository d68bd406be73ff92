import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.vit import CLIP_MEAN, CLIP_STD, ViT, patches
from facerep_jax.typing import View

PATCH, SIDE, WIDTH, HEADS = 4, 3, 16, 2
TILES = SIDE**2
REMAT = "dots_with_no_batch_dims_saveable"


def make(**settings):
    defaults = dict(variant=f"Nano/{PATCH}", image_size=PATCH * SIDE, width=WIDTH, depth=2, heads=HEADS)
    return ViT(**{**defaults, "dtype": "float32", "remat": REMAT, **settings}, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def vit(reference):
    return reference.randomised(nnx.eval_shape(lambda: make(drop_path=0.5)))


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, PATCH * SIDE, PATCH * SIDE, 3)), jnp.uint8)


@pytest.fixture(scope="module")
def masked():
    return jnp.asarray(np.random.default_rng(1).random((4, TILES)) < 0.4)


KEEP = jnp.asarray([[4, 0, 7], [8, 1, 2], [0, 1, 2], [5, 4, 3]])
FILL = jnp.linspace(-1, 1, WIDTH)


@jax.jit
def see(vit, view):
    return vit(view)


@jax.jit
def see_taps(vit, view):
    return vit(view, taps=(1, 0))


def numpy_vit(reference, vit, image, keep=None, masked=None, fill=None, positions=None):
    """The definition, patch by patch: pooled, tokens, class token and the output of every block."""
    p = reference.params(vit)
    b, h, w, _ = image.shape
    x = (np.asarray(image, np.float64) / 255 - CLIP_MEAN) / CLIP_STD
    kernel = p["embed"]["kernel"].reshape(PATCH, PATCH, 3, WIDTH)  # a convolution's, HWIO
    positions = p["positions"] if positions is None else positions
    columns = w // PATCH
    examples = []
    for i in range(b):
        embedded = []
        for n in range(h // PATCH * columns):
            top, left = n // columns * PATCH, n % columns * PATCH
            y = np.einsum("hwc,hwcd->d", x[i, top : top + PATCH, left : left + PATCH], kernel)
            if masked is not None and masked[i, n]:
                y = np.asarray(fill, np.float64)
            embedded.append(y + positions[1 + n])
        chosen = range(len(embedded)) if keep is None else np.asarray(keep[i])
        examples.append([p["class_token"] + positions[0], *(embedded[n] for n in chosen)])
    layers = reference.blocks(p["blocks"], reference.norm(p["norm_in"], np.array(examples)), HEADS)
    last = layers[-1]
    return reference.norm(p["norm_out"], last[:, 0]), last[:, 1:], last[:, 0], layers


@pytest.mark.parametrize("what", ["whole", "masked", "kept", "masked and kept"])
def test_features_equal_numpy(reference, vit, image, masked, what):
    """tried: the mask token after the positions; positions of kept patches by their new place; no norm_in."""
    view = {"masked": masked, "fill": FILL} if "masked" in what else {}
    view |= {"keep": KEEP} if "kept" in what else {}
    seen = see(vit, View(image, **view))
    pooled, tokens, cls, _ = numpy_vit(reference, vit, image, **view)
    reference.assert_equal(seen.pooled, pooled)
    reference.assert_equal(seen.tokens, tokens)
    reference.assert_equal(seen.cls, cls)
    assert seen.maps == ()


def test_taps_give_outputs_of_blocks_as_maps(reference, vit, image):
    seen = see_taps(vit, View(image))
    pooled, _, _, layers = numpy_vit(reference, vit, image)
    for ours, layer in zip(seen.maps, (layers[1], layers[0]), strict=True):
        reference.assert_equal(ours, layer[:, 1:].reshape(4, SIDE, SIDE, WIDTH))
    reference.assert_equal(seen.pooled, pooled)
    assert vit.tap_widths((1, 0)) == (WIDTH, WIDTH)
    assert vit.tap_strides((1, 0)) == (PATCH, PATCH)


def cubic(x):
    """Keys' cubic kernel with a = -0.75."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * x**3 + 3.75 * x**2 - 6 * x + 3 if x < 2 else 0.0


def test_another_resolution_resizes_the_positions_of_patches_alone(reference, vit):
    """tried: rows and columns swapped."""
    rows, columns = 2, 5
    image = jnp.asarray(np.random.default_rng(3).integers(0, 256, (2, PATCH * rows, PATCH * columns, 3)), jnp.uint8)
    given = reference.params(vit)["positions"]
    resized = [given[0]]
    for row in range(rows):
        for column in range(columns):
            y, x = (row + 0.5) * SIDE / rows - 0.5, (column + 0.5) * SIDE / columns - 0.5
            value = np.zeros(WIDTH)
            for i in range(-3, SIDE + 3):
                for j in range(-3, SIDE + 3):
                    n = min(max(i, 0), SIDE - 1) * SIDE + min(max(j, 0), SIDE - 1)
                    value += cubic(y - i) * cubic(x - j) * given[1 + n]
            resized.append(value)
    np.testing.assert_allclose(vit.positions_for(rows, columns), np.array(resized), atol=1e-5)
    np.testing.assert_array_equal(vit.positions_for(SIDE, SIDE), vit.positions[...])
    seen = see_taps(vit, View(image))
    pooled, tokens, _, layers = numpy_vit(reference, vit, image, positions=np.array(resized))
    reference.assert_equal(seen.pooled, pooled)
    reference.assert_equal(seen.tokens, tokens)
    reference.assert_equal(seen.maps[1], layers[0][:, 1:].reshape(2, rows, columns, WIDTH))


def test_a_patch_is_pixels_of_its_place_row_by_row():
    image = jnp.arange(2 * 8 * 12 * 3, dtype=jnp.float32).reshape(2, 8, 12, 3)
    rows = np.asarray(patches(image, 4))
    assert rows.shape == (2, 6, 48)
    for n in range(6):
        top, left = n // 3 * 4, n % 3 * 4
        np.testing.assert_array_equal(rows[1, n], np.asarray(image)[1, top : top + 4, left : left + 4].ravel())
    moved = np.asarray(patches(image.at[0, 5, 9].add(1.0), 4))
    assert set(zip(*np.nonzero(moved != rows)[:2], strict=True)) == {(0, 5)}


def test_patches_that_are_not_kept_are_not_seen(vit, image):
    changed = image.at[:, PATCH : 2 * PATCH, 2 * PATCH :].set(0)  # patch 5, which only the last example keeps
    before, after = see(vit, View(image, keep=KEEP)), see(vit, View(changed, keep=KEEP))
    for a, b in zip(before[:2], after[:2], strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
        assert np.abs(np.asarray(a[3] - b[3])).max() > 1e-3


def test_masked_patches_are_not_seen(vit, image, masked):
    hidden = jnp.repeat(jnp.repeat(masked.reshape(4, SIDE, SIDE), PATCH, 1), PATCH, 2)[..., None]
    before = see(vit, View(image, masked=masked, fill=FILL))
    after = see(vit, View(jnp.where(hidden, 0, image).astype(jnp.uint8), masked=masked, fill=FILL))
    np.testing.assert_array_equal(before.tokens, after.tokens)


def test_float_images_are_taken_as_they_are(reference, vit, image):
    normalised = ((np.asarray(image) / 255 - CLIP_MEAN) / CLIP_STD).astype(np.float32)
    np.testing.assert_allclose(vit.normalise(image), normalised, atol=1e-5)
    reference.assert_equal(see(vit, View(jnp.asarray(normalised))).pooled, np.asarray(see(vit, View(image)).pooled))


def test_drop_path_belongs_to_the_example_not_to_its_row(vit, image):
    """tried: keys of drop-path folded from the row."""

    @jax.jit
    def train(vit, image, rng):
        return vit(View(image), train=True, rng=rng)

    rng = jax.random.split(jax.random.key(0), len(image))
    order = jnp.asarray([2, 0, 3, 1])
    seen, permuted = train(vit, image, rng).pooled, train(vit, image[order], rng[order]).pooled
    np.testing.assert_allclose(permuted, seen[order], rtol=1e-5, atol=1e-5)
    changed = np.abs(np.asarray(seen - see(vit, View(image)).pooled)).max(1)
    assert (changed > 1e-2).any()
    other = train(vit, image, jax.random.split(jax.random.key(1), len(image))).pooled
    assert np.abs(np.asarray(other - seen)).max() > 1e-2


def test_nothing_is_random_outside_of_training(vit, image):
    rng = jax.random.split(jax.random.key(0), len(image))
    evaluated = jax.jit(lambda vit, image, rng: vit(View(image), rng=rng))(vit, image, rng)
    np.testing.assert_array_equal(evaluated.pooled, see(vit, View(image)).pooled)


def test_bfloat16_stays_close(vit, image):
    half = nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: make(drop_path=0.5, dtype="bfloat16"))), nnx.state(vit))
    ours, exact = see_taps(half, View(image)), see_taps(vit, View(image))
    assert ours.pooled.dtype == ours.tokens.dtype == ours.maps[0].dtype == jnp.bfloat16
    for a, b in ((ours.pooled, exact.pooled), (ours.tokens, exact.tokens)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert 0 < np.linalg.norm(a - b) < 0.03 * np.linalg.norm(b)


def count(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def test_b16_has_as_many_parameters_as_clips_visual_tower():
    whole = nnx.eval_shape(lambda: ViT(dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    assert count(whole) + 768 * 512 == 86_192_640  # with the projection, which is the contrastive objective's


def test_initial_values_are_those_of_farl():
    vit = jax.jit(lambda: make(width=128, depth=1))()
    for name in ("class_token", "positions"):
        np.testing.assert_allclose(np.asarray(getattr(vit, name)[...]).std(), 128**-0.5, rtol=0.15)
    np.testing.assert_allclose(np.asarray(vit.embed.kernel[...]).std(), 0.02, rtol=0.03)
    assert vit.embed.bias is None


@pytest.mark.parametrize("variant", ["XL/16", "B", "B/x", "B/", ""])
def test_an_unknown_variant_is_an_error_that_lists_sizes(variant):
    with pytest.raises(ValueError, match=rf"encoder variant '{variant}' is not SIZE/PATCH; sizes: Nano, Ti, S, B"):
        make(variant=variant)


@pytest.mark.parametrize(("h", "w"), [(10, 12), (12, 10), (0, 12), (3, 3)])
def test_an_image_that_patches_do_not_tile_is_an_error(vit, h, w):
    with pytest.raises(ValueError, match=f"an image of {h} x {w} pixels is no grid of patches of 4 x 4"):
        vit.grid((h, w))
    with pytest.raises(ValueError, match=f"{h} x {w} pixels"):
        vit(View(jnp.zeros((1, h, w, 3), jnp.uint8)))


def test_taps_that_cannot_be_given_are_errors(vit, image):
    for taps in ((2,), (0, -1)):
        with pytest.raises(ValueError, match="are not blocks of an encoder that has 2, 0 to 1"):
            vit(View(image), taps=taps)
    with pytest.raises(ValueError, match="maps exist of whole images only"):
        vit(View(image, keep=KEEP), taps=(0,))
