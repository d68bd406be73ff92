import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from PIL import Image

from facerep_jax import face_world
from facerep_jax.models.tokenizer import DVAE, KMeansTokenizer
from facerep_jax.train.frozen import given_weights
from facerep_jax.train.state import flat, split
from facerep_jax.weights import dalle

PATCH, CODES = 8, 32


def make(**settings):
    return KMeansTokenizer(**{"patch": PATCH, "codes": CODES, **settings}, rngs=nnx.Rngs(params=0))


def faces(first, count, size=32):
    return np.stack([face_world.face(0, index, size)["image"] for index in range(first, first + count)])


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make()
    tokenizer.fit_images(faces(0, 64))
    return tokenizer


@pytest.fixture(scope="module")
def unseen():
    return jnp.asarray(faces(1000, 48))


def numpy_summaries(image, patch, cells):
    """Mean colours of each patch's cells, one at a time."""
    x = np.asarray(image, np.float64)
    cell = patch // cells
    out = []
    for picture in x:
        picture = (picture - picture.mean()) / (picture.std() + 1e-3)
        rows = []
        for top in range(0, picture.shape[0], patch):
            for left in range(0, picture.shape[1], patch):
                parts = [
                    picture[top + i : top + i + cell, left + j : left + j + cell].mean((0, 1))
                    for i in range(0, patch, cell)
                    for j in range(0, patch, cell)
                ]
                rows.append(np.concatenate(parts))
        out.append(rows)
    return np.array(out)


@pytest.mark.parametrize(("cells", "shape"), [(4, (32, 32)), (2, (16, 24))])
def test_summaries_are_mean_colours_of_cells_of_the_normalised_image(cells, shape):
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, *shape, 3)), jnp.uint8)
    ours = make(cells=cells).summaries(image)
    np.testing.assert_allclose(ours, numpy_summaries(image, PATCH, cells), atol=1e-5)


def test_codes_are_the_nearest_centres(tokenizer, unseen):
    """tried: the other sign of the product."""
    x = numpy_summaries(unseen, PATCH, 4)
    centres = np.asarray(tokenizer.centres[...], np.float64)
    distance = np.square(x[:, :, None] - centres).sum(-1)
    codes = np.asarray(tokenizer(unseen))
    assert codes.shape == (len(unseen), 16)
    chosen = np.take_along_axis(distance, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, distance.min(-1), rtol=1e-4, atol=1e-4)
    assert (codes == distance.argmin(-1)).mean() > 0.999


def test_unseen_faces_use_most_codes(tokenizer, unseen):
    assert len(np.unique(tokenizer(unseen))) >= 0.6 * CODES


def test_frequency_is_that_of_the_fit(tokenizer):
    counts = np.bincount(np.asarray(tokenizer(jnp.asarray(faces(0, 64)))).ravel(), minlength=CODES) + 1
    np.testing.assert_allclose(tokenizer.frequency[...], counts / counts.sum(), atol=2e-3)
    np.testing.assert_allclose(np.asarray(tokenizer.frequency[...]).sum(), 1, rtol=1e-6)


def test_codes_follow_the_patches_of_a_moved_image(tokenizer, unseen):
    """tried: rows and columns swapped in `summaries`."""
    codes = np.asarray(tokenizer(unseen)).reshape(-1, 4, 4)
    down, right = jnp.roll(unseen, PATCH, axis=1), jnp.roll(unseen, PATCH, axis=2)
    assert (np.asarray(tokenizer(down)).reshape(-1, 4, 4) == np.roll(codes, 1, 1)).mean() > 0.99
    assert (np.asarray(tokenizer(right)).reshape(-1, 4, 4) == np.roll(codes, 1, 2)).mean() > 0.99


