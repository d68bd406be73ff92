"""Layers of paint. A planted defect that was caught: layers blended in reverse order."""

import numpy as np

from facerep_jax.face_world.layers import Face, Layer
from facerep_jax.face_world.rays import ImagePlane
from facerep_jax.face_world.sampling import sample_scene


def test_layers_laid_at_once_are_layers_laid_one_by_one():
    scene = sample_scene(0, 0)
    plane = ImagePlane(scene.turn, 0.03, 8.0, 8.0, 16)
    window = (slice(0, 16), slice(0, 16))
    points = np.zeros((3, 16, 16), np.float32)
    at_once, one_by_one = (Face(scene, plane, window, points) for _ in range(2))
    for face in (at_once, one_by_one):
        face.colour[:] = 90
    rng = np.random.default_rng(0)
    layers = [
        Layer(rng.uniform(-0.03, 0.03, (16, 16)).astype(np.float32), tuple(rng.uniform(0, 255, 3).tolist()), 0.7, label)
        for label in (4, 7, None, 9)
    ]
    at_once.lay(window, *layers)
    for layer in layers:
        one_by_one.lay(window, layer)
    np.testing.assert_allclose(at_once.colour, one_by_one.colour, atol=1e-3)
    np.testing.assert_array_equal(at_once.label, one_by_one.label)
    assert {4, 7, 9} <= set(np.unique(at_once.label))
