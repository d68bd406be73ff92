"""Fixed points of the head, and how action units move them."""

from dataclasses import MISSING, fields

import numpy as np
import pytest

from facerep_jax.face_world.action_units import ACTION_UNITS, displacements
from facerep_jax.face_world.geometry import Head
from facerep_jax.face_world.sampling import sample_scene
from facerep_jax.face_world.surface_points import GRID_COLUMNS, GRID_ROWS, LANDMARK_FLIP, VERTEX_FLIP, fixed_points


def posed(head: Head, **units: float) -> Head:
    """Return the head with these action units alone."""
    shape = {field.name: getattr(head, field.name) for field in fields(Head) if field.default is MISSING}
    return Head(**shape, **displacements(tuple(units.get(name, 0.0) for name in ACTION_UNITS)))


def moved(head: Head, unit: str, intensity: float) -> np.ndarray:
    """Return how far each vertex moves in x and y if a unit acts: (2, vertices)."""
    return (fixed_points(posed(head, **{unit: intensity})).vertices - fixed_points(posed(head)).vertices)[:2]


def test_landmarks_are_in_ibug_order():
    for index in range(0, 64, 8):
        x, y = fixed_points(sample_scene(0, index).head).landmarks[:2]
        assert (np.diff(x[:17]) > 0).all()
        assert y[:17].argmax() == 8
        assert (np.diff(x[17:27]) > 0).all()
        assert (np.diff(y[27:31]) > 0).all()
        assert (np.diff(x[31:36]) > 0).all()
        assert x[36] < x[37] < x[38] < x[39] < x[42] < x[43] < x[44] < x[45]  # outer corners are 36 and 45
        assert y[37] < y[41]
        assert y[44] < y[46]
        assert (np.diff(x[48:55]) > 0).all()
        assert (np.diff(x[54:60]) < 0).all()
        assert y[51] < y[62] <= y[66] < y[57]
        assert (np.diff(x[60:65]) > 0).all()
        assert (np.diff(x[64:68]) < 0).all()


def test_points_lie_on_the_surface_and_are_symmetric():
    for index in range(0, 96, 8):
        head = sample_scene(7, index).head
        fixed = fixed_points(head)
        value, gradient = head.surface(fixed.vertices, head.relief)
        assert np.abs(value).max() < 1e-4
        normals = gradient[:, :68] / np.linalg.norm(gradient[:, :68], axis=0)
        np.testing.assert_allclose(fixed.landmark_normals, normals, atol=1e-5)
        mirrored = fixed.vertices[:, list(VERTEX_FLIP)] * np.array([[-1], [1], [1]])
        np.testing.assert_allclose(mirrored, fixed.vertices, atol=1e-5)
    assert len(VERTEX_FLIP) == 68 + GRID_ROWS * GRID_COLUMNS >= 500
    assert VERTEX_FLIP[:68] == LANDMARK_FLIP


def test_vertices_deform_with_shape_and_expression():
    grid = np.stack([fixed_points(sample_scene(7, index).head).vertices for index in (0, 1, 2, 3, 8, 16, 24)])[
        :, :, 68:
    ]
    assert (np.ptp(grid[:4], axis=0).max(0) > 1e-3).any()  # one identity, four expressions
    assert np.ptp(grid, axis=0).max() > 0.05


UP, DOWN, IN, OUT = (1, -1), (1, 1), (0, -1), (0, 1)  # axis and sign: y points down, x here away from the middle


