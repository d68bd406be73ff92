from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf

from facerep_jax.models.layers import LayerNorm
from facerep_jax.models.views import random_patches
from facerep_jax.models.vit import CLIP_MEAN, CLIP_STD, ViT, patches, sincos
from facerep_jax.streams import stream
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


@pytest.fixture(scope="module", params=["clip", "mae"])
def either(request, reference, vit):
    """A ViT of each flavour. MAE's class token is small, so that eps counts: its position is 0."""
    if request.param == "clip":
        return vit
    mae = reference.randomised(nnx.eval_shape(lambda: make(flavour="mae")))
    mae.class_token.set_value(mae.class_token[...] * 0.01)
    return mae


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
    return vit(replace(view, taps=(1, 0)))


def exact_gelu(x):
    return x * (1 + erf(x / 2**0.5)) / 2


def numpy_sincos(rows, columns):
    """Positions by 2111.06377's code, element by element: sin and cos of the column, then of the row."""
    quarter = WIDTH // 4
    table = np.zeros((1 + rows * columns, WIDTH))
    for n in range(rows * columns):
        for half, place in enumerate((n % columns, n // columns)):
            for i in range(quarter):
                angle = place / 10_000 ** (i / quarter)
                table[1 + n, 2 * half * quarter + i] = np.sin(angle)
                table[1 + n, (2 * half + 1) * quarter + i] = np.cos(angle)
    return table


def numpy_vit(reference, vit, image, keep=None, masked=None, fill=None, positions=None):
    """The definition, patch by patch: pooled, tokens, class token and the output of every block."""
    p = reference.params(vit)
    b, h, w, _ = image.shape
    clip = "norm_in" in p
    mean, std = (CLIP_MEAN, CLIP_STD) if clip else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = (np.asarray(image, np.float64) / 255 - mean) / std
    kernel = p["embed"]["kernel"].reshape(PATCH, PATCH, 3, WIDTH)  # a convolution's, HWIO
    bias = 0 if clip else p["embed"]["bias"]
    if positions is None:
        positions = p["positions"] if clip else numpy_sincos(SIDE, SIDE)
    columns = w // PATCH
    examples = []
    for i in range(b):
        embedded = []
        for n in range(h // PATCH * columns):
            top, left = n // columns * PATCH, n % columns * PATCH
            y = np.einsum("hwc,hwcd->d", x[i, top : top + PATCH, left : left + PATCH], kernel) + bias
            if masked is not None and masked[i, n]:
                y = np.asarray(fill, np.float64)
            embedded.append(y + positions[1 + n])
        chosen = range(len(embedded)) if keep is None else np.asarray(keep[i])
        examples.append([p["class_token"] + positions[0], *(embedded[n] for n in chosen)])
    sequence = np.array(examples)
    if clip:
        sequence = reference.norm(p["norm_in"], sequence)
    eps, activation = (1e-5, reference.quick_gelu) if clip else (1e-6, exact_gelu)
    layers = reference.blocks(p["blocks"], sequence, HEADS, activation=activation, eps=eps)
    last = layers[-1]
    return reference.norm(p["norm_out"], last[:, 0], eps), last[:, 1:], last[:, 0], layers


@pytest.mark.parametrize("what", ["whole", "masked", "kept", "masked and kept"])
def test_features_equal_numpy(reference, either, image, masked, what):
    """tried: the mask token after the positions; positions of kept patches by their new place; no norm_in.

    For MAE: eps 1e-5; GELU by tanh; quick GELU; no bias in the patch embedding; a norm_in; CLIP's mean; sines of rows
    first.
    """
    view = {"masked": masked, "fill": FILL} if "masked" in what else {}
    view |= {"keep": KEEP} if "kept" in what else {}
    seen = see(either, View(image, **view))
    pooled, tokens, cls, _ = numpy_vit(reference, either, image, **view)
    reference.assert_equal(seen.pooled, pooled)
    reference.assert_equal(seen.tokens, tokens)
    reference.assert_equal(seen.cls, cls)
    assert seen.maps == {}


def test_taps_give_outputs_of_blocks_as_maps(reference, vit, image):
    seen = see_taps(vit, View(image))
    pooled, _, _, layers = numpy_vit(reference, vit, image)
    assert set(seen.maps) == {0, 1}
    for ours, layer in zip(seen.at((1, 0)), (layers[1], layers[0]), strict=True):
        reference.assert_equal(ours, layer[:, 1:].reshape(4, SIDE, SIDE, WIDTH))
    assert set(seen.cls_at) == {0, 1}
    for tap, cls in seen.cls_at.items():
        reference.assert_equal(cls, layers[tap][:, 0])
    reference.assert_equal(seen.pooled, pooled)
    assert vit.tap_widths((1, 0)) == (WIDTH, WIDTH)
    assert vit.tap_strides((1, 0)) == (PATCH, PATCH)


def cubic(x):
    """Keys' cubic kernel with a = -0.75."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * x**3 + 3.75 * x**2 - 6 * x + 3 if x < 2 else 0.0


def test_another_resolution_resizes_the_positions_of_patches_alone(reference, either):
    """tried: rows and columns swapped; MAE's positions computed anew for the grid."""
    rows, columns = 2, 5
    image = jnp.asarray(np.random.default_rng(3).integers(0, 256, (2, PATCH * rows, PATCH * columns, 3)), jnp.uint8)
    given = reference.params(either).get("positions", numpy_sincos(SIDE, SIDE))
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
    np.testing.assert_allclose(either.positions_for(rows, columns), np.array(resized), atol=1e-5)
    np.testing.assert_allclose(either.positions_for(SIDE, SIDE), given, atol=1e-6)
    seen = see_taps(either, View(image))
    pooled, tokens, _, layers = numpy_vit(reference, either, image, positions=np.array(resized))
    reference.assert_equal(seen.pooled, pooled)
    reference.assert_equal(seen.tokens, tokens)
    reference.assert_equal(seen.maps[0], layers[0][:, 1:].reshape(2, rows, columns, WIDTH))


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


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["clip", "mae"])
def test_bfloat16_stays_close_through_twelve_blocks(image, flavour):
    def of(dtype):
        return lambda: make(flavour=flavour, width=64, depth=12, heads=4, dtype=dtype, remat="none")

    def loss(vit):
        seen = vit(View(image, taps=(11,)))
        return jnp.square(seen.tokens.astype(jnp.float32)).mean(), seen

    exact = jax.jit(of("float32"))()
    half = nnx.merge(nnx.graphdef(nnx.eval_shape(of("bfloat16"))), nnx.state(exact))
    (_, ours), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(half)
    theirs = jax.jit(loss)(exact)[1]
    assert ours.pooled.dtype == ours.tokens.dtype == ours.maps[11].dtype == jnp.bfloat16
    for leaf in jax.tree.leaves(gradient):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    for a, b in ((ours.pooled, theirs.pooled), (ours.tokens, theirs.tokens)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert 0 < np.linalg.norm(a - b) < 0.02 * np.linalg.norm(b)


def count(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize(
    ("variant", "flavour", "parameters"),
    [
        ("B/16", "clip", 86_192_640 - 768 * 512),  # FaRL's tower less the projection, which the objective owns
        ("L/14", "clip", 303_966_208 - 1024 * 768),  # CLIP's
        ("B/16", "mae", 85_798_656 - 197 * 768),  # published code counts its fixed positions
        ("L/16", "mae", 303_301_632 - 197 * 1024),
        ("H/14", "mae", 630_764_800 - 257 * 1280),
        ("S/16", "mae", 21_665_664 - 197 * 384),
        ("Ti/16", "mae", 5_524_416 - 197 * 192),
        ("B/8", "mae", 85_807_872 - 785 * 768),
    ],
)
def test_as_many_parameters_as_published(variant, flavour, parameters):
    make = partial(ViT, flavour=flavour, variant=variant, dtype="float32", remat="none")
    assert count(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(params=0)))) == parameters


@pytest.mark.parametrize(("flavour", "eps"), [("clip", 1e-5), ("mae", 1e-6)])
def test_all_norms_have_the_published_eps(flavour, eps):
    modules = nnx.iter_modules(nnx.eval_shape(lambda: make(flavour=flavour)))
    assert {module.eps for _, module in modules if isinstance(module, LayerNorm)} == {eps}


def test_initial_values_are_those_of_farl():
    vit = jax.jit(lambda: make(width=128, depth=1))()
    for name in ("class_token", "positions"):
        np.testing.assert_allclose(np.asarray(getattr(vit, name)[...]).std(), 128**-0.5, rtol=0.15)
    np.testing.assert_allclose(np.asarray(vit.embed.kernel[...]).std(), 0.02, rtol=0.03)
    assert vit.embed.bias is None


def test_initial_values_are_those_of_mae():
    width, pixels = 128, 3 * PATCH**2
    vit = jax.jit(lambda: make(flavour="mae", width=width, depth=1))()
    np.testing.assert_allclose(np.asarray(vit.class_token[...]).std(), 0.02, rtol=0.15)
    block = vit.blocks
    for kernel, fans in (  # xavier-uniform
        (vit.embed.kernel, pixels + width),
        (block.query.kernel, 4 * width),  # of the three as one matrix
        (block.value.kernel, 4 * width),
        (block.out.kernel, 2 * width),
        (block.up.kernel, 5 * width),
        (block.down.kernel, 5 * width),
    ):
        limit = (6 / fans) ** 0.5
        assert 0.98 * limit < np.abs(np.asarray(kernel[...])).max() <= limit
    bias = np.abs(np.asarray(vit.embed.bias[...]))
    assert 0.9 * pixels**-0.5 < bias.max() <= pixels**-0.5
    assert not any(np.asarray(linear.bias[...]).any() for linear in (block.query, block.out, block.up, block.down))
    assert vit.positions is None


def test_sincos_positions_of_any_grid():
    np.testing.assert_allclose(sincos(2, 5, WIDTH), numpy_sincos(2, 5), atol=1e-6)
    assert sincos(14, 14, 768).dtype == np.float32
    with pytest.raises(ValueError, match="sin-cos positions need a width that is a multiple of 4, not 18"):
        make(flavour="mae", width=18)


KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.fixture(scope="module")
def dropping(either):
    """The same weights with half of the patches dropped in training."""
    flavour = "clip" if either.norm_in is not None else "mae"
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(flavour=flavour, patch_dropout=0.5)))
    return nnx.merge(graph, nnx.state(either))


