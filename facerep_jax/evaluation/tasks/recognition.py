"""Recognition: do two images, or two templates of several images, show one person? Who of a gallery is it?"""

from collections.abc import Mapping
from typing import Any

from facerep_jax.config import Spec, spec
from facerep_jax.evaluation.compared import Compared
from facerep_jax.evaluation.person_metrics import Verification
from facerep_jax.evaluation.template_metrics import (
    GALLERY,
    PROBES,
    TEMPLATE_PAIRS,
    Identification,
    TemplateVerification,
)


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


class Templates(Compared):
    """Verification of pairs of templates, those of the data set's table, as IJB-B and IJB-C have them."""

    needs = ("image", "template", "media")
    title = "Recognition of templates"
    label = "template"
    tables = (TEMPLATE_PAIRS,)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(TemplateVerification)


class DrawnTemplates(Compared):
    """The same on templates that are drawn from images whose persons are known."""

    needs = ("image", "identity")
    title = "Recognition of drawn templates"
    label = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(TemplateVerification, drawn=True)


class Search(Compared):
    """Identification of probe templates in galleries, those of the data set's tables, as IJB-B and IJB-C have them."""

    needs = ("image", "template", "media")
    title = "Identification of templates"
    label = "template"
    tables = (GALLERY, PROBES)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Identification)


class DrawnSearch(Compared):
    """The same on templates that are drawn from images whose persons are known."""

    needs = ("image", "identity")
    title = "Identification of drawn templates"
    label = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Identification, drawn=True)
