"""Planted and seen red: an offset half a pixel off, x and y changed round on the way back, classes half a pixel off."""

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data.alignment import AlignToTemplate
from facerep_jax.data.transforms import CropToBox, Lacking
from facerep_jax.evaluation.tasks.head_pose import Pose
from facerep_jax.inference.crops import cropped

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 90, 3), np.uint8)
BOX = np.array([20.0, 10.0, 50.0, 34.0], np.float32)


def test_a_point_of_the_crop_goes_to_where_the_definition_puts_it():
    """The crop's left edge, half a pixel before the centre of its first pixel, is that of the box and its margin."""
    crop = cropped({"image": PIXELS, "bbox": BOX}, [CropToBox(size=32, margin=0.5)])
    wide, high = 2 * 30 / 32, 2 * 24 / 32  # pixels of the picture that one of the crop spans
    points = np.array([[-0.5, -0.5], [31.5, 31.5], [3.0, 8.0]])
    expected = np.array([[20 - 15.0, 10 - 12.0], [50 + 15.0, 34 + 12.0], [5 + 3.5 * wide, -2 + 8.5 * high]])
    np.testing.assert_allclose(crop.back(points), expected, atol=1e-4)
    np.testing.assert_allclose(crop.outline[[0, 2]], expected[:2], atol=1e-4)
    assert crop.size == (90, 60)
    assert crop.image.shape == (32, 32, 3)


def test_points_that_a_transform_moved_come_back():
    """Also where it turns the picture."""
    landmarks = np.array([[30, 20], [55, 28], [40, 35], [28, 41], [47, 48]], np.float32)
    crop = cropped({"image": PIXELS, "landmarks": landmarks}, [align := AlignToTemplate(size=48, meta={})])
    moved = align({"image": PIXELS, "landmarks": landmarks}, RNG)["landmarks"]
    assert abs(crop.matrix[0, 1]) > 0.05  # turned
    np.testing.assert_allclose(crop.back(moved), landmarks, atol=1e-3)


def test_classes_come_back_to_where_their_pixels_were():
    crop = cropped({"image": PIXELS, "bbox": BOX}, [CropToBox(size=30)])  # a pixel of the crop is 1 wide and 0.8 high
    mask = RNG.integers(0, 5, (30, 30)).astype(np.uint8)
    found = crop.classes_back(mask)
    assert found.shape == (60, 90)
    for x, y in [(21, 11), (35, 20), (49, 33), (28, 30)]:
        place = (np.array([x, y]) - BOX[:2]) / np.array([1, 0.8])  # from the crop's left and upper edges
        column, row = np.floor(place).astype(int)
        assert found[y, x] == mask[row, column]
    assert found[9, 30] == found[30, 51] == found[0, 0] == 255


def test_a_crop_of_nothing_but_the_picture_gives_classes_back_as_they_are():
    mask = RNG.integers(0, 5, (40, 40)).astype(np.uint8)
    crop = cropped({"image": PIXELS[:40, :40]}, [CropToBox(size=40, whole=True)])
    np.testing.assert_array_equal(crop.classes_back(mask), mask)
    np.testing.assert_array_equal(crop.image, PIXELS[:40, :40])


def test_the_crop_is_that_of_the_transforms():
    crop = cropped({"image": PIXELS}, [CropToBox(size=24, whole=True)])
    expected = np.asarray(Image.fromarray(PIXELS).resize((24, 24), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(crop.image, expected)


def test_labels_that_a_picture_lacks_are_not_asked_for_but_points_to_align_by_are():
    assert cropped({"image": PIXELS}, [Pose(), CropToBox(size=8, whole=True)]).image.shape == (8, 8, 3)
    with pytest.raises(ValueError, match="AlignToTemplate needs the feature 'landmarks'"):
        cropped({"id": "a", "image": PIXELS}, [AlignToTemplate(size=8, meta={})])


def test_a_face_without_its_box_is_lacking():
    with pytest.raises(Lacking, match="record 'a' has no box to crop to"):
        cropped({"id": "a", "image": PIXELS, "bbox": np.full(4, np.nan, np.float32)}, [CropToBox(size=8)])
