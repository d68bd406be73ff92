"""The warp against its formula by hand, its inverse, scikit-image and the picture itself."""

import io

import numpy as np
import pytest
from PIL import Image

from facerep_jax import face_world
from facerep_jax.data import alignment, tanh_warp
from facerep_jax.data.datasets import celebamask_hq
from facerep_jax.data.meta import IBUG
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.tanh_warp import AlignAndWarp, canvas_points, image_points, squeezed, stretched, warped
from facerep_jax.data.transforms import Lacking, Resize

TURNED = np.array([[0.9, -0.4, 30.0], [0.4, 0.9, -20.0]])
FIVE = np.array([[40, 40], [60, 40], [50, 55], [42, 66], [58, 66]], np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_warp_by_hand():
    """tanh(1) = 0.761594, tanh(1.25) = 0.848284, atanh(0.999) = 3.800201."""
    places = np.array([0, 0.1, 0.2, 1.0, -1.0, 1.2])
    np.testing.assert_allclose(squeezed(places, 0.8), [0, 0.1, 0.2, 0.809275, -0.809275, 0.878627], atol=1e-6)
    np.testing.assert_allclose(squeezed(places, 1.0), np.tanh(places), atol=1e-12)
    np.testing.assert_array_equal(squeezed(places, 0.0), places)
    np.testing.assert_allclose(
        stretched(np.array([0.809275, -0.1, 1.0, -1.0]), 0.8), [1, -0.1, 3.24016, -3.24016], 1e-5
    )


def test_the_middle_is_linear_and_meets_the_tanh_without_a_kink():
    for warp in (0.3, 0.8):
        near = 1 - warp + 1e-6 * np.array([-2, -1, 1, 2])
        slopes = np.diff(squeezed(near, warp)) / np.diff(near)
        np.testing.assert_allclose(slopes, 1, atol=1e-4)


@pytest.mark.parametrize("warp", [0.0, 0.5, 0.8, 1.0])
def test_points_there_and_back(warp):
    """Under a thousandth of a pixel, over the whole of the square and far around it."""
    square = rng().uniform(-100, 548, (500, 2)) if warp < 1 else rng().uniform(0, 448, (500, 2))
    points = np.linalg.solve(TURNED[:, :2], (square - TURNED[:, 2]).T).T
    there = canvas_points(points, TURNED, warp, 448)
    np.testing.assert_allclose(image_points(there, TURNED, warp, 448), points, atol=1e-6)
    if warp:
        assert (there > 0).all()
        assert (there < 448).all()
    line = np.linspace(1, 446, 100).repeat(2).reshape(-1, 2)
    back = canvas_points(image_points(line, TURNED, warp, 448), TURNED, warp, 448)
    np.testing.assert_allclose(back, line, atol=1e-6)


def test_alignment_there_and_back():
    example = {"id": b"a", "image": np.zeros((96, 96, 3), np.uint8), "landmarks": FIVE}
    align = alignment.AlignToTemplate(size=224, meta={})
    frame, aligned = align.matrix(example), align(example, rng())["landmarks"]
    np.testing.assert_allclose(image_points(aligned, frame, 0.0, 224), FIVE, atol=1e-3)
    shown = AlignAndWarp(size=224, meta={})(example, rng())
    np.testing.assert_allclose(image_points(shown["landmarks"], shown["frame"], 0.8, 224), FIVE, atol=1e-3)


def test_pixels_are_those_of_scikit_image():
    """0.26.0: transform.warp(order=1, mode="constant") of a map written from the formula, rounded."""
    y, x = np.mgrid[:20, :24]
    grey = ((37 * x + 61 * y + 5 * x * y) % 200 + 40).astype(np.uint8)
    frame = np.array([[0.573201893, -0.177312124, 1.5], [0.177312124, 0.573201893, -1.0]])
    expected = [
        *([0] * 12, [0, 0, 118, 158, 156, 23, 0, 0, 0, 0, 0, 0]),
        [0, 0, 164, 153, 102, 123, 160, 167, 181, 106, 158, 0],
        [0, 0, 155, 125, 111, 111, 184, 135, 64, 186, 128, 114],
        [0, 89, 129, 191, 136, 122, 130, 188, 159, 118, 98, 96],
        [0, 78, 171, 169, 103, 167, 150, 123, 121, 181, 176, 180],
        [0, 127, 122, 123, 97, 172, 137, 103, 186, 161, 148, 173],
        [0, 177, 81, 132, 99, 185, 163, 154, 126, 103, 106, 154],
        [0, 113, 175, 87, 93, 88, 167, 181, 126, 111, 145, 172],
        [0, 120, 189, 157, 141, 121, 151, 115, 139, 197, 160, 152],
        [0, 137, 122, 111, 130, 159, 157, 135, 152, 167, 185, 175],
        [0, 0, 0, 0, 0, 77, 60, 126, 97, 166, 197, 13],
    ]
    found = warped({"image": grey[..., None].repeat(3, -1)}, frame, 0.8, 12)["image"]
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], expected)


