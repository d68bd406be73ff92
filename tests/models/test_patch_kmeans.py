"""k-means features of patches against NumPy, from the definition.

Planted and seen red: distances that are not whitened; a mean over patches in place of that over centres.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.patch_kmeans import FLOOR, PatchKMeans
from facerep_jax.models.vit import sincos
from facerep_jax.typing import Encoder, View

PATCH, COMPONENTS, CENTRES = 4, 10, 12


def images(count=40, size=16, seed=0):
    """Smooth ones, so that components differ in variance."""
    rng = np.random.default_rng(seed)
    x = rng.normal(128, 40, (count, size // 4, size // 4, 3)).repeat(4, 1).repeat(4, 2)
    x = x + 12 * np.sin(np.arange(size) * rng.uniform(0.3, 2, (count, 1)))[:, None, :, None] + rng.normal(0, 3, x.shape)
    return np.clip(x, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted():
    model = PatchKMeans(
        patch=PATCH, components=COMPONENTS, centres=CENTRES, dtype="float32", remat="none", rngs=nnx.Rngs(0)
    )
    model.fit_images(images())
    return model


def normalised(image):
    """Patches in float64, freed of mean and deviation, and these."""
    found = []
    for row in range(0, image.shape[0], PATCH):
        for column in range(0, image.shape[1], PATCH):
            x = image[row : row + PATCH, column : column + PATCH].astype(np.float64).ravel()
            found.append((x, x.mean(), x.std()))
    flat = np.stack([(x - mean) / np.sqrt(deviation**2 + FLOOR) for x, mean, deviation in found])
    return flat, np.array([[mean, deviation] for _, mean, deviation in found])


def test_features_are_the_definition(fitted):
    image = images(1, seed=1)[0]
    flat, moments = normalised(image)
    white = (flat - np.asarray(fitted.mean[...], np.float64)) @ np.asarray(fitted.whiten[...], np.float64)
    distance = np.linalg.norm(white[:, None] - np.asarray(fitted.centres[...], np.float64)[None], axis=-1)
    near = np.maximum(distance.mean(1, keepdims=True) - distance, 0)
    features = fitted(View(jnp.asarray(image[None]), taps=(0,)))
    expected = np.concatenate([near, moments / 255, sincos(4, 4, 64)[1:]], axis=1)
    np.testing.assert_allclose(features.tokens[0], expected, atol=2e-4)
    np.testing.assert_allclose(features.pooled[0], expected.mean(0), atol=2e-4)
    np.testing.assert_array_equal(np.asarray(features.maps[0])[0].reshape(16, -1), features.tokens[0])
    assert 0.1 < (near > 0).mean() < 0.9  # some centres are near, others are not


def test_what_it_is_fitted_on_is_white(fitted):
    flat = np.concatenate([normalised(image)[0] for image in images()])
    white = (flat - np.asarray(fitted.mean[...], np.float64)) @ np.asarray(fitted.whiten[...], np.float64)
    covariance = np.cov(white, rowvar=False)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=0.02)
    assert (np.diag(covariance) > 0.8).all()
    assert (np.diag(covariance) < 1.01).all()


def test_centres_are_nearer_than_patches_drawn_at_random(fitted):
    flat = np.concatenate([normalised(image)[0] for image in images(seed=2)])
    white = (flat - np.asarray(fitted.mean[...])) @ np.asarray(fitted.whiten[...])

    def spread(centres):
        return np.square(np.linalg.norm(white[:, None] - centres[None], axis=-1).min(1)).mean()

    drawn = [spread(white[np.random.default_rng(seed).permutation(len(white))[:CENTRES]]) for seed in range(5)]
    assert spread(np.asarray(fitted.centres[...])) < min(drawn)


def test_it_is_an_encoder_of_whole_images(fitted):
    assert isinstance(fitted, Encoder)
    assert fitted.grid((16, 24)) == (4, 6)
    image = jnp.asarray(images(1))
    for view in (View(image, keep=jnp.zeros((1, 2), jnp.int32)), View(image, masked=jnp.zeros((1, 16), bool))):
        with pytest.raises(ValueError, match="looks at whole images"):
            fitted(view)
    with pytest.raises(ValueError, match="no grid of patches of 4 x 4"):
        fitted.grid((18, 16))


def test_too_few_patches_are_refused():
    model = PatchKMeans(patch=8, centres=12, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="8 patches are too few to fit 12 centres"):
        model.fit_images(images(2))
