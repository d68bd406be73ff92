"""People, sessions and frames. The card docs/generated_faces.md makes the claims that are tested here."""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from facerep_jax import face_world
from facerep_jax.face_world import sampling
from facerep_jax.face_world.action_units import ACTION_UNITS
from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.sampling import BLOCK, DONORS, Settings, person_of, sample_scene
from facerep_jax.face_world.scene import attributes

DRAWS = 5000


def plain(value):
    """Return the fields of a scene as data that can be compared, without its captions."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if hasattr(value, "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if name not in ("captions", "oracle")]
        return {name: plain(getattr(value, name)) for name in names}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def test_a_scene_depends_on_seed_and_index_alone():
    first = {index: plain(sample_scene(3, index)) for index in (5, 6, 900)}
    sampling._person.cache_clear()
    sampling._session.cache_clear()
    again = {index: plain(sample_scene(3, index)) for index in (900, 6, 5)}
    assert first == again
    assert plain(sample_scene(4, 5)) != first[5]
    assert len({str(value) for value in first.values()}) == 3


def test_sessions_share_the_person_and_frames_the_session():
    settings = Settings(sessions=3, frames=5)
    scenes = [sample_scene(7, index, settings) for index in range(45)]
    assert [scene.session for scene in scenes] == [0] * 5 + [1] * 5 + [2] * 5 + ([0] * 5 + [1] * 5 + [2] * 5) * 2
    assert [scene.frame for scene in scenes] == list(range(5)) * 9
    assert len({scene.identity for scene in scenes}) == 3
    one, same, other, stranger = scenes[0], scenes[4], scenes[5], scenes[15]
    for name in ("skin", "light", "glasses", "hat", "clothes", "hair", "backdrop", "earrings"):
        assert getattr(one, name) is getattr(same, name), name
    for name in ("light", "clothes", "backdrop", "photo"):
        assert getattr(one, name) != getattr(other, name), name
    assert one.head.jaw == other.head.jaw != stranger.head.jaw
    assert one.skin.colour == other.skin.colour != stranger.skin.colour
    assert one.yaw != same.yaw
    names = {scene.hair.name for scene in scenes[:15] if scene.hair}
    assert len(names) <= 1


def test_sessions_of_a_person_change_accessories():
    settings = Settings(sessions=40, frames=1)
    for person in range(6):
        scenes = [sample_scene(1, 40 * person + session, settings) for session in range(40)]
        assert 0 < sum(scene.hat is not None for scene in scenes) < 20
        assert len({scene.hair and scene.hair.volume for scene in scenes}) > 10 or scenes[0].hair is None
        styles = {(scene.hair.back > 0, scene.hair.curl, scene.hair.name) for scene in scenes if scene.hair}
        assert len(styles) <= 1  # hair grows and is combed, but it is not cut or dyed


def test_people_do_not_cross_a_block():
    settings = Settings(sessions=3, frames=7)
    assert person_of(BLOCK - 1, settings) != person_of(BLOCK, settings)
    assert person_of(BLOCK, settings) == person_of(BLOCK + 20, settings) != person_of(BLOCK + 21, settings)


def test_worlds_share_no_face_nor_seed():
    """The same seed gives other people, other frames and other textures in the other world."""
    for index in (0, 1, 40):
        one, other = (sample_scene(0, index, Settings(world=world)) for world in ("pretrain", "evaluate"))
        assert one.identity != other.identity
        assert one.head != other.head
        assert one.skin.colour != other.skin.colour
        assert one.yaw != other.yaw
        assert (one.world, other.world) == (0, 1)
    backgrounds = [
        {sample_scene(0, 8 * i, Settings(world=world)).backdrop.texture for i in range(60)}
        for world in ("pretrain", "evaluate")
    ]
    assert not backgrounds[0] & backgrounds[1]


@pytest.mark.parametrize("correlation", [3.0, pytest.param(8.0, marks=pytest.mark.slow)])
def test_trajectories_have_the_asked_correlation_time(correlation):
    """Test poses of 300 sessions; bounds are 4.5 standard errors, so that 1 seed in 10,000 would fail."""
    settings = Settings(sessions=1, frames=33, correlation=correlation)
    lags = (0, 1, round(correlation), 2 * round(correlation))
    shapes = (("yaw", np.deg2rad(60), 0.52), ("pitch", np.deg2rad(28), 0.32), ("roll", np.deg2rad(35), 0.25))
    count = 300
    scenes = [[sampling._scene_without_captions(2, 33 * s + lag, settings)[0] for lag in lags] for s in range(count)]
    for name, most, slope in shapes:
        angles = np.array([[getattr(scene, name) for scene in row] for row in scenes])
        path = np.arctanh(angles / most) / slope
        for column, lag in enumerate(lags):
            expected = np.exp(-((lag / correlation) ** 2))
            error = np.sqrt((1 + expected**2) / count)
            assert abs((path[:, 0] * path[:, column]).mean() - expected) < 4.5 * error, (name, lag)


def test_trajectories_are_smooth():
    """Nothing jumps from frame to frame, expressions included; only noise is sampled anew for each picture."""
    settings = Settings(sessions=1, frames=60, correlation=20.0)
    for session in range(8):
        scenes = [sample_scene(5, 60 * session + frame, settings) for frame in range(60)]
        poses = np.rad2deg([[scene.yaw, scene.pitch, scene.roll] for scene in scenes])
        units = np.array([scene.units for scene in scenes])
        places = np.array([[scene.x, scene.y, scene.scale] for scene in scenes])
        assert np.abs(np.diff(poses, axis=0)).max() < 8
        assert np.abs(np.diff(poses, 2, axis=0)).max() < 1.2
        assert np.abs(np.diff(units, axis=0))[:, :-1].max() < 1.2
        assert np.abs(np.diff(places, axis=0)).max() < 0.02
        assert np.ptp(poses[:, 0]) > 5
        assert len({scene.photo.places for scene in scenes}) == 60


@pytest.mark.slow
def test_units_vary_and_stay_within_bounds():
    units = np.stack([people("pretrain")[f"expression/{name}"] for name in ACTION_UNITS], axis=1)
    assert units.min() == 0
    assert units.max() <= 5
    active = (units > 1).mean(0)
    assert (active > 0.08).all(), dict(zip(ACTION_UNITS, active, strict=True))
    assert ((units > 4).mean(0) > 0.01).all()
    assert ((units == 0).mean(0) > 0.25).all()


def factors(scene) -> dict[str, dict[str, float]]:
    """Return numbers of a scene in groups; the card calls different groups independent."""
    true = attributes(scene)
    head = scene.head
    groups = {
        "skin": {"tone": sum(scene.skin.colour)},
        "freckles": {"freckles": true["freckles"]},
        "age": {"lines": scene.skin.lines},
        "hair": {"bald": true["bald"], "long": true["long_hair"], "curly": true["curly_hair"]}
        | {f"{name}": true[f"{name}_hair"] for name in ("black", "brown", "blond", "grey")},
        "beard": {"beard": true["beard"], "moustache": true["moustache"]},
        "glasses": {"glasses": true["glasses"]},
        "hat": {"hat": true["hat"]},
        "earrings": {"earrings": true["earrings"]},
        "occluder": {"hand": true["hand"], "occluder": bool(scene.occluder)},
        "yaw": {"yaw": scene.yaw},
        "pitch": {"pitch": scene.pitch},
        "roll": {"roll": scene.roll},
        "scale": {"scale": scene.scale},
        "y": {"y": scene.y},
        "gaze": {"gaze": scene.gaze_x},
        "expression": {name: unit for name, unit in zip(ACTION_UNITS, scene.units, strict=True)},
        "lamp": {"across": scene.light.towards[0], "up": scene.light.towards[1]},
        "ambient": {"ambient": scene.light.ambient},
        "backdrop": {"span": scene.backdrop.span, "things": len(scene.backdrop.shapes)},
        "cells": {"cells": scene.backdrop.cells},
        "clothes": {"clothes": sum(scene.clothes.colour)},
        "blur": {"blur": scene.photo.blur},
        "noise": {"noise": scene.photo.noise},
        "gamma": {"gamma": scene.photo.gamma},
        "quality": {"quality": scene.photo.quality},
    }
    for name in ("width", "depth", "jaw", "eye_x", "nose_width", "nose_relief", "mouth_width", "brow_thickness"):
        groups[name] = {name: getattr(head, name)}
    return {group: {name: float(value) for name, value in members.items()} for group, members in groups.items()}


def binned(values: np.ndarray) -> np.ndarray:
    """Return values as numbers of up to four classes of about equal size; few different values stay apart."""
    distinct = np.unique(values)
    if len(distinct) <= 4:
        return np.searchsorted(distinct, values)
    edges = np.unique(np.quantile(values, (0.25, 0.5, 0.75)))
    return np.unique(np.searchsorted(edges, values), return_inverse=True)[1]


def sampled_columns(world: str) -> dict[str, np.ndarray]:
    """Return the numbers of one frame each of many people; keys are "group/name"."""
    settings = Settings(world=world, sessions=1, frames=1)
    scenes = [sampling._scene_without_captions(1, index, settings)[0] for index in range(DRAWS)]
    rows = [{**factors(scene), "attributes": attributes(scene)} for scene in scenes]
    return {
        f"{group}/{name}": np.array([row[group][name] for row in rows], float)
        for group, members in rows[0].items()
        for name in members
    }


@cache
def people(world: str) -> dict[str, np.ndarray]:
    """Return `sampled_columns` of a process that checks no types, as these checks take ten times as long."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "columns.npz"
        subprocess.run([sys.executable, __file__, world, file], check=True)
        return dict(np.load(file))