def discs(points, h=300, w=280, radius=4):
    """A dark picture with a bright disc of its own class at each point."""
    y, x = np.mgrid[:h, :w]
    mask = np.zeros((h, w), np.uint8)
    for index, (px, py) in enumerate(points, 1):
        mask[(x - px) ** 2 + (y - py) ** 2 <= radius**2] = index
    return {"image": np.where(mask > 0, 255, 0).astype(np.uint8)[..., None].repeat(3, -1), "mask": mask}


def centre(light):
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def test_discs_stay_at_their_landmarks():
    points = np.array([[140, 150], [170, 120], [90, 130], [200, 220], [60, 60], [250, 40]], np.float32)
    example = {**discs(points), "landmarks": points, "landmarks_3d": np.column_stack([points, np.arange(6.0)])}
    angle, scale, size = 0.4, 1.5, 400
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    frame = np.column_stack([turn, 199.5 - turn @ [140, 150]])
    result = warped(example, frame, 0.8, size)
    np.testing.assert_allclose(result["landmarks"][0], [199.5, 199.5], atol=1e-4)  # the middle stays
    far = np.abs(result["landmarks"] - 199.5).max(1)
    assert far.min() < 40 < 120 < far.max()  # some in the linear middle, some where the tanh bends
    for index, point in enumerate(result["landmarks"]):
        only = np.where(result["mask"] == index + 1, 1.0, 0.0)
        np.testing.assert_allclose(centre(only), point, atol=0.35)
        light = result["image"][..., 0] * (np.hypot(*(np.indices((size, size))[::-1].T - point).T) < 12)
        np.testing.assert_allclose(centre(light.astype(float)), point, atol=0.25)
    np.testing.assert_allclose(result["landmarks_3d"][:, :2], result["landmarks"], atol=1e-4)
    np.testing.assert_allclose(result["landmarks_3d"][:, 2], scale * np.arange(6), rtol=1e-5)


def test_what_lies_outside_is_black_and_its_class_missing():
    example = {"image": np.full((20, 20, 3), 200, np.uint8), "mask": np.full((20, 20), 4, np.uint8)}
    result = warped(example, np.array([[1.0, 0, 10], [0, 1, 10]]), 0.8, 40)
    inside = result["mask"] == 4
    assert set(np.unique(result["mask"])) == {4, 255}
    np.testing.assert_array_equal(result["image"][inside].min(1) > 90, True)
    assert not result["image"][:8].any()
    assert inside[20, 20]


def test_a_picture_that_shrinks_is_averaged():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = warped({"image": stripes}, np.array([[0.25, 0, 0], [0, 0.25, 0]]), 0.0, 64)["image"]
    assert np.abs(small[2:-2, 2:-2].astype(int) - 128).max() <= 1


def test_what_cannot_follow_is_left_out():
    example = {
        "image": np.zeros((9, 9, 3), np.uint8),
        "camera": np.zeros((3, 4), np.float32),
        "landmarks_scale": np.ones(2),
        "visor_px": np.zeros(2),
        "age": 3.0,
    }
    assert set(warped(example, np.eye(3)[:2], 0.8, 8)) == {"image", "age", "frame", "warp"}


