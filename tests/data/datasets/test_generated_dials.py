"""Dials of generated faces: how broad and how clean they are, labels that are another's, and videos to learn from."""

import numpy as np
import pytest

from facerep_jax import face_world
from facerep_jax.data.datasets import generated_faces
from facerep_jax.face_world import Settings

DIGEST = "ff89e8af29cc832ffedb6b9810bc8bbef7683d7192ee407cdb4d8cabf74b3597"
SPLITS = "size=32,train=12,validation=4,test=4"


def records(arg, split="train"):
    plan = generated_faces.plan(generated_faces.read(f"{SPLITS},{arg}", None))
    return [plan.example(record)[1] for record in plan.records[split]]


def scenes(count=150, **settings):
    return [face_world.sample_scene(0, 8 * index, Settings(**settings)) for index in range(count)]


def test_arguments_that_came_later_change_no_digest_by_their_defaults():
    """The digest of the default set before they came; prepared sets still count as what they are."""
    request = generated_faces.read(f"{SPLITS}", None)
    assert request.digest == generated_faces.read(f"{SPLITS},spread=1.0,degradation=1.0,train_frames=0", None).digest
    assert generated_faces.read(None, None).digest == DIGEST
    others = [f"{SPLITS},{more}" for more in ("spread=0.5", "degradation=0.0", "permuted=1.0", "train_frames=2")]
    assert len({request.digest, *(generated_faces.read(arg, None).digest for arg in others)}) == 5


def test_narrow_and_clean_faces_are_those_of_the_same_people():
    narrow, wild = scenes(spread=0.3, degradation=0.0), scenes()
    assert [scene.identity for scene in narrow] == [scene.identity for scene in wild]
    assert [scene.skin for scene in narrow] == [scene.skin for scene in wild]
    for angle, share in (("yaw", 0.5), ("pitch", 0.5), ("roll", 0.5)):
        spread = [np.std([getattr(scene, angle) for scene in some]) for some in (narrow, wild)]
        assert spread[0] < share * spread[1]
    assert {scene.photo.blur for scene in narrow} == {0.0}
    assert {scene.photo.quality for scene in narrow} == {100}
    assert {scene.photo.gain for scene in narrow} == {(1.0, 1.0, 1.0)}
    assert not any(scene.occluder for scene in narrow)
    worse = scenes(degradation=2.0)
    assert sum(bool(scene.occluder) for scene in worse) > sum(bool(scene.occluder) for scene in wild) > 0
    assert np.mean([scene.photo.noise for scene in worse]) == pytest.approx(
        2 * np.mean([scene.photo.noise for scene in wild])
    )


def test_permuted_labels_are_those_of_another_training_face():
    true, permuted = records(""), records("permuted=1.0")
    for name in ("vertices", "action_units", "attributes", "landmarks", "mask"):
        own = [np.asarray(record[name]).tobytes() if name != "mask" else record[name] for record in true]
        given = [np.asarray(record[name]).tobytes() if name != "mask" else record[name] for record in permuted]
        assert sorted(own) == sorted(given)
    vertices = [[record["vertices"].tobytes() for record in some] for some in (true, permuted)]
    assert not any(a == b for a, b in zip(*vertices, strict=True))
    for a, b in zip(true, permuted, strict=True):
        assert (a["id"], a["image"], a["caption"]) == (b["id"], b["image"], b["caption"])
        np.testing.assert_array_equal(a["bbox"], b["bbox"])
    for split in ("validation", "test"):  # what chooses and scores is true
        for a, b in zip(records("", split), records("permuted=1.0", split), strict=True):
            np.testing.assert_array_equal(a["vertices"], b["vertices"])
    some = records("permuted=0.5")
    changed = [a["vertices"].tobytes() != b["vertices"].tobytes() for a, b in zip(true, some, strict=True)]
    assert sum(changed) == 6


def test_training_videos_stand_beside_the_same_test_faces():
    video = "sessions=1,train_frames=6,train_correlation=8.0"
    train = records(video)
    assert [int(record["identity"]) for record in train] == [0] * 6 + [1] * 6
    assert [int(record["frame"]) for record in train] == [*range(6)] * 2
    plain, tested = records("sessions=1", "test"), records(video, "test")
    assert [record["id"] for record in plain] == [record["id"] for record in tested]
    assert [record["image"] for record in plain] == [record["image"] for record in tested]
    people = {int(record["identity"]) for record in train}
    assert not people & {int(record["identity"]) for record in tested}
    slow = np.std(
        [face_world.sample_scene(0, i, Settings(frames=6, sessions=1, correlation=1000.0)).yaw for i in range(6)]
    )
    fast = np.std(
        [face_world.sample_scene(0, i, Settings(frames=6, sessions=1, correlation=0.5)).yaw for i in range(6)]
    )
    assert slow < 0.1 * fast


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("spread=3.0", "spread must be between 0 and 2, not 3.0"),
        ("degradation=-1.0", "degradation must be between 0 and 2"),
        ("permuted=2.0", "permuted is a share"),
        ("train_frames=-1", "train_frames must be between 1 and 1000, or 0 for frames"),
        ("train_correlation=0.01", "or 0 for correlation"),
    ],
)
def test_bad_dials_are_refused(arg, message):
    with pytest.raises(ValueError, match=message):
        generated_faces.read(arg, None)