@pytest.mark.slow
@pytest.mark.parametrize("world", ["pretrain", "evaluate"])
def test_factors_that_the_card_calls_independent_are(world):
    """Test every pair of numbers of different groups by chi-square of their quartiles, over one frame of 5,000 people.

    About 1,300 pairs at a level of 1e-7 each give a false alarm for one seed in 8,000. With 5,000 scenes and 9 degrees
    of freedom, correlations from about 0.12 exceed the bound.
    """
    columns = {key: binned(values) for key, values in people(world).items() if not key.startswith("attributes/")}
    keys = list(columns)
    pairs = 0
    for i, one in enumerate(keys):
        for other in keys[:i]:
            if one.partition("/")[0] == other.partition("/")[0]:
                continue
            table = np.bincount(columns[one] * 4 + columns[other], minlength=16).reshape(-1, 4)
            table = table[table.sum(1) > 0][:, table.sum(0) > 0]
            expected = np.outer(table.sum(1), table.sum(0)) / DRAWS
            chi_square = ((table - expected) ** 2 / expected).sum()
            freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
            assert chi_square < stats.chi2.isf(1e-7, freedom), (one, other)
            pairs += 1
    assert pairs > 1000


def test_every_attribute_varies():
    for world in ("pretrain", "evaluate"):
        shares = {key: values.mean() for key, values in people(world).items() if key.startswith("attributes/")}
        assert len(shares) == len(face_world.ATTRIBUTES)
        assert all(0.02 < share < 0.75 for share in shares.values()), shares


