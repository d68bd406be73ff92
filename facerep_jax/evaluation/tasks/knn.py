"""Nearest neighbours: who is it, by the images that are most alike?"""

from collections.abc import Mapping
from typing import Any

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation.compared import Compared
from facerep_jax.evaluation.person_metrics import Retrieval


class KNN(Compared):
    """Retrieval of the images that show the same person, among all other test images, by pooled features."""

    needs = ("image", "identity")
    title = "Identity retrieval"
    label = "identity"
    drawn_by = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Retrieval)
