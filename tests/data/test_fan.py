"""Planted and seen red: a centre that sinks."""

import numpy as np
import pytest

from facerep_jax.data.fan import FANCrop


def example(box=(20.5, 30.5, 60.5, 90.5)):
    image = np.random.default_rng(0).integers(0, 256, (160, 140, 3), np.uint8)
    points = np.array([[40.5, 60.5], [20.5, 30.5]], np.float32)
    return {"id": b"a", "image": image, "bbox": np.array(box, np.float32), "landmarks": points}


def test_the_square_is_that_of_face_alignment():
    """Its crop: centre (cx, cy - 0.12 h), scale (w + h) / 195, which is 200 pixels of the image per unit of scale."""
    made = FANCrop(size=64)(example(), np.random.default_rng(0))
    scale = (40 + 60) / 195
    side, centre = 200 * scale, np.array([40.5, 60.5 - 0.12 * 60])
    corner = centre - side / 2
    expected = (example()["landmarks"] - corner) / side * 64 - 0.5
    np.testing.assert_allclose(made["landmarks"], expected, atol=1e-4)
    np.testing.assert_allclose(made["landmarks_scale"], side / 64, rtol=1e-5)
    assert made["image"].shape == (64, 64, 3)


def test_whole_images_are_shown_whole_and_moves_are_random():
    whole = FANCrop(size=70, whole=True)(example(), np.random.default_rng(0))
    np.testing.assert_allclose(whole["landmarks_scale"], [2, 160 / 70], rtol=1e-5)
    moved = [FANCrop(size=64, shift=0.1, zoom=0.2)(example(), np.random.default_rng(seed)) for seed in range(2)]
    assert np.abs(moved[0]["landmarks"] - moved[1]["landmarks"]).max() > 0.5
    lacking = example()
    del lacking["bbox"]
    with pytest.raises(ValueError, match="FANCrop needs the feature 'bbox'"):
        FANCrop(size=64)(lacking, np.random.default_rng(0))
