"""What records tell of conditions, and which group a value is in."""

from pathlib import Path

import numpy as np
import pytest

from facerep_jax import face_world
from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.pose import rotations
from facerep_jax.evaluation.conditions import KNOWN, Conditions, axes_of
from facerep_jax.face_world import Settings

DRAWN = open_dataset("generated_faces:world=evaluate,size=32,train=8,validation=0,test=0", "nowhere")


def axis(name, axes=KNOWN):
    return next(each for each in axes if each.name == name)


def groups(axis, *values):
    """The name of the group that each value is in; None if it is in none."""
    members = axis.members(np.array(values, float))
    assert (members.sum(0) <= 1).all()
    return [axis.groups[column.argmax()] if column.any() else None for column in members.T]


def test_values_are_in_the_group_that_begins_with_them():
    assert groups(axis("yaw"), 0, 29.9, 30, 59.9, 60, 89, 120, np.nan) == [
        "0 to 30°", "0 to 30°", "30 to 60°", "30 to 60°", "60 to 90°", "60 to 90°", "beyond 90°", None,
    ]  # fmt: skip
    tones = ["dark", "brown", "brown", "tan", "intermediate", "light", "very light", None]
    assert groups(axis("skin tone"), -31, -30, 9.9, 10, 28, 41, 56, np.nan) == tones  # Chardon's classes
    assert groups(axis("age"), 17.5, 18, 60) == ["below 18", "18 to 29", "60 and over"]
    assert groups(axis("occlusion"), 0, 0.01, 0.3) == ["none", "below 30%", "from 30%"]
    assert groups(axis("face size"), 31, 32, 500) == ["below 32 px", "32 to 63 px", "from 128 px"]


def test_thirds_are_of_the_values_that_are_known():
    third = axis("lines of age", axes_of(DRAWN))
    members = third.members(np.array([5, 1, np.nan, 3, 2, 6, 4], float))
    assert [np.flatnonzero(row).tolist() for row in members] == [[1, 4], [3, 6], [0, 5]]
    assert not third.members(np.full(3, np.nan)).any()


def test_axes_are_those_that_records_tell():
    names = [each.name for each in axes_of(DRAWN)]
    assert names[:7] == ["yaw", "occlusion", "hidden landmarks", "blur", "skin tone", "face size", "expression"]
    assert {"smiling", "bushy brows", "lines of age"} < {*names}
    assert [each.name for each in axes_of(DRAWN, ("skin tone", "hat"))] == ["skin tone", "hat"]
    assert len(axes_of(DRAWN, ("attributes",))) == 21
    assert axes_of(DRAWN, ()) == ()
    with pytest.raises(ValueError, match=r"tell of no group 'skin tones'; .*skin tone"):
        axes_of(DRAWN, ("skin tones",))


def test_wflws_six_subsets_are_axes():
    names = ("pose", "expression", "illumination", "make_up", "occlusion", "blur")
    features = ("id", "image", "landmarks", "bbox", "attributes")
    wflw = Dataset("wflw/default", Path(), {"test": 1}, features, {"attributes": names}, "")
    found = axes_of(wflw)
    assert [each.name for each in found] == ["face size", *(name.replace("_", " ") for name in names)]
    record = {"bbox": np.array([0, 0, 40, 50]), "attributes": np.array([1, 0, 0, 0, 1, np.nan])}
    values = Conditions(found)(record, np.random.default_rng(0))["conditions"]
    np.testing.assert_array_equal(values, np.float32([40, 1, 0, 0, 0, 1, np.nan]))
    assert groups(found[1], 1, 0, np.nan) == ["yes", "no", None]


def test_values_of_a_record():
    camera = np.zeros((3, 4))
    camera[:, :3] = 7 * rotations(np.array([-40.0, 5, 3]))
    assert axis("yaw").value({"camera": camera}) == pytest.approx(40)
    assert axis("yaw").value({"camera": camera, "head_pose": np.array([10.0, 0, 0])}) == 10
    assert axis("yaw").value({"head_pose": np.array([10.0, 0, 0]), "abs_yaw_deg": 11.0}) == 11
    assert np.isnan(axis("yaw").value({"camera": np.full((3, 4), np.nan)}))
    assert axis("hidden landmarks").value({"visible": np.array([1, 0, -1, 0, 1])}) == 0.5
    assert np.isnan(axis("hidden landmarks").value({"visible": np.array([-1, -1])}))


def test_drawn_faces_tell_what_they_were_drawn_from():
    axes = axes_of(DRAWN)
    transform = Conditions(axes)
    assert {"camera", "visible", "skin_tone", "lines_of_age"} < {*transform.reads}
    names = [each.name for each in axes]
    for index, record in enumerate(DRAWN.source("train").only(transform.reads)):
        scene = face_world.sample_scene(0, index, Settings(world="evaluate"))
        values = dict(zip(names, transform(record, np.random.default_rng(0))["conditions"].tolist(), strict=True))
        assert values["yaw"] == pytest.approx(abs(np.degrees(scene.yaw)), abs=1e-3)
        assert values["blur"] == pytest.approx(scene.photo.blur)
        assert values["lines of age"] == pytest.approx(scene.skin.lines)
        assert (values["occlusion"] > 0) <= bool(scene.occluder)
        assert values["glasses"] == (scene.glasses is not None)