@jax.jit
def see_training(vit, image, rng):
    return vit(View(image), train=True, rng=rng)


def test_patch_dropout_is_the_same_as_keeping_what_it_draws(dropping, image):
    """tried: positions dropped apart from patches; the class token dropped with the rest."""
    keep = random_patches(stream(KEYS, "patch_dropout"), TILES, int(TILES / 2))
    seen, kept = see_training(dropping, image, KEYS), see(dropping, View(image, keep=keep))
    for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_patch_dropout_belongs_to_the_example_not_to_its_row(dropping, image):
    """tried: one draw for all; keys folded from the row."""
    order = jnp.asarray([2, 0, 3, 1])
    seen, permuted = (
        see_training(dropping, image, KEYS).pooled,
        see_training(dropping, image[order], KEYS[order]).pooled,
    )
    np.testing.assert_allclose(permuted, seen[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(see(dropping, View(image)).tokens.shape[1], TILES)  # nothing outside of training


@pytest.mark.parametrize(("share", "kept"), [(0.5, int(TILES / 2)), (0.7, 2), (0.99, 1)])
def test_patch_dropout_keeps_one_patch_at_least(vit, image, share, kept):
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(patch_dropout=share)))
    dropping = nnx.merge(graph, nnx.state(vit))
    assert dropping.dropped(View(image), KEYS).keep.shape == (4, kept)


