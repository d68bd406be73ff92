"""The two worlds."""

from dataclasses import MISSING, fields

from facerep_jax.face_world.geometry import Head
from facerep_jax.face_world.worlds import EVALUATE, PRETRAIN, WORLDS


def test_worlds_describe_every_measure_of_a_head():
    shape = {field.name for field in fields(Head) if field.default is MISSING}
    for world in WORLDS.values():
        assert set(world.shape) == shape
        assert all(low < high for low, high in world.shape.values())
        assert world.quality[0] < world.quality[1] <= 100


def test_worlds_differ_in_all_that_the_card_says():
    assert PRETRAIN.number != EVALUATE.number
    for name in ("scale", "shift", "ambient", "sidewards", "blur", "noise", "chroma", "grain", "gamma", "vignette"):
        assert getattr(PRETRAIN, name) != getattr(EVALUATE, name), name
    assert all(PRETRAIN.shape[name] != EVALUATE.shape[name] for name in PRETRAIN.shape)
    assert not set(PRETRAIN.styles) & set(EVALUATE.styles)
    for name in ("first_names", "last_names"):
        assert not set(getattr(PRETRAIN, name).split()) & set(getattr(EVALUATE, name).split())
    assert not set(PRETRAIN.events) & set(EVALUATE.events)
