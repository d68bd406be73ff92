"""The way back to the original image against NumPy from the definition; scores against F1 on pixels chosen by hand."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from facerep_jax import face_world
from facerep_jax.data.images import png
from facerep_jax.data.tanh_warp import AlignAndWarp
from facerep_jax.evaluation import original_masks
from facerep_jax.evaluation.metrics import F1, score
from facerep_jax.evaluation.original_masks import OriginalF1, on_image
from facerep_jax.evaluation.problem import labels_of, take, truth_of

CLASSES = ("background", "skin", "hair")
IDENTITY = np.eye(3)[:2].astype(np.float32)


def stored(mask):
    return png(Image.fromarray(mask))


def split_of(masks, frames, warp, side):
    kept = np.empty(len(masks), object)
    kept[:] = [stored(mask) for mask in masks]
    return {
        "id": [f"face {i}" for i in range(len(masks))],
        "original_mask": kept,
        "frame": np.stack(frames).astype(np.float32),
        "warp": np.full(len(masks), warp, np.float32),
        "mask": np.zeros((len(masks), side, side), np.uint8),
    }


def torch_bilinear(x, size):
    """Torch's interpolate(mode="bilinear", align_corners=False) of (h, w, k), from its definition."""
    for axis in (0, 1):
        count = x.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, None)
        low = np.minimum(place.astype(int), count - 1)
        high, share = np.minimum(low + 1, count - 1), place - low
        share = share.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        x = (1 - share) * np.take(x, low, axis) + share * np.take(x, high, axis)
    return x


@pytest.mark.parametrize("shape", [(41, 57), (23, 30)])
def test_logits_are_resized_sampled_and_only_then_compared(shape, monkeypatch):
    monkeypatch.setattr(original_masks, "CHUNK", 1000)  # the last is filled up
    side, warp = 24, 0.8
    logits = np.random.default_rng(0).normal(0, 3, (6, 6, 4)).astype(np.float16)
    turn = np.array([[0.5, -0.2, 3.0], [0.2, 0.5, -2.0]])
    canvas = torch_bilinear(logits.astype(np.float64), side)
    expected = np.zeros(shape, int)
    for y, x in np.ndindex(shape):
        u = 2 * (turn[:, :2] @ [x, y] + turn[:, 2]) / side - 1
        bent = np.sign(u) * (0.2 + warp * np.tanh((np.abs(u) - 0.2) / warp))
        px, py = (np.where(np.abs(u) <= 0.2, u, bent) + 1) * side / 2
        at = [ndimage.map_coordinates(canvas[..., k], [[py], [px]], order=1, mode="grid-constant")[0] for k in range(4)]
        expected[y, x] = np.argmax(at)
    found = np.concatenate([*on_image(logits, shape, turn, warp, side)]).reshape(shape)
    assert (found == expected).mean() > 0.998  # ties of rounding
    assert len(np.unique(expected)) == 4


def test_pixels_beyond_the_square_are_background():
    logits = np.zeros((4, 4, 3), np.float32)
    logits[..., 2] = 5
    for prediction in (logits, np.full((8, 8), 2, np.uint8)):
        (found,) = on_image(prediction, (8, 20), IDENTITY, 0.0, 8)
        np.testing.assert_array_equal(found.reshape(8, 20), np.where(np.arange(20) < 8, 2, 0)[None].repeat(8, 0))


def test_without_a_warp_the_score_is_f1s():
    rng = np.random.default_rng(1)
    masks = rng.choice([0, 1, 2, 255], (3, 16, 16)).astype(np.uint8)
    classes = rng.integers(0, 3, (3, 16, 16)).astype(np.uint8)
    logits = np.log(np.eye(3)[classes] + 1e-3).astype(np.float16)
    split = split_of(masks, [IDENTITY] * 3, 0.0, 16) | {"identity": np.array([4, -1, 4])}
    expected = F1(CLASSES).rows(classes, {**split, "mask": masks})
    for prediction in (classes, logits):
        found = OriginalF1(CLASSES).rows(prediction, split)
        np.testing.assert_array_equal(found.statistics, expected.statistics)
        assert (found.ids, found.units) == (expected.ids, expected.units)
        assert found.units[0] == found.units[2] == "person 4"


