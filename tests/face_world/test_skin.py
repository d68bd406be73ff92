"""Skin, and the hair that grows on it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from facerep_jax.face_world.layers import Face
from facerep_jax.face_world.rays import ImagePlane
from facerep_jax.face_world.sampling import sample_scene
from facerep_jax.face_world.skin import paint_skin, typology_angle

SIZE = 128
PIXEL = 0.0175  # side of a pixel in head units


def painted(scene, points: np.ndarray) -> np.ndarray:
    """Return the colours (3, h, w) of the skin at points of the head."""
    plane = ImagePlane(scene.turn, PIXEL, 64.0, 64.0, SIZE)
    face = Face(scene, plane, (slice(0, SIZE), slice(0, SIZE)), points)
    paint_skin(face)
    return face.colour


def front(head) -> np.ndarray:
    x, y = np.meshgrid(*2 * [(np.arange(SIZE, dtype=np.float32) - 64) * np.float32(PIXEL)])
    return head.on_front(x.ravel(), y.ravel()).reshape(3, SIZE, SIZE).astype(np.float32)


def plain(scene):
    """Return the scene with a head that is seen from the front and has nothing on its skin."""
    none = dict.fromkeys(("mottle", "pores", "blush", "freckles", "lines", "beard", "moustache"), 0.0)
    rest = dict.fromkeys(("corner_lift", "brow_inner", "brow_outer", "brow_knit", "nose_wrinkle", "cheek_raise"), 0.0)
    head = replace(scene.head, **rest)
    scene = replace(scene, hair=None, hat=None, yaw=0.0, pitch=0.0, roll=0.0, head=head)
    return replace(scene, skin=replace(scene.skin, **none))


def test_texture_is_fixed_to_the_head():
    """The colour of a point of the head does not depend on how the head is turned."""
    scene = plain(sample_scene(0, 0))
    scene = replace(scene, skin=replace(scene.skin, mottle=1.0, pores=1.0, blush=1.0, freckles=1.0))
    points = front(scene.head)
    forehead = (points[1] > -0.55) & (points[1] < scene.head.brow_y - 0.05)  # no lines, whose areas depend on the view
    one, other = (painted(replace(scene, yaw=yaw, roll=-yaw, x=0.5 + yaw), points) for yaw in (-0.4, 0.4))
    np.testing.assert_array_equal(one[:, forehead], other[:, forehead])
    across = points * np.array([-1, 1, 1], np.float32)[:, None, None]
    mirrored = painted(replace(scene, mirrored=True), across)
    assert (np.abs(mirrored / one - 1)[:, forehead] < 1e-4).mean() > 0.99  # the rest rounds to another texel


def test_strength_makes_texture():
    scene = plain(sample_scene(0, 0))
    points = front(scene.head)
    bare = painted(scene, points)
    for name in ("mottle", "pores", "blush", "freckles", "lines"):
        changed = painted(replace(scene, skin=replace(scene.skin, **{name: 1.0})), points)
        difference = np.abs(changed - bare) / bare
        assert 0.002 < difference.mean() < 0.2, name


def test_beard_and_moustache_are_where_they_grow():
    scene = plain(sample_scene(0, 0))
    scene = replace(scene, skin=replace(scene.skin, colour=(220.0, 180.0, 160.0), hair=(20.0, 15.0, 10.0)))
    head, points = scene.head, front(scene.head)
    x, y = points[:2]
    bare = painted(scene, points)
    darker = {
        name: (painted(replace(scene, skin=replace(scene.skin, **{name: 0.9})), points) / bare)[0] < 0.7
        for name in ("beard", "moustache")
    }
    chin = (np.abs(x) < 0.15) & (np.abs(y - head.chin_y + 0.08) < 0.05)
    lip = (np.abs(x) < 0.15) & (np.abs(y - 0.5 * (head.nose_y + 0.05 + head.mouth_y - head.upper_lip)) < 0.03)
    forehead = y < head.brow_y
    assert darker["beard"][chin].mean() > 0.9
    assert darker["moustache"][lip].mean() > 0.7
    assert not darker["moustache"][chin].any()
    assert not (darker["beard"] | darker["moustache"])[forehead].any()


def test_expressions_leave_lines():
    """AU12 deepens the fold beside the mouth; raised brows line the forehead, and a wrinkled nose its bridge."""
    scene = plain(sample_scene(0, 0))
    rest = scene.head
    points = front(rest)
    bare = painted(scene, points)
    for name, amount, low, high in (
        ("corner_lift", 0.12, rest.nose_y - 0.05, rest.mouth_y),
        ("brow_inner", 0.08, -0.6, rest.brow_y),
        ("nose_wrinkle", 0.035, rest.eye_y - 0.1, rest.eye_y + 0.25),
    ):
        lined = painted(replace(scene, head=replace(rest, **{name: amount})), points)
        rows = (points[1] > low) & (points[1] < high) & (np.abs(points[0]) < 0.5)
        assert (lined / bare)[0][rows].min() < 0.94, name


def test_hair_shades_the_forehead():
    scene = sample_scene(0, 0)
    assert scene.hair
    scene = plain(scene)
    hair = replace(sample_scene(0, 0).hair, hairline=-0.6, temples=0.0, parting=0.0)
    points = front(scene.head)
    shaded = painted(replace(scene, hair=hair), points) / painted(scene, points)
    near = (np.abs(points[1] + 0.58) < 0.03) & (np.abs(points[0]) < 0.2)
    far = (np.abs(points[1] + 0.25) < 0.03) & (np.abs(points[0]) < 0.2)
    assert shaded[0][near].mean() < 0.85
    assert shaded[0][far].mean() > 0.97


def test_typology_angle_is_that_of_an_independent_lab_conversion():
    """LittleCMS, whose Lab is of another white, to which colours are adapted: a few degrees are left."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    for colour in ((230, 188, 163), (180, 130, 105), (120, 85, 65), (74, 48, 36), (200, 160, 130)):
        pixel = ImageCms.applyTransform(Image.new("RGB", (1, 1), colour), to_lab)
        lightness, _, b = np.frombuffer(pixel.tobytes(), np.uint8).astype(float)
        lightness, b = lightness * 100 / 255, b - 256 if b > 127 else b
        expected = np.degrees(np.arctan2(lightness - 50, b))
        assert typology_angle(tuple(map(float, colour))) == pytest.approx(expected, abs=4)
    assert typology_angle((255.0, 255.0, 255.0)) == pytest.approx(90, abs=0.1)  # grey has no hue
