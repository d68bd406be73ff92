"""Margins by their definitions. Planted and seen red: the angular margin of AdaFace with the other sign."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.models.margins import AdaFace, ArcFace, CosFace

COSINES = np.array([-1.0, -0.95, -0.3, 0.0, 0.4, 0.99, 1.0])
NORMS = np.array([5.0, 30.0, 8.0, 12.0, 20.0, 1.0, 200.0])


def seen(margin):
    return np.asarray(margin(jnp.asarray(COSINES, jnp.float32), jnp.asarray(NORMS, jnp.float32)))


def test_cosface_takes_its_margin_from_the_cosine():
    np.testing.assert_allclose(seen(CosFace(margin=0.4)), COSINES - 0.4, atol=1e-6)


def test_arcface_adds_its_margin_to_the_angle_as_far_as_the_cosine_falls():
    expected = [
        math.cos(math.acos(c) + 0.5) if math.acos(c) + 0.5 < math.pi else c - 0.5 * math.sin(0.5) for c in COSINES
    ]
    np.testing.assert_allclose(seen(ArcFace(margin=0.5)), expected, atol=1e-5)
    fine = np.asarray(ArcFace()(jnp.linspace(-1, 1, 401), jnp.ones(401)))
    assert (np.diff(fine) > 0).all()


def test_adaface_has_its_margin_by_quality():
    """2204.00964: of the norms' running mean and deviation, which begin at 20 and 100."""
    norms = np.clip(NORMS, 1e-3, 100)
    mean, deviation = 0.9 * 20 + 0.1 * norms.mean(), 0.9 * 100 + 0.1 * norms.std(ddof=1)
    z = np.clip(0.333 * (norms - mean) / (deviation + 1e-3), -1, 1)
    angle = np.clip(np.arccos(np.clip(COSINES, -0.999, 0.999)) - 0.4 * z, 1e-3, math.pi - 1e-3)
    margin = AdaFace(momentum=0.9)
    np.testing.assert_allclose(seen(margin), np.cos(angle) - 0.4 * (1 + z), atol=1e-5)
    assert float(margin.mean[...]) == pytest.approx(mean, rel=1e-6)
    assert float(margin.deviation[...]) == pytest.approx(deviation, rel=1e-6)
    gradient = jax.grad(lambda norms: AdaFace()(jnp.asarray(COSINES, jnp.float32), norms).sum())
    assert not gradient(jnp.asarray(NORMS, jnp.float32)).any()


@pytest.mark.parametrize("margin", [CosFace, ArcFace, AdaFace])
def test_gradients_are_finite_at_the_ends(margin):
    def total(cosines):
        return margin()(cosines, jnp.asarray(NORMS, jnp.float32)).sum()

    assert np.isfinite(jax.grad(total)(jnp.asarray(COSINES, jnp.float32))).all()
