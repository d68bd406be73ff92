"""Eyes, brows, nose, mouth and glasses."""

from dataclasses import replace

import numpy as np

from facerep_jax.face_world import render
from facerep_jax.face_world.layers import BROW, EYE, INNER_MOUTH, LOWER_LIP, NOSE, UPPER_LIP
from facerep_jax.face_world.sampling import sample_scene
from facerep_jax.face_world.scene import Glasses

SIZE = 128


def portrait(**changes):
    """A face from the front with nothing on it."""
    scene = sample_scene(2, 24)
    photo = replace(scene.photo, blur=0.0, noise=0.0, vignette=0.0, gamma=1.0, gain=(1.0, 1.0, 1.0))
    skin = replace(scene.skin, colour=(190.0, 150.0, 130.0), beard=0.0, moustache=0.0)
    light = replace(scene.light, towards=(0.0, 0.0, -1.0))
    bare = replace(scene, yaw=0.0, pitch=0.0, roll=0.0, x=0.5, y=0.5, scale=0.4, hair=None, hat=None, occluder=())
    head = replace(scene.head, eye_rest=0.8, lid_raise=0.0, lids_shut=0.0, brow_knit=0.0, lips_apart=0.0)
    bare = replace(bare, glasses=None, photo=photo, skin=skin, light=light, head=head, gaze_x=0.0, gaze_y=0.0)
    return render(replace(bare, **changes), SIZE), bare


def test_an_eye_has_white_iris_pupil_and_glint():
    record, scene = portrait(iris=(80.0, 110.0, 130.0))
    grey = record["image"].astype(float).mean(-1)
    eye = record["mask"] == EYE
    assert eye.sum() > 30
    assert grey[eye].max() > 150
    assert grey[eye].min() < 45
    blue = record["image"][..., 2].astype(float) - record["image"][..., 0]
    assert blue[eye].max() > 12  # the iris
    x = np.nonzero(eye)[1]
    dark = np.nonzero(eye & (grey < 60))[1]
    assert abs(dark.mean() - x.mean()) < 0.25 * np.ptp(x)
    assert scene.scale == 0.4


def test_gaze_moves_the_iris():
    places = []
    for gaze in (-0.04, 0.04):
        record, _ = portrait(gaze_x=gaze)
        dark = (record["mask"] == EYE) & (record["image"].mean(-1) < 80)
        places.append(np.nonzero(dark)[1].mean())
    assert places[1] > places[0] + 1.5


def test_parts_are_of_the_size_of_their_outlines():
    record, scene = portrait()
    head, unit = scene.head, SIZE * scene.scale
    area = {label: (record["mask"] == label).sum() / unit**2 for label in (NOSE, UPPER_LIP, LOWER_LIP, BROW, BROW + 1)}
    x = np.linspace(-1, 1, 400)
    top, seam, inner, bottom = head.lips(x)
    half = head.mouth_half_width
    np.testing.assert_allclose(area[UPPER_LIP], (seam - top).mean() * 2 * half, rtol=0.25)
    np.testing.assert_allclose(area[LOWER_LIP], (bottom - inner).mean() * 2 * half, rtol=0.25)
    y = np.linspace(head.eye_y, head.nose_y + 0.035, 400)
    np.testing.assert_allclose(area[NOSE], np.maximum(head.nose_half_width(y), 0).mean() * 2 * np.ptp(y), rtol=0.15)
    inner_end, outer_end = head.brow_ends
    thickness = head.brow(np.linspace(0, 1, 400))[1].mean()
    np.testing.assert_allclose(area[BROW], 2 * thickness * (outer_end - inner_end), rtol=0.3)
    np.testing.assert_allclose(area[BROW], area[BROW + 1], rtol=0.25)


def test_glasses_are_seen_and_labels_stay():
    bare, _ = portrait()
    for square in (False, True):
        worn, _ = portrait(glasses=Glasses((15.0, 15.0, 15.0), 0.02, 0.15, square, 0.1))
        np.testing.assert_array_equal(worn["mask"], bare["mask"])
        np.testing.assert_array_equal(worn["visible"], bare["visible"])
        changed = np.abs(worn["image"].astype(int) - bare["image"]).max(-1) > 30
        assert 0.01 < changed.mean() < 0.1
    dark, _ = portrait(glasses=Glasses((15.0, 15.0, 15.0), 0.02, 0.15, False, 0.55))
    eye = bare["mask"] == EYE
    assert dark["image"][eye].mean() < 0.75 * bare["image"][eye].mean()


def test_brows_are_of_the_hairs_colour():
    light, dark = (
        portrait(skin=replace(portrait()[1].skin, hair=colour))[0]
        for colour in ((210.0, 170.0, 110.0), (20.0, 15.0, 15.0))
    )
    brow = light["mask"] == BROW
    assert light["image"][brow].mean() > dark["image"][brow].mean() + 25


def test_a_mouth_that_opens_further_shows_more_and_teeth_are_brighter_than_the_gap():
    scene = sample_scene(7, 0)
    scene = replace(scene, yaw=0.0, pitch=0.0, occluder=(), photo=replace(scene.photo, blur=0.0, noise=0.0))
    areas = []
    for gap in (0.0, 0.05, 0.1, 0.18):
        record = render(replace(scene, head=replace(scene.head, lips_apart=gap, jaw_drop=0.6 * gap)), SIZE)
        areas.append((record["mask"] == INNER_MOUTH).sum())
        brightness = record["image"].mean(-1)[record["mask"] == INNER_MOUTH]
    assert areas[0] == 0
    assert areas[1] < areas[2] < areas[3]
    assert np.quantile(brightness, 0.9) > 1.7 * np.quantile(brightness, 0.1)