def test_patch_dropout_draws_apart_from_drop_path(image):
    """tried: patches drawn from the key from which the first block draws."""
    keys = jax.random.split(jax.random.key(2), 2000)
    first = jax.vmap(lambda key: jax.random.fold_in(key, 0))(stream(keys, "drop_path"))
    dropped = np.asarray(jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (2,)))(first))
    images = jnp.zeros((2000, *image.shape[1:]), jnp.uint8)
    kept = np.asarray(make(patch_dropout=0.5).dropped(View(images), keys).keep)
    for patch in range(TILES):
        assert np.abs(np.corrcoef(dropped.T, (kept == patch).any(1))[:2, 2]).max() < 0.1


def test_patch_dropout_refuses_views_whose_places_count(dropping, image, masked):
    def look(view, **settings):
        dropping(view, train=True, **{"rng": KEYS, **settings})

    with pytest.raises(ValueError, match="maps exist of whole images only"):
        look(View(image, taps=(0,)))
    for view in (View(image, keep=KEEP), View(image, masked=masked, fill=FILL)):
        with pytest.raises(ValueError, match="patch dropout is for whole images, not for views with kept or masked"):
            look(view)
    with pytest.raises(ValueError, match="patch dropout needs a key for each example"):
        look(View(image), rng=None)


