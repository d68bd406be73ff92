"""Reference: NumPy from the definition. Planted and seen red: biases of zeros; a norm behind the last layer."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.projector import Projector, spread, torch_linear, unit
from facerep_jax.train.state import count, split
from tests.objectives.crops import projected


@pytest.mark.parametrize(("widths", "norm_out"), [((6, 5, 4), False), ((6, 5, 5, 4), True)])
def test_layers_are_normalised_between_and_at_the_end_if_asked_for(widths, norm_out):
    projector = Projector(widths, norm_out=norm_out, hidden_bias=not norm_out, rngs=nnx.Rngs(params=0))
    x = np.random.default_rng(0).normal(size=(9, 6))
    np.testing.assert_allclose(projector(jnp.asarray(x, jnp.float32)), projected(projector, x), atol=1e-4)
    weights = sum(a * b for a, b in pairwise(widths))
    biases = 0 if norm_out else sum(widths[1:])
    assert count(split(projector)[1]) == weights + biases + 2 * sum(widths[1:-1])


def test_swavs_has_as_many_parameters_as_published():
    """4,462,720, of 2048-2048-128."""
    assert count(split(Projector((2048, 2048, 128), rngs=nnx.Rngs(params=0)))[1]) == 4_462_720


def test_a_linear_layer_begins_as_torchs():
    """Uniform within 1 / sqrt(inputs), weights and bias alike: kaiming_uniform of a = sqrt(5)."""
    layer = torch_linear(400, 300, rngs=nnx.Rngs(params=0))
    for values in (layer.kernel[...], layer.bias[...]):
        assert 0.045 < np.abs(values).max() <= 0.05
        assert values.std() == pytest.approx(0.05 / 3**0.5, rel=0.1)


def test_spread_tells_vectors_that_are_alike_from_those_that_point_everywhere():
    rng = np.random.default_rng(0)
    everywhere = unit(jnp.asarray(rng.normal(size=(1000, 16)), jnp.float32))
    np.testing.assert_allclose(jnp.linalg.norm(everywhere, axis=1), 1, rtol=1e-5)
    assert float(spread(everywhere)) == pytest.approx(1, abs=0.02)
    assert float(spread(jnp.tile(everywhere[:1], (9, 1)))) == pytest.approx(0, abs=1e-6)
    assert not unit(jnp.zeros((1, 4))).any()
