"""The surface of the head against its definition."""

import numpy as np

from facerep_jax.face_world import geometry
from facerep_jax.face_world.sampling import sample_scene


def test_relief_is_a_sum_of_bumps():
    rng = np.random.default_rng(0)
    bumps = [tuple(rng.uniform([-0.3, 0, -0.5, 0.06, 0.06], [0.3, 0.3, 0.5, 0.3, 0.3]).tolist()) for _ in range(5)]
    x, y = rng.uniform(-1, 1, (2, 50))
    expected = sum(a * np.exp(-(((abs(x) - x0) / u) ** 2) - ((y - y0) / v) ** 2) for a, x0, y0, u, v in bumps)
    relief = geometry.Relief.of(bumps)
    np.testing.assert_allclose(relief.height(x, y), expected, atol=1e-5)
    np.testing.assert_allclose(relief.height_and_slopes(x, y)[0], expected, atol=1e-5)


def test_normals_are_the_gradient_of_the_surface():
    head = sample_scene(6, 0).head
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.9, 0.9, (3, 200))
    points[0][np.abs(points[0]) < 0.01] = 0.02  # the nostrils' bumps have a crease in the mid-plane
    _, gradient = head.surface(points, head.relief)
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = 1e-5
        slope = (head.surface(points + step, head.relief)[0] - head.surface(points - step, head.relief)[0]) / 2e-5
        np.testing.assert_allclose(gradient[axis], slope, atol=2e-3)