@pytest.mark.parametrize("name", ["drop_path", "patch_dropout"])
@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_what_is_dropped_is_a_share(name, share):
    with pytest.raises(ValueError, match=f"{name} is a share of at least 0 and less than 1, not {share}"):
        make(**{name: share})


@pytest.mark.parametrize("heads", [-1, 3])
def test_heads_divide_the_width(heads):
    with pytest.raises(ValueError, match=f"a width of 16 does not divide into {heads} heads; change `width` or"):
        make(width=16, heads=heads)


def test_an_unknown_flavour_is_an_error():
    with pytest.raises(ValueError, match="flavour of the encoder is clip or clip_gelu or mae, not 'dino'"):
        make(flavour="dino")


@pytest.mark.parametrize("variant", ["XL/16", "B", "B/x", "B/", ""])
def test_an_unknown_variant_is_an_error_that_lists_sizes(variant):
    with pytest.raises(
        ValueError, match=rf"encoder variant '{variant}' is not SIZE/PATCH; sizes: Nano, Ti, S, B, L, H"
    ):
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
            vit(View(image, taps=taps))
    with pytest.raises(ValueError, match="maps exist of whole images only"):
        vit(View(image, keep=KEEP, taps=(0,)))


def test_blocks_of_a_narrow_network_act_as_at_the_width_of_a_base_one():
    """Tried: a scale that embeds patches too."""

    def deviations(**settings):
        vit = ViT(variant="Nano/8", image_size=16, dtype="float32", remat="none", rngs=nnx.Rngs(0), **settings)
        blocks = vit.blocks
        return [
            float(layer.kernel[...].std()) for layer in (vit.embed, blocks.query, blocks.out, blocks.up, blocks.down)
        ]

    published, acting, twice = (deviations(**s) for s in ({}, dict(block_scale=None), dict(block_scale=2.0)))
    assert published[:2] == acting[:2] == twice[:2]
    np.testing.assert_allclose(np.array(acting[2:]) / published[2:], (768 / 96) ** 0.5, rtol=1e-5)
    np.testing.assert_allclose(np.array(twice[2:]) / published[2:], 2, rtol=1e-5)
    mae, same = (deviations(flavour="mae", **s) for s in ({}, dict(block_scale=None)))
    assert mae == same  # which scales with the width itself