def test_counting_some_pixels_at_a_time_changes_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    split = split_of([rng.integers(0, 3, (19, 27)).astype(np.uint8)], [IDENTITY], 0.8, 16)
    logits = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    at_once = OriginalF1(CLASSES).rows(logits, split).statistics
    monkeypatch.setattr(original_masks, "CHUNK", 100)
    in_parts = OriginalF1(CLASSES).rows(logits, split).statistics
    np.testing.assert_array_equal(in_parts, at_once)
    assert at_once[0, -3:].sum() == 19 * 27


def test_images_of_all_sizes_count_by_their_pixels():
    """A wholly right image of 4 pixels and a wholly wrong one of 12."""
    masks = [np.full((2, 2), 1, np.uint8), np.full((3, 4), 1, np.uint8)]
    split = split_of(masks, [IDENTITY] * 2, 0.0, 4)
    prediction = np.stack([np.full((4, 4), 1), np.full((4, 4), 2)]).astype(np.uint8)
    values = score(OriginalF1(CLASSES), OriginalF1(CLASSES).rows(prediction, split).statistics)
    assert values["accuracy"] == pytest.approx(4 / 16)
    assert values["f1_skin"] == pytest.approx(2 * 4 / (4 + 16))


@pytest.mark.parametrize("zoom", [0.0, 0.2])
def test_a_perfect_prediction_of_warped_faces_is_nearly_perfect_on_the_originals(zoom):
    """Half a pixel off, in either direction, would cost the lips of faces of 160 pixels more than this."""
    side, metric = 448, OriginalF1(face_world.META["classes"])
    show = AlignAndWarp(size=side, zoom=zoom, angle_rad=zoom, keep_mask=True, meta=face_world.META)
    faces = [show({**face_world.face(0, i, 160), "id": b"f"}, np.random.default_rng(i)) for i in range(2)]
    split = {name: np.stack([face[name] for face in faces]) for name in ("original_mask", "frame", "warp", "mask")}
    classes = np.where(split["mask"] == 255, 0, split["mask"])
    logits = np.eye(len(face_world.META["classes"]), dtype=np.float16)[classes]
    values = score(metric, metric.rows(logits, {**split, "id": ["a", "b"]}).statistics)
    assert values["f1_mean_foreground"] > 0.985
    assert values["accuracy"] > 0.995
    off = {**split, "id": ["a", "b"], "frame": split["frame"] + np.float32([[0, 0, 4], [0, 0, 0]])}
    assert score(metric, metric.rows(logits, off).statistics)["f1_mean_foreground"] < 0.97


def test_masks_as_they_are_stored_stay_on_the_host():
    split = split_of([np.zeros((2, 3), np.uint8), np.zeros((5, 4), np.uint8)], [IDENTITY] * 2, 0.0, 4)
    assert set(labels_of(split)) == {"frame", "warp", "mask"}
    assert "original_mask" in truth_of(split)
    some = take(split, np.array([1]))
    assert Image.open(io.BytesIO(some["original_mask"][0])).size == (4, 5)


def test_what_misses_is_named():
    split = {"id": ["a"], "mask": np.zeros((1, 4, 4), np.uint8), "frame": IDENTITY[None]}
    with pytest.raises(ValueError, match=r"takes original_mask, warp, which .*keep_mask=True: add it to config"):
        OriginalF1(CLASSES).rows(jnp.zeros((1, 4, 4, 3)), split)


def test_its_explanation_says_where_it_is_scored():
    assert "warped back and scored on the original images" in OriginalF1(CLASSES).explains[-1]
    assert OriginalF1(CLASSES).headline == "f1_mean_foreground"
