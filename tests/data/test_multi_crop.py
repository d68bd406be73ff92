"""Crops and colours against torchvision's definitions. Planted and seen red: one draw for all crops of an image."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from facerep_jax import face_world
from facerep_jax.config import spec
from facerep_jax.data.augmentations import Grey
from facerep_jax.data.multi_crop import ColourJitter, GaussianBlur, Mirror, MultiCrop, Solarise
from facerep_jax.data.pipeline import build_transforms


@pytest.fixture
def face():
    return {**face_world.face(0, 0, 96), "id": b"a", "identity": np.int32(3)}


def rng(seed=0):
    return np.random.default_rng(seed)


def noise(size=32):
    return rng(1).integers(0, 256, (size, size, 3), np.uint8)


def test_crops_have_their_sizes_and_numbers_and_labels_stay(face):
    crops = MultiCrop(size=40, count=3, small_size=16, small_count=4)(face, rng())
    shapes = {name: crops[name].shape for name in ("image", "image_large", "image_small")}
    assert shapes == {"image": (40, 40, 3), "image_large": (2, 40, 40, 3), "image_small": (4, 16, 16, 3)}
    assert {"id", "identity", "attributes"} <= set(crops)
    assert not {"landmarks", "bbox", "mask"} & set(crops)  # which have not moved
    assert set(MultiCrop(size=40, count=1, small_count=0)(face, rng())) & set(shapes) == {"image"}
    every = [crops["image"], *crops["image_large"]]
    assert len({x.tobytes() for x in every}) == 3


def test_a_crop_is_a_box_of_its_area():
    """Coordinates as colours tell which box was taken."""
    y, x = np.mgrid[:100, :100]
    image = np.stack([2 * x, 2 * y, 0 * x], axis=-1).astype(np.uint8)
    crop = MultiCrop(size=50, count=1, small_count=0, scale=(0.14, 1.0))
    areas = []
    for seed in range(200):
        seen = crop({"image": image}, rng(seed))["image"].astype(float) / 2
        width, height = (np.ptp(seen[..., c]) * 50 / 49 for c in (0, 1))
        assert 0.7 < width / height < 1.45
        areas.append(width * height / 100**2)
    assert min(areas) > 0.12
    assert np.percentile(areas, 25) == pytest.approx(0.14 + 0.86 / 4, abs=0.1)  # uniform


def test_each_crop_is_augmented_on_its_own_and_kinds_can_differ(face):
    grey, mirror = spec(Grey, probability=1.0), spec(Mirror)
    settings = dict(size=24, count=2, small_size=16, small_count=2)
    (crop,) = build_transforms((spec(MultiCrop, **settings, augmentations=(mirror,), second=(grey,)),))
    seen = crop(face, rng())
    assert np.ptp(seen["image_large"], axis=-1).max() == 0
    assert np.ptp(seen["image"], axis=-1).max() > 0
    assert np.ptp(seen["image_small"], axis=-1).max() > 0
    (crop,) = build_transforms((spec(MultiCrop, **settings, of_small=(grey,)),))
    seen = crop(face, rng())
    assert np.ptp(seen["image_small"], axis=-1).max() == 0
    assert np.ptp(seen["image_large"], axis=-1).max() > 0


@pytest.mark.parametrize("kind", [Mirror, ColourJitter, GaussianBlur, Solarise])
def test_a_share_of_images_is_changed(kind):
    image, count = {"image": noise()}, 0
    for seed in range(200):
        count += not np.array_equal(kind(probability=0.3)(image, rng(seed))["image"], image["image"])
    assert 40 < count < 80


def test_a_mirror_and_solarisation_by_their_definition():
    image = noise()
    np.testing.assert_array_equal(Mirror(probability=1.0)({"image": image}, rng())["image"], image[:, ::-1])
    solar = Solarise(probability=1.0)({"image": image}, rng())["image"]
    np.testing.assert_array_equal(solar, np.where(image < 128, image, 255 - image))


@pytest.mark.parametrize("which", ["brightness", "contrast", "saturation"])
def test_jitter_blends_with_black_the_mean_grey_or_the_luma(which):
    strengths = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0) | {which: 0.8}
    image = noise().astype(float)
    luma = image @ [0.299, 0.587, 0.114]
    other = {"brightness": 0 * luma, "contrast": 0 * luma + round(luma.mean()), "saturation": luma}[which][..., None]
    factors = []
    for seed in range(40):
        found = ColourJitter(probability=1.0, **strengths)({"image": noise()}, rng(seed))["image"].astype(float)
        inside = (found > 2) & (found < 253) & (np.abs(image - other) > 30)
        factor = np.median((found - other)[inside] / (image - other)[inside])
        np.testing.assert_allclose(found, np.clip(other + factor * (image - other), 0, 255), atol=4)
        factors.append(factor)
    assert 0.1 < min(factors) < 0.5
    assert 1.5 < max(factors) < 1.9


def test_jitter_turns_the_hue():
    image = np.tile(np.uint8([200, 60, 90]), (4, 4, 1))
    before = colorsys.rgb_to_hsv(200 / 255, 60 / 255, 90 / 255)
    turns = []
    for seed in range(40):
        jitter = ColourJitter(probability=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.2)
        found = jitter({"image": image}, rng(seed))["image"][0, 0] / 255
        hue, saturation, value = colorsys.rgb_to_hsv(*found)
        np.testing.assert_allclose((saturation, value), before[1:], atol=0.03)
        turns.append((hue - before[0] + 0.5) % 1 - 0.5)
    assert -0.22 < min(turns) < -0.1
    assert 0.1 < max(turns) < 0.22


def test_blur_is_pillows_of_a_radius_from_a_tenth_to_two():
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    peaks = [GaussianBlur(probability=1.0)({"image": point}, rng(seed))["image"].max() for seed in range(60)]
    assert max(peaks) > 230
    assert min(peaks) < 20
    assert Image.fromarray(point).size == (41, 41)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(scale=(0.5, 1.2)), r"at most the image's, 1, not from 0\.5 to 1\.2"),
        (dict(small_scale=(0.2, 0.1)), r"not from 0\.2 to 0\.1"),
        (dict(size=32, small_size=48), "small crops of 48 pixels are larger than the large ones of 32"),
        (dict(count=0), "at least one large crop, not 0"),
    ],
)
def test_crops_that_cannot_be_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiCrop(**settings)