def test_a_stem_embeds_patches_by_their_contrast(image):
    vit = make(stem=24)
    white = (np.asarray(image, np.float64) / 255 - CLIP_MEAN) / CLIP_STD
    x = np.asarray(patches(jnp.asarray(white), PATCH), np.float64)
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    mean = x.mean(-1, keepdims=True)
    seen = np.concatenate([(x - mean) / deviation, mean, np.log(deviation)], -1)
    up, down = (
        [np.asarray(p[...], np.float64) for p in (layer.kernel, layer.bias)] for layer in (vit.embed.up, vit.embed.down)
    )
    expected = np.maximum(seen @ up[0] + up[1], 0) @ down[0] + down[1]
    found = vit.embed(patches(vit.normalise(image), PATCH))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert see(vit, View(image)).tokens.shape == (4, TILES, WIDTH)


def test_a_flat_patch_has_a_finite_embedding_and_gradient():
    vit = make(stem=24)
    flat = jnp.full((1, PATCH * SIDE, PATCH * SIDE, 3), 7, jnp.uint8)
    gradient = nnx.grad(lambda vit: vit(View(flat)).tokens.sum())(vit)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient))


def see_all(**settings):
    vit = make(**settings)
    image = jnp.asarray(np.random.default_rng(5).integers(0, 256, (4, PATCH * SIDE, PATCH * SIDE, 3)), jnp.uint8)
    return vit, image


@pytest.mark.parametrize(
    "settings",
    [
        dict(registers=2),
        dict(positions="rope", registers=1),
        dict(class_token=False, pool="attention"),
        dict(pool="mean", layer_scale=0.1),
        dict(positions="sincos_rows", patch_bias=True, norm_in=False, activation="gelu_tanh", hidden=24),
    ],
    ids=str,
)
def test_settings_go_with_kept_patches_and_taps(settings):
    """A view that keeps all patches, in another order, is the whole image with tokens in that order."""
    vit, image = see_all(**settings)
    order = jnp.asarray(np.random.default_rng(0).permuted(np.tile(np.arange(TILES), (4, 1)), axis=1))
    whole, kept = see(vit, View(image)), see(vit, View(image, keep=order))
    np.testing.assert_allclose(kept.pooled, whole.pooled, atol=1e-4)
    np.testing.assert_allclose(kept.tokens, jnp.take_along_axis(whole.tokens, order[..., None], axis=1), atol=1e-4)
    tapped = see_taps(vit, View(image))
    np.testing.assert_allclose(tapped.maps[1].reshape(whole.tokens.shape), whole.tokens, atol=1e-5)
    assert (whole.cls is None) == (settings.get("class_token") is False)


def test_rotary_positions_are_seen_and_need_no_size():
    vit, image = see_all(positions="rope")
    moved = jnp.roll(image, PATCH, axis=2)
    assert np.abs(np.asarray(see(vit, View(image)).pooled - see(vit, View(moved)).pooled)).max() > 1e-4
    assert vit.positions is None
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(positions="rope", image_size=PATCH * 7)))
    other = nnx.merge(graph, nnx.state(vit))
    np.testing.assert_array_equal(see(other, View(image)).pooled, see(vit, View(image)).pooled)


def test_layer_scale_of_zero_leaves_the_stream_as_it_is():
    vit, image = see_all(layer_scale=0.0)
    tapped = see_taps(vit, View(image))
    np.testing.assert_array_equal(tapped.maps[0], tapped.maps[1])
    assert vit.blocks.mlp_scale.shape == (2, WIDTH)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(positions="fixed"), "positions of the encoder is learned or sincos or sincos_rows or rope, not 'fixed'"),
        (dict(activation="relu"), "activation of the encoder is quick_gelu or gelu or gelu_tanh, not 'relu'"),
        (dict(pool="max"), "pool of the encoder is class or mean or attention, not 'max'"),
        (dict(class_token=False), "without a class token the pooled feature is that of pool=mean or pool=attention"),
        (dict(positions="rope", width=12), "heads whose width is a multiple of 4, not 6"),
    ],
)
def test_settings_that_do_not_go_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