@pytest.mark.parametrize(
    ("unit", "landmarks", "way", "least"),
    [
        ("AU1", (21, 22), UP, 0.05),
        ("AU2", (18, 25), UP, 0.04),
        ("AU2", (17, 26), UP, 0.04),
        ("AU4", (21, 22), DOWN, 0.02),
        ("AU4", (21, 22), IN, 0.02),
        ("AU5", (37, 38, 43, 44), UP, 0.015),
        ("AU6", (40, 41, 46, 47), UP, 0.01),
        ("AU9", (31, 32, 33, 34, 35), UP, 0.02),
        ("AU9", (50, 51, 52), UP, 0.005),
        ("AU12", (48, 54), UP, 0.05),
        ("AU12", (48, 54), OUT, 0.03),
        ("AU15", (48, 54), DOWN, 0.05),
        ("AU17", (56, 57, 58), UP, 0.015),
        ("AU20", (48, 54), OUT, 0.03),
        ("AU25", (65, 66, 67), DOWN, 0.02),
        ("AU25", (61, 62, 63), UP, 0.005),
        ("AU26", (7, 8, 9), DOWN, 0.05),
        ("AU43", (37, 38, 43, 44), DOWN, 0.015),
    ],
)
def test_a_larger_unit_moves_its_landmarks_further_the_right_way(unit, landmarks, way, least):
    """Directions are those of FACS; `least` is how far, in head units, intensity 5 must move the landmarks at least."""
    axis, sign = way
    for index in (0, 8, 16, 24):
        head = sample_scene(3, index).head
        steps = []
        for intensity in (1.0, 2.5, 5.0):
            shift = moved(head, unit, intensity)
            if axis == 0:  # along x, away from the middle
                side = np.sign(fixed_points(posed(head)).vertices[0])
                steps.append((sign * side * shift[0])[list(landmarks)])
            else:
                steps.append((sign * shift[1])[list(landmarks)])
        first, second, last = steps
        assert (first > 0).all()
        assert (second > first).all()
        assert (last > second).all()
        assert (last >= least).all(), last


def test_a_unit_leaves_far_parts_alone():
    head = sample_scene(3, 0).head
    mouth, brows = list(range(48, 68)), list(range(17, 27))
    for unit in ("AU1", "AU2", "AU4", "AU5", "AU43"):
        assert np.abs(moved(head, unit, 5.0)[:, mouth]).max() < 1e-6
    for unit in ("AU12", "AU15", "AU17", "AU20", "AU25", "AU26", "AU6"):
        assert np.abs(moved(head, unit, 5.0)[:, brows]).max() < 1e-6


def test_the_grid_follows_brows_cheeks_and_lips():
    """Vertices of the grid move with the part of the face that is near; the crown stays."""
    head = sample_scene(3, 0).head
    x, y = fixed_points(posed(head)).vertices[:2, 68:]

    def near(px: float, py: float) -> int:
        return 68 + int(np.hypot(np.abs(x) - px, y - py).argmin())

    brow = near(0.1, head.brow_y)
    cheek = near(head.eye_x, head.nose_y - 0.1)
    corner = near(head.mouth_width, head.mouth_y)
    assert moved(head, "AU1", 5.0)[1, brow] < -0.03
    assert moved(head, "AU6", 5.0)[1, cheek] < -0.015
    assert moved(head, "AU12", 5.0)[1, corner] < -0.01
    assert moved(head, "AU15", 5.0)[1, corner] > 0.01
    for unit in ACTION_UNITS:
        assert np.abs(moved(head, unit, 5.0)[:, 68 : 68 + GRID_COLUMNS]).max() < 0.01


def test_jaw_drops_behind_closed_lips_unless_they_part():
    """AU26 alone opens no mouth (FACS: a dropped jaw needs AU25 to show teeth)."""
    head = sample_scene(3, 0).head
    gap = {
        name: np.ptp(fixed_points(posed(head, **units)).landmarks[1, [62, 66]])
        for name, units in {"26": {"AU26": 5.0}, "25": {"AU25": 5.0}, "both": {"AU25": 5.0, "AU26": 5.0}}.items()
    }
    assert gap["26"] < 1e-5 < gap["25"] < 0.6 * gap["both"]


def test_closed_eyes_close():
    head = sample_scene(3, 0).head
    y = fixed_points(posed(head, AU43=5.0)).landmarks[1]
    open_y = fixed_points(posed(head)).landmarks[1]
    assert np.abs(y[[37, 38]] - y[[41, 40]]).max() < 0.6 * np.abs(open_y[[37, 38]] - open_y[[41, 40]]).min()
    assert posed(head, AU43=5.0).eyes_closed
    assert not posed(head, AU43=2.5).eyes_closed


def test_nose_lips_and_brow_stand_out():
    """In profile the nose reaches beyond its root and the lips, and the root not far behind the brow."""
    for index in (0, 8, 16):
        landmarks = fixed_points(sample_scene(7, index).head).landmarks
        depth = -landmarks[2]
        assert depth[30] > depth[27] + 0.08
        assert depth[30] > depth[51] + 0.05
        assert depth[27] < depth[21:23].mean() + 0.1
