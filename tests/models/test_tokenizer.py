import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.data import face_world
from facerep_jax.models.tokenizer import KMeansTokenizer

PATCH, CODES = 8, 32


def make(**settings):
    return KMeansTokenizer(**{"patch": PATCH, "codes": CODES, **settings}, rngs=nnx.Rngs(params=0))


def faces(first, count, size=32):
    return np.stack([face_world.face(0, index, size)["image"] for index in range(first, first + count)])


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make()
    tokenizer.fit(faces(0, 64))
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
    again.fit(faces(0, 64))
    np.testing.assert_array_equal(again.centres[...], tokenizer.centres[...])


def test_a_black_image_has_codes(tokenizer):
    codes = tokenizer(jnp.zeros((1, 32, 32, 3), jnp.uint8))
    assert len(np.unique(codes)) == 1


def test_patches_that_cells_do_not_divide_are_an_error():
    with pytest.raises(ValueError, match="patches of 8 pixels do not divide into 3 cells"):
        make(cells=3)


def test_too_few_patches_are_an_error():
    with pytest.raises(ValueError, match="16 patches are too few to fit 32 codes"):
        make().fit(np.zeros((1, 32, 32, 3), np.uint8))
