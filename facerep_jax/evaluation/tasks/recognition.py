"""Recognition: do two images show one person?"""

from collections.abc import Mapping
from typing import Any

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation.compared import Compared
from facerep_jax.evaluation.person_metrics import Verification


class Recognition(Compared):
    """Verification of pairs of test images by the cosine of their pooled features.

    The pairs are those of the data set's table `pairs`, as benchmarks have them.
    """

    needs: tuple[str, ...] = ("image",)
    title = "Recognition"
    label = "image"
    tables: tuple[str, ...] = ("pairs",)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Verification, table="pairs")


class DrawnPairs(Compared):
    """The same on pairs that are drawn from test images whose persons are known, see `person_metrics.drawn_pairs`."""

    needs = ("image", "identity")
    title = "Recognition, drawn pairs"
    label = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Verification, table="")
