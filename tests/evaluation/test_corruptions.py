"""Corruptions against other implementations of the same: Pillow's blur and files, SciPy's distributions."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import stats

from facerep_jax.data.arrays import Lazy
from facerep_jax.evaluation import corruptions
from facerep_jax.evaluation.corruptions import COVERED, GREY, KINDS, STRENGTHS, copies_of, corrupted, kinds_of
from facerep_jax.face_world import face

FACE = face(0, 3, 112)["image"]


def harm(kind, image=FACE):
    """The mean squared difference at each strength."""
    found = [corrupted(image, "a", kind, strength).astype(float) for strength in STRENGTHS]
    return [float(np.square(x - image).mean()) for x in found]


@pytest.mark.parametrize("kind", KINDS)
def test_each_strength_takes_more_away(kind):
    steps = harm(kind)
    assert steps == sorted(steps)
    assert steps[0] > 0
    assert len(set(steps)) == 5


def test_blur_is_that_of_pillow_at_the_published_size():
    """Pillow makes three box blurs of a Gaussian one, so that they agree up to a grey value."""
    image = face(0, 3, 224)["image"]
    middle = (slice(24, -24),) * 2  # their edges go on in another way
    for strength, sigma in zip(STRENGTHS, (1, 2, 3, 4, 6), strict=True):
        ours = corrupted(image, "a", "blur", strength)[middle].astype(int)
        theirs = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))[middle]
        apart, done = (np.abs(x - theirs).mean() for x in (ours, image[middle].astype(int)))
        assert apart < 0.6 * done
        assert apart < 0.6


def test_blur_grows_with_the_side_of_the_image():
    """The definition, on an edge: half-way between both sides it is as steep as a normal distribution is high."""
    for side in (64, 224, 448):
        edge = np.zeros((side, side, 3), np.uint8)
        edge[:, side // 2 :] = 250
        row = corrupted(edge, "a", "blur", 5)[side // 2, :, 0].astype(float)
        place = np.arange(side) + 0.5 - side // 2
        np.testing.assert_allclose(row, 250 * stats.norm.cdf(place, scale=6 * side / 224), atol=2.5)


def test_noise_is_normal_with_the_published_deviations():
    grey = np.full((96, 96, 3), 127, np.uint8)
    for strength, deviation in zip(STRENGTHS, (0.08, 0.12, 0.18, 0.26, 0.38), strict=True):
        added = corrupted(grey, "a", "noise", strength).astype(float) - 127
        inside = added[np.abs(added) < 126]
        cut = stats.truncnorm(-126.5 / (255 * deviation), 126.5 / (255 * deviation), scale=255 * deviation)
        assert inside.std() == pytest.approx(cut.std(), rel=0.02)
        assert inside.mean() == pytest.approx(0, abs=4 * cut.std() / np.sqrt(inside.size))
        assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 0.05


def test_jpeg_is_a_file_of_the_published_quality():
    for strength, quality in zip(STRENGTHS, (25, 18, 15, 10, 7), strict=True):
        file = io.BytesIO()
        Image.fromarray(FACE).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(corrupted(FACE, "a", "jpeg", strength), np.asarray(Image.open(file)))


def test_a_square_of_the_given_area_lies_within_the_image_and_grows():
    for name in map(str, range(40)):
        before = np.zeros(FACE.shape[:2], bool)
        for strength, share in zip(STRENGTHS, COVERED, strict=True):
            changed = (corrupted(255 * np.ones_like(FACE), name, "occlusion", strength) == GREY).all(2)
            assert changed.mean() == pytest.approx(share, rel=0.03)
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            assert len(rows) * len(columns) == changed.sum()  # one rectangle
            assert (changed[before]).mean() > 0.8 if before.any() else True  # about the same place
            before = changed


def test_low_light_halves_the_light_with_each_stop():
    def light(image):  # the standard's inverse, from its definition, value by value
        values = image.astype(np.float64) / 255
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)

    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for strength in STRENGTHS:
        dark = corrupted(ramp, "a", "low_light", strength)
        bright = ramp[0, :, 0] > 180
        ratio = light(dark[0, bright, 0]) / light(ramp[0, bright, 0])
        np.testing.assert_allclose(ratio, 0.5**strength, rtol=0.05)
    assert corrupted(ramp, "a", "low_light", 1)[0, 255, 0] == 188  # half of the light of white, as is known


def test_what_is_random_follows_from_the_images_name_alone():
    """A generator that goes on from image to image would not be."""
    images = np.stack([face(0, index, 32)["image"] for index in range(3)])
    whole = copies_of(images, ["a", "b", "c"], ["noise", "occlusion"])
    turned = copies_of(images[::-1], ["c", "b", "a"], ["noise", "occlusion"])
    assert whole.shape == (33, 32, 32, 3)
    np.testing.assert_array_equal(whole[:3], images)
    for copy in range(11):
        for row in range(3):
            np.testing.assert_array_equal(whole[3 * copy + row], turned[3 * copy + 2 - row])
    np.testing.assert_array_equal(whole[3 * 3 + 1], corrupted(images[1], "b", "noise", 3))
    np.testing.assert_array_equal(whole[3 * 10], corrupted(images[0], "a", "occlusion", 5))
    assert not np.array_equal(corrupted(images[0], "a", "noise", 1), corrupted(images[0], "b", "noise", 1))
    assert isinstance(whole, Lazy)


def test_kinds_are_named_and_their_order_does_not_matter():
    assert kinds_of(()) == ()
    assert kinds_of(("noise", "blur")) == ("blur", "noise")
    assert kinds_of(("all",)) == tuple(KINDS) == tuple(corruptions.TITLES)
    with pytest.raises(
        ValueError, match="corruption is blur or noise or jpeg or occlusion or low_light or all, not 'x'"
    ):
        kinds_of(("x",))
    with pytest.raises(ValueError, match="a strength is from 1 to 5, not 0"):
        corrupted(FACE, "a", "blur", 0)
