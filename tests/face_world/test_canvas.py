"""Light, depth and occlusion. A planted defect that was caught: the lamp in camera axes for a head that is turned."""

from dataclasses import replace

import numpy as np

from facerep_jax.face_world import render
from facerep_jax.face_world.canvas import _SCATTER, Canvas
from facerep_jax.face_world.layers import SKIN
from facerep_jax.face_world.rays import Hit, ImagePlane
from facerep_jax.face_world.sampling import sample_scene
from facerep_jax.face_world.scene import attributes
from facerep_jax.face_world.shapes import channels

SIZE = 64


def canvas(scene) -> Canvas:
    return Canvas(scene, ImagePlane(scene.turn, 1 / (scene.scale * SIZE), 31.5, 31.5, SIZE))


def plain(scene):
    photo = replace(scene.photo, blur=0.0, noise=0.0, vignette=0.0)
    return replace(scene, occluder=(), photo=photo)


def test_light_is_lamp_and_surroundings_by_the_normal():
    """Compare with the definition, in camera axes and in head coordinates."""
    scene = sample_scene(0, 8)
    light, found = scene.light, canvas(scene)
    rng = np.random.default_rng(0)
    normals = rng.standard_normal((3, 5, 4)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=0)
    colour = rng.uniform(50, 200, (3, 5, 4)).astype(np.float32)
    lamp = (1.08 - 0.5 * light.ambient) * channels(light.colour)
    facing = np.einsum("i,ihw->hw", light.towards, normals)
    ambient = light.ambient * channels(light.ambient_colour) * (0.9 - 0.2 * normals[1])
    expected = colour * (lamp * np.maximum(facing + _SCATTER, 0) / (1 + _SCATTER) + ambient)
    np.testing.assert_allclose(found.lit(colour, normals, turns=False), expected, rtol=1e-4)
    of_head = np.einsum("ij,ihw->jhw", scene.turn, normals)  # the same normals in head coordinates
    np.testing.assert_allclose(found.lit(colour, of_head, turns=True), expected, rtol=1e-4)
    halfway = np.array(light.towards) + np.array([0, 0, -1])
    gloss = np.maximum(np.einsum("i,ihw->hw", halfway / np.linalg.norm(halfway), normals), 0) ** 8
    np.testing.assert_allclose(found.lit(colour, normals, False, 30.0), expected + 30 * gloss * lamp, rtol=1e-3)


def test_the_lit_side_is_brighter():
    scene = plain(sample_scene(0, 8))
    scene = replace(scene, yaw=0.0, pitch=0.0, roll=0.0, x=0.5, hair=None, hat=None, glasses=None)
    means = []
    for across in (-0.8, 0.8):
        light = replace(scene.light, towards=(across, -0.1, -0.59), ambient=0.3)
        record = render(replace(scene, light=light), SIZE)
        skin = record["mask"] == SKIN
        left, right = skin.copy(), skin.copy()
        left[:, 32:], right[:, :32] = False, False
        means.append(record["image"][left].mean() - record["image"][right].mean())
    assert means[0] > 15
    assert means[1] < -15


def test_what_is_nearer_covers_what_is_farther():
    scene = plain(sample_scene(0, 8))
    painted = canvas(scene)
    window = (slice(0, 8), slice(0, 8))
    outside, nothing = np.full((8, 8), -1, np.float32), np.zeros((3, 8, 8), np.float32)
    for depth, value in ((0.5, 10), (0.9, 20), (0.1, 30)):
        hit = Hit(np.full((8, 8), depth, np.float32), nothing, outside, outside)
        painted.lay(window, hit, np.full((3, 8, 8), value, np.float32), value)
        assert painted.mask[0, 0] == (30 if depth == 0.1 else 10)
        assert painted.image[0, 0, 0] == (30 if depth == 0.1 else 10)


def test_ears_are_seen_unless_hair_or_the_head_hides_them(monkeypatch):
    """A picture without ears lacks pixels beside a bald head, on the side that is turned to the camera."""
    scene = replace(
        plain(sample_scene(0, 8)), hair=None, hat=None, earrings=None, pitch=0.0, roll=0.0, x=0.5, y=0.5, scale=0.4
    )
    long_hair = next(
        sample_scene(0, index).hair for index in range(0, 400, 8) if attributes(sample_scene(0, index))["long_hair"]
    )
    scenes = {yaw: replace(scene, yaw=yaw) for yaw in (0.0, 0.9, -0.9)} | {
        "hair": replace(scene, yaw=0.0, hair=long_hair)
    }
    seen = {name: render(each, SIZE)["image"].astype(int) for name, each in scenes.items()}
    monkeypatch.setattr(Canvas, "_paint_ears", lambda self: None)
    lost = {name: np.abs(seen[name] - render(each, SIZE)["image"]).max(-1) > 20 for name, each in scenes.items()}
    sides = {name: (of[:, : SIZE // 2].sum(), of[:, SIZE // 2 :].sum()) for name, of in lost.items()}
    assert min(sides[0.0]) > 10
    assert sides["hair"] == (0, 0)
    for yaw in (0.9, -0.9):
        assert sorted(side > 10 for side in sides[yaw]) == [False, True], sides
    assert np.argmax(sides[0.9]) != np.argmax(sides[-0.9])
