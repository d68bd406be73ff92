import jax.numpy as jnp
import numpy as np

from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.evaluation.shared import Shared
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


def test_neither_images_nor_mirror_images_are_encoded_twice(problem):
    shared = Shared()
    together = problem._replace(shared=shared, images={"test": "these"})
    images = len(problem.splits["test"]["image"])
    first, again, alone = (
        protocol.prepare(together)(ROWS, ROWS[:0], 0).prediction
        for protocol in (Pooled(), Pooled(), Pooled(mirrored=False))
    )
    assert shared.encoded == 2 * images
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, Pooled().prepare(problem)(ROWS, ROWS[:0], 0).prediction)
    assert (first != 2 * alone).any()  # a mirror image is another image
