"""Attributes of a scene, and its mirror image."""

from dataclasses import replace

import numpy as np

from facerep_jax.face_world import META
from facerep_jax.face_world.action_units import ACTION_UNITS
from facerep_jax.face_world.sampling import sample_scene
from facerep_jax.face_world.scene import _AU12, ATTRIBUTES, attributes, mirror, sides_changed


def test_mirror_twice_is_the_scene():
    for index in range(0, 80, 5):
        scene = sample_scene(2, index)
        again = mirror(mirror(scene))
        assert (again.yaw, again.roll, again.light, again.gaze_x) == (scene.yaw, scene.roll, scene.light, scene.gaze_x)
        np.testing.assert_allclose(again.x, scene.x, atol=1e-12)
        assert again.hair == scene.hair
        assert not again.mirrored
        for shape, other in zip(again.occluder, scene.occluder, strict=True):
            np.testing.assert_allclose([shape.x, shape.turn], [other.x, other.turn], atol=1e-12)
        assert (again.captions, again.oracle) == (scene.captions, scene.oracle)


def test_attributes_say_what_the_scene_is():
    assert ACTION_UNITS[_AU12] == "AU12"
    scene = sample_scene(0, 0)
    bare = replace(scene, hair=None, glasses=None, hat=None, earrings=None, hand=False, yaw=0.0)
    none = attributes(bare)
    assert list(none) == list(ATTRIBUTES)
    assert none["bald"]
    assert not any(none[name] for name in ("glasses", "hat", "earrings", "hand", "fringe", "long_hair", "curly_hair"))
    assert not any(none[f"{name}_hair"] for name in ("black", "brown", "blond", "grey"))
    assert attributes(replace(scene, yaw=0.5))["facing_right"]
    assert attributes(replace(scene, yaw=-0.5))["facing_left"]
    smiling = tuple(3.0 if unit == "AU12" else 0.0 for unit in ACTION_UNITS)
    assert attributes(replace(scene, units=smiling))["smiling"]
    assert attributes(replace(scene, head=replace(scene.head, lids_shut=1.0)))["eyes_closed"]
    assert attributes(replace(scene, head=replace(scene.head, lips_apart=0.1)))["mouth_open"]


def test_one_hair_colour_or_none():
    for index in range(0, 400, 8):
        named = attributes(sample_scene(0, index))
        assert sum(named[f"{name}_hair"] for name in ("black", "brown", "blond", "grey")) + named["bald"] == 1


def test_only_whole_words_change_sides():
    assert sides_changed("left of the right one, all rights reserved") == "right of the left one, all rights reserved"


def test_attributes_are_told_in_the_order_of_their_names():
    assert list(attributes(sample_scene(0, 0))) == list(ATTRIBUTES) == list(META["attributes"])
