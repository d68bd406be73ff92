"""Action units, and the expressions that they amount to."""

import numpy as np
import pytest

from facerep_jax.face_world import action_units
from facerep_jax.face_world.action_units import (
    ACTION_UNITS,
    EXPRESSIONS,
    PROTOTYPES,
    WEIGHTS,
    arousal,
    displacements,
    expression,
    valence,
)


def units(**intensities: float) -> tuple[float, ...]:
    return tuple(intensities.get(name, 0.0) for name in ACTION_UNITS)


def of(name: str, strength: float) -> tuple[float, ...]:
    return units(**{unit: 5 * strength * share for unit, share in PROTOTYPES[name].items()})


def test_nothing_is_displaced_at_rest():
    assert set(displacements(units()).values()) == {0.0}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_prototype_is_its_own_expression(name):
    for strength in (0.5, 0.8, 1.0):
        assert EXPRESSIONS[expression(of(name, strength))] == name


def test_little_or_nothing_is_neutral():
    assert expression(units()) == expression(of("anger", 0.15)) == EXPRESSIONS.index("neutral") == 0
    assert expression(units(AU43=5.0)) == 0  # a blink is no expression
    assert expression(units(AU26=5.0)) == 0  # nor is one unit that belongs to several


def test_expression_is_the_longest_projection():
    """Compare with the definition in NumPy, on random units."""
    rng = np.random.default_rng(0)
    table = np.array([[p.get(unit, 0.0) for unit in ACTION_UNITS] for p in PROTOTYPES.values()])
    table[1:] /= np.linalg.norm(table[1:], axis=1, keepdims=True)
    found = []
    for _ in range(500):
        intensities = rng.uniform(0, 5, len(ACTION_UNITS)) * (rng.random(len(ACTION_UNITS)) < 0.4)
        along = table @ intensities
        best = int(along.argmax())
        enough = along[best] >= action_units.NEUTRAL_BELOW
        clear = along[best] > 0.5 * np.linalg.norm(intensities[:-1])
        assert expression(tuple(intensities.tolist())) == (best if enough and clear else 0)
        found.append(best)
    assert set(found) >= set(range(1, len(EXPRESSIONS)))


def test_valence_and_arousal_are_the_tangent_of_weighted_sums():
    rng = np.random.default_rng(0)
    weights = np.array([WEIGHTS[unit] for unit in ACTION_UNITS])
    for _ in range(50):
        intensities = rng.uniform(0, 5, len(ACTION_UNITS))
        expected = np.tanh(intensities / 5 @ weights)
        found = [f(tuple(intensities.tolist())) for f in (valence, arousal)]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert valence(units()) == arousal(units()) == 0


def test_expressions_have_the_valence_and_arousal_of_their_names():
    v = {name: valence(of(name, 1.0)) for name in EXPRESSIONS}
    a = {name: arousal(of(name, 1.0)) for name in EXPRESSIONS}
    assert v["happiness"] > 0.5
    assert max(v[name] for name in ("sadness", "fear", "disgust", "anger")) < -0.4
    assert min(a[name] for name in ("surprise", "fear")) > 0.6
    assert a["sadness"] < 0.2
    assert arousal(units(AU43=5.0)) < -0.5
