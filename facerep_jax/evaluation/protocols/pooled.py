"""Pooled features as they are: nothing is trained."""

import numpy as np

from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.finite import require_finite
from facerep_jax.evaluation.network import seen
from facerep_jax.evaluation.problem import Indices, Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Outcome


class Pooled:
    """The encoder's pooled feature of each test image is its prediction, for tasks that compare images.

    Source: features of an image and of its mirror image are summed, as insightface's evaluations do.

    Args:
        mirrored: whether that of the mirror image is added to that of the image.
    """

    name = "pooled"
    trains_encoder, compares = False, False

    def __init__(self, *, mirrored: bool = True):
        self.mirrored = mirrored
        self.explains = (
            "Pooled features: the encoder stays as it is and nothing is trained; images are compared by the "
        )
        self.explains += "cosine of their pooled features"
        self.explains += ", each summed with that of the mirror image." if mirrored else "."

    def prepare(self, problem: Problem) -> Learn:
        extract = extractor(problem.encoder, (), problem.devices)
        found = np.asarray(seen(problem, extract, "test", taps=())["pooled"], np.float32)
        if self.mirrored:
            found = found + np.asarray(seen(problem, extract, "test", taps=(), mirrored=True)["pooled"], np.float32)
        require_finite(found, problem.splits["test"]["id"])

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            return Outcome(found, {})

        return learn


PROTOCOL = Pooled
