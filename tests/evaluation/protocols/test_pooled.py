import jax.numpy as jnp
import numpy as np

from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.typing import View
from tests.evaluation.problems import ROWS, weights


def test_the_prediction_is_the_pooled_feature_of_the_image_and_its_mirror_image(problem):
    before, images = weights(problem), jnp.asarray(problem.splits["test"]["image"])
    one, mirrored = (np.asarray(problem.encoder(View(x)).pooled) for x in (images, images[:, :, ::-1]))
    for protocol, expected in ((Pooled(), one + mirrored), (Pooled(mirrored=False), one)):
        assert isinstance(protocol, Protocol)
        outcome = protocol.prepare(problem)(ROWS, ROWS[:0], 0)
        np.testing.assert_allclose(outcome.prediction, expected, atol=0.03)  # kept in half precision
        assert outcome.selected == {}
    assert ("mirror" in Pooled().explains) is True
    assert "mirror" not in Pooled(mirrored=False).explains
    for path, x in weights(problem).items():
        np.testing.assert_array_equal(x, before[path])