def test_a_face_is_aligned_to_the_template_of_farl_and_then_warped():
    face = {**face_world.face(0, 1, 192), "id": b"face"}
    shown = AlignAndWarp(size=224, meta=face_world.META)(face, rng())
    aligned = alignment.AlignToTemplate(size=224, meta=face_world.META)(face, rng())
    expected = tanh_warp.squeezed_points(aligned["landmarks"], 0.8, 224)
    np.testing.assert_allclose(shown["landmarks"], expected, atol=1e-3)
    np.testing.assert_allclose(
        canvas_points(face["landmarks"], shown["frame"].astype(float), 0.8, 224), shown["landmarks"], atol=1e-3
    )
    middle = slice(92, 132)  # linear
    assert np.abs(shown["image"][middle, middle].astype(float) - aligned["image"][middle, middle]).mean() < 6


@pytest.mark.parametrize("seed", range(3))
def test_random_motions_are_about_the_middle_of_the_square(seed):
    example = {"id": b"a", "image": np.zeros((96, 96, 3), np.uint8), "landmarks": FIVE}
    move = AlignAndWarp(size=224, shift=0.05, angle_rad=0.3, zoom=0.2, normal=True, warp=0.0, meta={})
    still = AlignAndWarp(size=224, warp=0.0, meta={})(example, rng())["landmarks"]
    shift, angle, zoom = move.motion.draw(rng(seed))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = zoom * (still - 111.5) @ turn.T + 111.5 + 224 * shift
    np.testing.assert_allclose(move(example, rng(seed))["landmarks"], expected, atol=1e-3)


def test_a_set_that_its_authors_aligned_is_shown_whole_without_a_warp():
    face = {**face_world.face(0, 2, 96), "id": b"face"}
    shown = AlignAndWarp(size=96, meta=celebamask_hq.META)({k: v for k, v in face.items() if k != "landmarks"}, rng())
    np.testing.assert_array_equal(shown["image"], face["image"])
    np.testing.assert_array_equal(shown["mask"], face["mask"])
    smaller = AlignAndWarp(size=64, meta={**IBUG, "crop": "whole"})(face, rng())
    np.testing.assert_allclose(smaller["landmarks"], Resize(size=64)(face, rng())["landmarks"], atol=1e-3)


def test_the_mask_as_it_is_stored_may_be_kept():
    face = {**face_world.face(0, 2, 96), "id": b"face"}
    (keep,) = build_transforms([{"call": "facerep_jax.data.tanh_warp:AlignAndWarp", "size": 48, "keep_mask": True}],
                               face_world.META)  # fmt: skip
    kept = keep(face, rng())["original_mask"]
    with Image.open(io.BytesIO(kept.item())) as file:
        np.testing.assert_array_equal(np.asarray(file), face["mask"])
    with pytest.raises(ValueError, match="AlignAndWarp needs the feature 'mask'"):
        keep({k: v for k, v in face.items() if k != "mask"}, rng())


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        ({}, "AlignToTemplate needs the feature 'landmarks'"),
        ({"landmarks": np.zeros((98, 2))}, "the data set's meta does not tell `five_points` of its 98 landmarks"),
    ],
)
def test_a_set_that_does_not_tell_its_five_points_is_refused(landmarks, message):
    with pytest.raises(ValueError, match=message):
        AlignAndWarp(size=16, meta={})({"id": b"a", "image": np.zeros((9, 9, 3), np.uint8), **landmarks}, rng())


def test_a_face_without_landmarks_is_left_out():
    example = {"id": b"a", "image": np.zeros((9, 9, 3), np.uint8), "landmarks": np.full((5, 2), np.nan)}
    with pytest.raises(Lacking, match="has no landmarks to align"):
        AlignAndWarp(size=16, meta={})(example, rng())


def test_a_warp_is_a_share():
    with pytest.raises(ValueError, match=r"warp is a share of half a side, from 0 to 1, not 1\.2"):
        AlignAndWarp(size=16, warp=1.2, meta={})
