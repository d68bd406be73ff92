"""Hair and hats."""

from dataclasses import replace

import numpy as np
import pytest

from facerep_jax.face_world import canvas, hair, render
from facerep_jax.face_world.layers import HAIR
from facerep_jax.face_world.sampling import Settings, sample_scene


def heads(world: str, count: int = 40) -> list:
    scenes = [sample_scene(4, 8 * index, Settings(world=world)) for index in range(count)]
    return [replace(scene, occluder=(), photo=replace(scene.photo, blur=0.0, noise=0.0)) for scene in scenes]


@pytest.mark.parametrize("world", ["pretrain", "evaluate"])
def test_what_is_not_painted_under_the_hair_is_not_seen(world, monkeypatch):
    """`bare_from` and the windows of covers only save time."""
    scenes = heads(world)
    fast = [render(scene, 64) for scene in scenes]
    monkeypatch.setattr(canvas, "bare_from", lambda scene: -1.0)
    monkeypatch.setattr(hair.Cover, "window", lambda self, plane: self.body.window(plane))
    for scene, record in zip(scenes, fast, strict=True):
        slow = render(scene, 64)
        assert (slow["mask"] != record["mask"]).mean() < 0.001
        assert (slow["image"] != record["image"]).any(-1).mean() < 0.003


def test_styles_show():
    """Long hair covers more than short hair, a fringe reaches further down, and nothing covers a bald head."""
    areas = {"none": [], "short": [], "long": []}
    for scene in heads("pretrain", 60):
        if scene.hat:
            continue
        kind = "none" if scene.hair is None else "long" if scene.hair.back else "short"
        areas[kind].append((render(scene, 64)["mask"] == HAIR).mean() / scene.scale**2)
    assert max(areas["none"], default=0) == 0
    assert np.median(areas["long"]) > 1.3 * np.median(areas["short"])
    scene = next(scene for scene in heads("pretrain") if scene.hair and not scene.hat)
    rows = []
    for hairline in (-0.7, -0.35):
        turned = replace(scene, yaw=0.0, roll=0.0, pitch=0.0, x=0.5, hair=replace(scene.hair, hairline=hairline))
        mask = render(turned, 64)["mask"]
        rows.append(np.flatnonzero(mask[:, 32] == HAIR).max())
    assert rows[1] > rows[0] + 2


def test_hats_cover_hair_and_shade_the_brow():
    scene = next(scene for scene in heads("pretrain") if scene.hat and scene.hair)
    with_hat, without = render(scene, 96), render(replace(scene, hat=None), 96)
    assert (with_hat["mask"] == HAIR).sum() < (without["mask"] == HAIR).sum()


@pytest.mark.parametrize("world", ["pretrain", "evaluate"])
def test_strands_are_fixed_to_the_head(world):
    """The light and dark of a point of the hair do not change as the head turns."""
    scene = next(scene for scene in heads(world) if scene.hair)
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (3, 50)).astype(np.float32)
    one, other = (hair.head_covers(replace(scene, yaw=yaw), 0.03)[-1 - bool(scene.hat)].cover for yaw in (-0.5, 0.5))
    cover = next(part.cover for part in hair.head_covers(scene, 0.03) if part.hair)
    assert cover.strands is not None
    assert cover.strands(points).std() > 0.3
    if one.strands:
        np.testing.assert_array_equal(one.strands(points), other.strands(points))
