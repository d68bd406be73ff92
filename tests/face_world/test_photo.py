"""Lens, sensor and file."""

from dataclasses import replace

import numpy as np
import simplejpeg
from scipy import ndimage

from facerep_jax.face_world import photo
from facerep_jax.face_world.scene import Photo

PLAIN = Photo(
    blur=0.0,
    noise=0.0,
    chroma=0.0,
    grain=1,
    gain=(1.0, 1.0, 1.0),
    gamma=1.0,
    vignette=0.0,
    quality=90,
    subsampling="444",
    places=((5, 9), (30, 2), (7, 100), (200, 11)),
)


def picture(size: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.uniform(0, 400, (3, size, size)), (0, 3, 3))
    return (20 + 130 * smooth / smooth.max()).astype(np.float32)


def test_a_plain_photograph_is_what_reached_the_lens():
    """This holds below the knee, to the precision of 256 steps over `BRIGHTEST`."""
    image = picture()
    found = photo.photograph(PLAIN, image.copy(), 0, mirrored=False)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.transpose(2, 0, 1), image, atol=1.5)


def test_highlights_are_compressed_and_not_clipped():
    ramp = np.broadcast_to(np.linspace(0, 255 * photo.BRIGHTEST, 64, dtype=np.float32), (3, 64, 64)).copy()
    found = photo.photograph(PLAIN, ramp, 0, mirrored=False)[0, :, 0].astype(int)
    assert (np.diff(found) >= 0).all()
    assert found[-1] > found[-8] > 200


def test_gain_and_gamma_are_a_channels_own():
    image = np.full((3, 8, 8), 100, np.float32)
    settings = replace(PLAIN, gain=(1.2, 1.0, 0.8), gamma=1.3)
    found = photo.photograph(settings, image, 0, mirrored=False)[4, 4]
    np.testing.assert_allclose(found, 255 * (np.array([1.2, 1.0, 0.8]) * 100 / 255) ** 1.3, atol=2)


def test_blur_is_gaussian():
    image = picture(48)
    found = photo.photograph(replace(PLAIN, blur=1.5 / 48), image.copy(), 0, mirrored=False)
    expected = ndimage.gaussian_filter(image, (0, 1.5, 1.5), truncate=8)
    inner = slice(6, -6)
    np.testing.assert_allclose(found.transpose(2, 0, 1)[:, inner, inner], expected[:, inner, inner], atol=2)


def test_a_vignette_darkens_the_corners():
    found = photo.photograph(replace(PLAIN, vignette=0.4), np.full((3, 33, 33), 150, np.float32), 0, mirrored=False)
    assert found[16, 16, 0] in (149, 150, 151)
    np.testing.assert_allclose(found[0, 0], 150 * (1 - 0.4 * (1 - 1 / 33) ** 2), atol=2)


def test_noise_has_its_deviation_its_grain_and_its_place():
    grey = np.full((3, 64, 64), 120, np.float32)

    def noise(**settings):
        found = photo.photograph(replace(PLAIN, **settings), grey.copy(), 0, mirrored=False)
        return found.astype(float) - 120

    white = noise(noise=5.0)
    np.testing.assert_allclose(white.std(), 5.0 * photo.BRIGHTEST, rtol=0.06)
    np.testing.assert_array_equal(white[..., 0], white[..., 2])
    coloured = noise(noise=5.0, chroma=0.6)
    assert (coloured[..., 0] - coloured[..., 2]).std() > 3
    coarse = noise(noise=5.0, grain=2)
    np.testing.assert_array_equal(coarse[::2, ::2], coarse[1::2, 1::2])
    assert np.abs(white - noise(noise=5.0, places=((6, 9), *PLAIN.places[1:]))).mean() > 2
    mirrored = photo.photograph(replace(PLAIN, noise=5.0), grey.copy(), 0, mirrored=True).astype(float) - 120
    np.testing.assert_array_equal(mirrored[:, ::-1], white)


def test_files_have_their_quality_and_subsampling():
    image = photo.photograph(replace(PLAIN, noise=6.0), picture(64), 0, mirrored=False)
    sizes, errors = [], []
    for quality in (40, 70, 95):
        file = photo.encoded(replace(PLAIN, quality=quality), image)
        sizes.append(len(file))
        errors.append(np.abs(simplejpeg.decode_jpeg(file).astype(int) - image).mean())
    assert sizes[0] < sizes[1] < sizes[2]
    assert errors[0] > errors[1] > errors[2]
    header = simplejpeg.decode_jpeg_header(photo.encoded(replace(PLAIN, subsampling="420"), image))
    assert header[3] == "420"