def test_codes_do_not_depend_on_exposure(tokenizer, unseen):
    dimmed = (unseen // 2 + 20).astype(jnp.uint8)
    assert (np.asarray(tokenizer(dimmed)) == np.asarray(tokenizer(unseen))).mean() > 0.9


def test_a_fit_is_a_function_of_its_images_and_seed(tokenizer):
    again = make()
    again.fit_images(faces(0, 64))
    np.testing.assert_array_equal(again.centres[...], tokenizer.centres[...])


def test_a_black_image_has_codes(tokenizer):
    codes = tokenizer(jnp.zeros((1, 32, 32, 3), jnp.uint8))
    assert len(np.unique(codes)) == 1


def test_patches_that_cells_do_not_divide_are_an_error():
    with pytest.raises(ValueError, match="patches of 8 pixels do not divide into 3 cells"):
        make(cells=3)


def test_too_few_patches_are_an_error():
    with pytest.raises(ValueError, match="16 patches are too few to fit 32 codes"):
        make().fit_images(np.zeros((1, 32, 32, 3), np.uint8))


def published(network, seed=0):
    """A state dict as the published one is named and shaped, for a network of any size."""
    rng = np.random.default_rng(seed)
    state = {}
    for path, variable in nnx.to_flat_state(nnx.state(network)):
        shape = variable.shape if len(variable.shape) == 1 else tuple(variable.shape[i] for i in (3, 2, 0, 1))
        state[dalle.their_name("/".join(map(str, path)))] = rng.normal(0, 0.2, shape).astype(np.float32)
    return state


def make_dvae(**settings):
    sizes = dict(variant="Nano", groups=3, codes=24)
    return nnx.eval_shape(lambda: DVAE(**{"patch": PATCH, **sizes, **settings}, rngs=nnx.Rngs(params=0)))


@pytest.fixture(scope="module")
def dvae(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "dvae.safetensors"
    dvae = make_dvae(weights=str(file))
    safetensors.numpy.save_file(published(dvae.network), file)
    given_weights("tokenizer", dvae)
    dvae.fit_images(faces(0, 40))
    return dvae


@jax.jit
def codes_of(tokenizer, image):
    return tokenizer(image)


@pytest.mark.parametrize(("patch", "size"), [(16, 224), (8, 48), (5, 35), (2, 12)])
def test_an_image_is_resized_as_pil_does_in_float(patch, size):
    """Eight pixels a patch, by Lanczos' filter. PIL on uint8, as BEiT has it, rounds and cuts off after each axis.

    The two are less than half a grey level apart on average; where saturated pixels overshoot, a few levels.
    """
    dvae = make_dvae(patch=patch, groups=4)
    image = np.asarray(face_world.face(0, 3, size if size >= 32 else 32)["image"][:size, :size])
    out = size // patch * 8
    ours = np.asarray(dvae.resized(jnp.asarray(image[None], jnp.float32)))[0]

    def pil(mode):
        channels = [Image.fromarray(image[..., c].astype(mode)) for c in range(3)]
        return np.stack([np.asarray(c.resize((out, out), Image.Resampling.LANCZOS)) for c in channels], -1)

    np.testing.assert_allclose(ours, pil(np.float32), atol=255e-5)
    rounded = np.abs(ours.clip(0, 255) - pil(np.uint8))
    assert rounded.mean() < 0.5
    assert rounded.max() < 12


def test_dvae_codes_are_aligned_with_patches(dvae):
    """tried: rows and columns swapped; an image is moved by a patch, and so are its codes, but for the borders."""
    image = jnp.asarray(faces(0, 4, 64))
    codes = np.asarray(codes_of(dvae, image)).reshape(4, 8, 8)
    down = np.asarray(codes_of(dvae, jnp.roll(image, PATCH, axis=1))).reshape(4, 8, 8)
    right = np.asarray(codes_of(dvae, jnp.roll(image, PATCH, axis=2))).reshape(4, 8, 8)
    assert len(np.unique(codes)) > 3
    inner = slice(3, 6)
    assert (down[:, 4:7, inner] == codes[:, 3:6, inner]).mean() > 0.9
    assert (right[:, inner, 4:7] == codes[:, inner, 3:6]).mean() > 0.9
    assert (down == codes).mean() < 0.9


def test_dvae_frequency_is_that_of_the_fit(dvae):
    counts = np.bincount(np.asarray(codes_of(dvae, jnp.asarray(faces(0, 40)))).ravel(), minlength=24) + 1
    np.testing.assert_allclose(dvae.frequency[...], counts / counts.sum(), rtol=1e-5)


def test_all_of_a_dvae_is_frozen(dvae):
    _, params, variables, given = split(dvae)
    assert not jax.tree.leaves((params, variables))
    assert {"frequency", "network/stem/kernel", "network/groups/2/0/shortcut/bias"} <= set(flat(given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.output.conv.w"), r"no array 'blocks\.output\.conv\.w'"),
        (lambda state: state.pop("blocks.output.conv.b"), "output/bias is missing there and "),
        (lambda state: state.update({"blocks.more.w": np.zeros(3)}), r"has no array 'blocks\.more\.w'"),
        (
            lambda state: state.update({"blocks.input.w": np.zeros((32, 3, 7, 7))}),
            r"groups/0/0/convs/0/bias is \(4,\) float32 there and \(8,\) float32 in the config",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, message):
    dvae = make_dvae(weights=str(tmp_path / "dvae.safetensors"))
    state = published(dvae.network)
    change(state)
    safetensors.numpy.save_file(state, dvae.weights)
    with pytest.raises(ValueError, match=message):
        given_weights("tokenizer", dvae)


def test_an_image_that_is_no_grid_of_patches_is_an_error(dvae):
    with pytest.raises(ValueError, match="an image of 20 x 16 pixels is no grid of patches of 8 x 8"):
        dvae(jnp.zeros((1, 20, 16, 3), jnp.uint8))