def test_ranges_are_wide():
    columns = people("pretrain")
    tone, across, quality = columns["skin/tone"] / 3, columns["lamp/across"], columns["quality/quality"]
    assert tone.min() < 60 < 185 < tone.max()
    degrees = np.rad2deg([columns["yaw/yaw"], columns["pitch/pitch"], columns["roll/roll"]])
    assert (degrees.min(1) < [-50, -12, -12]).all()
    assert (degrees.max(1) > [50, 12, 12]).all()
    assert np.abs(degrees[0]).max() <= 60
    assert across.min() < -0.75
    assert across.max() > 0.75
    assert len(set(quality)) > 20


@pytest.mark.parametrize(
    "told", [{"mismatched": 1.0}, {"mismatched": 0.0}, {"informativeness": 1.0}, {"informativeness": 0.0}], ids=str
)
def test_captions_leave_the_picture_alone(told):
    """All but the captions is equal to the bit under every caption setting, and so is the caption of the oracle."""
    changed = 0
    for index in range(0, 60, 3):
        usual, other = sample_scene(4, index), sample_scene(4, index, Settings(**told))
        assert plain(usual) == plain(other)
        assert usual.oracle == other.oracle
        changed += usual.captions != other.captions
    assert changed > 0
    for index in (0, 9):
        usual, other = face_world.face(4, index, 64), face_world.face(4, index, 64, Settings(**told))
        for name, value in usual.items():
            if name != "caption":
                np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_donors_are_others_of_the_same_block():
    settings = Settings()
    each = settings.sessions * settings.frames
    for index in (0, 5, 127, 128, BLOCK, BLOCK + 1000):
        dice = Dice(9, index)
        donors = [sampling._sample_donor(dice, index, settings) for _ in range(300)]
        own = person_of(index, settings)
        people = {person_of(donor, settings) for donor in donors}
        assert own not in people
        assert len(people) == DONORS - 1
        assert {donor // BLOCK for donor in donors} == {index // BLOCK}
        assert {donor % BLOCK // each // DONORS for donor in donors} == {index % BLOCK // each // DONORS}


def test_an_occluder_appears_and_goes():
    settings = Settings(sessions=1, frames=40, correlation=5.0)
    found = [
        [sampling._scene_without_captions(3, 40 * s + f, settings)[0].occluder for f in range(40)] for s in range(30)
    ]
    present = np.array([[bool(occluder) for occluder in session] for session in found])
    assert 0.05 < present.mean() < 0.18
    changes = np.abs(np.diff(present.astype(int), axis=1)).sum(1)
    assert 0 < changes.max() <= 8


if __name__ == "__main__":
    np.savez(sys.argv[2], **sampled_columns(sys.argv[1]))
