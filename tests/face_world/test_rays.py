"""Rays against the head. A planted defect that was caught: no search for the nose (profile)."""

from dataclasses import replace

import numpy as np
import pytest

from facerep_jax.face_world import geometry, rays, surface_points
from facerep_jax.face_world.sampling import sample_scene


def test_rays_end_on_the_surface_that_landmarks_lie_on():
    """The search along rays and the closed form of the surface agree on points that nothing covers."""
    errors, misses = [], []
    for index in range(24):
        scene = sample_scene(6, index)
        head, turn = scene.head, geometry.rotation(scene.yaw, scene.pitch, scene.roll)
        points = surface_points.fixed_points(head).vertices
        seen = ~rays.hidden_by_itself(head, turn, points, head.normals(points))
        facing = turn[2] @ head.surface(points, head.relief)[1] < -0.5
        x, y, depth = turn @ points[:, seen & facing]
        hit = rays.cast_on_head(head, turn, x, y)
        errors.append(np.abs(hit.depth - depth))
        misses.append(hit.outside >= 0)
        np.testing.assert_allclose(np.linalg.norm(hit.normals, axis=0), 1, atol=1e-4)
    assert np.concatenate(misses).mean() < 0.0005
    assert np.median(np.concatenate(errors)) < 1e-6
    assert np.quantile(np.concatenate(errors), 0.99) < 0.002


@pytest.mark.parametrize("degrees", [0, 30, -60])
def test_rays_find_the_profile_that_small_steps_find(degrees):
    """Rays beyond the far contour of the bare skull meet nose, lips and chin, and none meets what is not there."""
    missed, invented, wrong = [], [], []
    for index in range(4):
        scene = replace(sample_scene(6, 4 * index), yaw=np.deg2rad(degrees))
        head, turn = scene.head, scene.turn
        x, y = (place.ravel() for place in np.meshgrid(*2 * [np.linspace(-1.1, 1.2, 70, dtype=np.float32)]))
        far = np.flatnonzero(x * np.sign(degrees) >= 0.3 * (degrees != 0))
        x, y = x[far], y[far]
        steps = np.linspace(-1.6, 0.4, 400, dtype=np.float32)
        sampled = (np.broadcast_to(values, (len(x), 400)).ravel() for values in (x[:, None], y[:, None], steps))
        solid = head.signed(rays.ray_points(turn, *sampled), head.relief).reshape(len(x), 400) < 0
        hit = rays.cast_on_head(head, turn, x, y)
        both = solid.any(1) & (hit.outside < 0)
        missed.append(solid.any(1) & (hit.outside > 0.005))
        invented.append(~solid.any(1) & (hit.outside < -0.005))
        wrong.append(np.abs(hit.depth - steps[solid.argmax(1)])[both] > 0.02)
    assert np.concatenate(missed).mean() < 0.001
    assert np.concatenate(invented).mean() < 0.005
    assert np.concatenate(wrong).mean() < 0.01


def test_a_view_from_the_front_needs_no_search_for_the_nose():
    """`NEARLY_FRONTAL` saves time and changes nothing that can be seen."""
    worst = []
    for index in range(6):
        scene = replace(sample_scene(6, 8 * index), yaw=0.2, pitch=0.1)
        head, turn = scene.head, scene.turn
        assert turn[2, 2] > rays.NEARLY_FRONTAL
        x, y = (place.ravel() for place in np.meshgrid(*2 * [np.linspace(-0.8, 0.9, 60, dtype=np.float32)]))
        steps = np.linspace(-1.6, 0.0, 500, dtype=np.float32)
        sampled = (np.broadcast_to(values, (len(x), 500)).ravel() for values in (x[:, None], y[:, None], steps))
        solid = head.signed(rays.ray_points(turn, *sampled), head.relief).reshape(len(x), 500) < 0
        hit = rays.cast_on_head(head, turn, x, y)
        both = solid.any(1) & (hit.outside < -0.02)
        worst.append(np.abs(hit.depth - steps[solid.argmax(1)])[both] > 0.03)
    assert np.concatenate(worst).mean() < 0.01


def test_windows_overlap_in_what_they_share():
    one, other = (slice(2, 8), slice(0, 5)), (slice(4, 20), slice(7, 9))
    image = np.zeros((30, 30), int)
    image[one] += 1
    image[other] += 1
    assert image[rays.overlap(one, other)].size == 0
    assert rays.overlap(one, (slice(4, 20), slice(3, 9))) == (slice(4, 8), slice(3, 5))


@pytest.mark.parametrize("turns", [True, False])
def test_an_ellipsoid_is_met_where_its_equation_holds(turns):
    body = rays.Ellipsoid((0.1, -0.2, 0.3), (0.5, 0.7, 0.4), turns)
    turn = geometry.rotation(0.5, -0.2, 0.3)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 400)).astype(np.float32)
    hit = body.cast(turn, x, y)
    points = rays.ray_points(turn if turns else np.eye(3, dtype=np.float32), x, y, hit.depth)
    inside = hit.outside < -0.01
    scaled = (points[:, inside] - np.array(body.centre)[:, None]) / np.array(body.axes)[:, None]
    np.testing.assert_allclose((scaled**2).sum(0), 1, atol=1e-4)
    gradient = scaled / np.array(body.axes)[:, None]
    np.testing.assert_allclose(hit.normals[:, inside], gradient / np.linalg.norm(gradient, axis=0), atol=1e-4)
    far = points[:, inside] + (turn[2] if turns else np.array([0, 0, 1]))[:, None] * hit.thickness[inside]
    scaled = (far - np.array(body.centre)[:, None]) / np.array(body.axes)[:, None]
    np.testing.assert_allclose((scaled**2).sum(0), 1, atol=1e-3)
