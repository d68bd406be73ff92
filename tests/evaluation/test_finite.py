import numpy as np
import pytest
from flax import nnx

from facerep_jax.evaluation.finite import require_finite
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.evaluation.protocols.ridge import Ridge


def test_images_whose_features_are_no_numbers_are_named():
    x = np.zeros((6, 3), np.float32)
    require_finite(x, list("abcdef"))
    x[[1, 2], 0] = np.nan
    with pytest.raises(ValueError, match="features of 2 of 6 images are not finite: b, c; the checkpoint may have div"):
        require_finite(x, list("abcdef"))
    x[[3, 5], 2] = -np.inf
    with pytest.raises(ValueError, match="features of 4 of 6 images are not finite: b, c, d and 1 more; "):
        require_finite(x, list("abcdef"))


@pytest.mark.parametrize("protocol", [Pooled, Ridge])
def test_protocols_name_them(problem, protocol):
    encoder = nnx.clone(problem.encoder)
    encoder.norm_out.scale.set_value(np.nan * encoder.norm_out.scale[...])
    first = problem.splits["test" if protocol is Pooled else "train"]["id"][0]
    with pytest.raises(ValueError, match=f"images are not finite: {first}"):
        protocol().prepare(problem._replace(encoder=encoder))
