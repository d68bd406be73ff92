"""Planted and seen red: a part of which a patch stays visible; a larger share of the first regions; too few patches."""

import numpy as np
import pytest

from facerep_jax import face_world
from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.region_mask import RegionMask
from facerep_jax.data.transforms import CropToBox

GRID, PATCH = 6, 8
BACKGROUND, SKIN, NOSE, HAIR = 0, 1, 6, 10
META = {"classes": face_world.CLASSES}


@pytest.fixture(scope="module")
def faces():
    crop = CropToBox(size=GRID * PATCH, margin=0.25)
    rng = np.random.default_rng(0)
    return [crop(face_world.face(0, index, 96), rng)["mask"] for index in range(12)]


def tiles_with(mask, *classes):
    """Which patches hold one of the classes, a patch at a time."""
    found = []
    for row in range(GRID):
        for column in range(GRID):
            patch = mask[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            found.append(bool(set(np.unique(patch)) & set(classes)))
    return np.array(found)


PARTS = {0: (2, 3), 1: (4, 5), 2: (6,), 3: (7, 8, 9), 5: (HAIR,)}  # number of the region -> classes of LaPa


def test_one_part_is_masked_wholly_and_the_count_is_always_the_same(faces):
    transform = RegionMask(grid=GRID, share=0.25, meta=META)
    for mask in faces:
        for which in range(6):
            masked = transform.draw(transform.regions(mask), which, np.random.default_rng(0))
            assert (masked.shape, masked.dtype, masked.sum()) == ((GRID**2,), bool, 27)
            region = tiles_with(mask, *PARTS[which]) if which in PARTS else outline(mask)
            if region.sum() <= 27:
                assert masked[region].all()
            else:
                assert region[masked].all()


def outline(mask):
    return tiles_with(mask, SKIN) & tiles_with(mask, HAIR, BACKGROUND)


def test_all_other_regions_are_masked_in_the_same_proportion():
    """A face of bands, whose nose is masked: hair, skin and background lose the same share of their other patches."""
    mask = np.zeros((48, 48), np.uint8)
    mask[:8] = HAIR
    mask[8:32] = SKIN
    mask[8:16, :8] = NOSE  # one patch
    transform = RegionMask(grid=GRID, share=0.25, meta=META)
    regions = transform.regions(mask)
    assert [int(region.sum()) for region in regions] == [0, 0, 1, 0, 0, 6, 17, 12]
    share = (27 - 1) / (36 - 1)
    for seed in range(20):
        masked = transform.draw(regions, 2, np.random.default_rng(seed))
        assert masked[6]
        for region in regions[5:]:
            assert abs(masked[region].sum() - share * region.sum()) <= 1.5  # rounding, and what it leaves over


def test_a_part_that_is_larger_than_the_mask_stays_visible_in_places():
    transform = RegionMask(grid=GRID, share=0.25, meta=META)
    regions = transform.regions(np.full((48, 48), HAIR, np.uint8))
    masked = transform.draw(regions, 5, np.random.default_rng(0))
    assert masked.sum() == 27


def test_without_annotations_patches_are_masked_evenly_at_random():
    transform = RegionMask(grid=GRID, share=0.25, meta=META)
    example = {"id": "x", "mask": np.full((48, 48), MISSING_CLASS, np.uint8)}
    rng = np.random.default_rng(0)
    share = np.mean([transform(example, rng)["masked"] for _ in range(2000)], axis=0)
    assert np.abs(share - 0.75).max() < 5 * (0.75 * 0.25 / 2000) ** 0.5


def test_each_of_the_first_six_regions_is_chosen(faces):
    transform = RegionMask(grid=GRID, share=0.25, meta=META)
    rng, mask = np.random.default_rng(0), faces[0]
    wholly = np.zeros(6)
    for _ in range(300):
        masked = transform({"id": "x", "mask": mask}, rng)["masked"]
        wholly += [masked[region].all() for region in transform.regions(mask)[:6]]
    assert (wholly >= 300 / 6 * 0.5).all()


def test_at_least_one_patch_stays_visible(faces):
    masked = RegionMask(grid=2, share=0.1, meta=META)({"id": "x", "mask": faces[0]}, np.random.default_rng(0))["masked"]
    assert masked.sum() == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(share=0.0), "RegionMask: the share of visible patches is above 0 and below 1, not 0.0"),
        (dict(share=1.0), "RegionMask: the share of visible patches is above 0 and below 1, not 1.0"),
        (dict(meta={}), "RegionMask needs masks of a class 'skin'; the data set's classes are: none"),
        (dict(parts=(("ear",),)), "RegionMask: none of the parts is a class of the data set"),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        RegionMask(**{"grid": GRID, "meta": META, **settings})


def test_a_mask_that_is_no_grid_and_a_record_without_one_are_named():
    transform = RegionMask(grid=GRID, meta=META)
    with pytest.raises(ValueError, match=r"RegionMask: a mask of \(40, 48\) pixels is no grid of 6 x 6 patches"):
        transform({"id": "x", "mask": np.zeros((40, 48), np.uint8)}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="RegionMask needs the feature 'mask'"):
        transform({"id": "x"}, np.random.default_rng(0))
