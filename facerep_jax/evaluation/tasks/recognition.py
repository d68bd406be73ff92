"""Recognition: do two images, or two templates of several images, show one person? Who of a gallery is it?

Images are compared by the encoder's pooled features, and nothing is learnt; or, in classes that begin with `Learnt`, by
an embedding that is learnt from the persons of the training split.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.evaluation.compared import Compared
from facerep_jax.evaluation.person_metrics import Verification
from facerep_jax.evaluation.targets import mean_known
from facerep_jax.evaluation.template_metrics import (
    GALLERY,
    PROBES,
    TEMPLATE_PAIRS,
    Identification,
    TemplateVerification,
)
from facerep_jax.models import pooled
from facerep_jax.models.margins import CosFace
from facerep_jax.models.pooled import Targets
from facerep_jax.models.projector import unit
from facerep_jax.models.taps import stages_at
from facerep_jax.typing import Batch, Carried, Encoder, Features, Metrics, View, Views

COSFACE = plain(spec(CosFace))  # spec of the margin unless told otherwise
PROJECTION = plain(spec(pooled.Projection))  # and of the head


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

    needs: tuple[str, ...] = ("image", "identity")
    title = "Recognition, drawn pairs"
    label = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Verification, table="")


class Templates(Compared):
    """Verification of pairs of templates, those of the data set's table, as IJB-B and IJB-C have them."""

    needs: tuple[str, ...] = ("image", "template", "media")
    title = "Recognition of templates"
    label = "template"
    tables = (TEMPLATE_PAIRS,)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(TemplateVerification)


class DrawnTemplates(Compared):
    """The same on templates that are drawn from images whose persons are known."""

    needs: tuple[str, ...] = ("image", "identity")
    title = "Recognition of drawn templates"
    label = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(TemplateVerification, drawn=True)


class Search(Compared):
    """Identification of probe templates in galleries, those of the data set's tables, as IJB-B and IJB-C have them."""

    needs: tuple[str, ...] = ("image", "template", "media")
    title = "Identification of templates"
    label = "template"
    tables = (GALLERY, PROBES)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Identification)


class DrawnSearch(Compared):
    """The same on templates that are drawn from images whose persons are known."""

    needs: tuple[str, ...] = ("image", "identity")
    title = "Identification of drawn templates"
    label = "identity"

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(Identification, drawn=True)


class Persons(nnx.Module):
    """The training persons as directions, and the margin softmax that tells them apart.

    The persons of the examples that it is fitted to alone are told apart; the others are in no loss.

    Source: the cosines of CosFace (1801.09414) and ArcFace (1801.07698), classes drawn with a deviation of 0.01.
    """

    def __init__(self, count: int, width: int, margin: Spec, *, rngs: nnx.Rngs):
        self.margin = build(margin)
        self.directions = nnx.Param(nnx.initializers.normal(0.01)(rngs.params(), (count, width), jnp.float32))
        self.there = Carried(jnp.zeros(count, bool))

    def fit(self, persons: Int[Array, "n"]) -> None:
        """Take the persons of the examples, -1 where they are not known. Raises ValueError if there is one alone."""
        count = len(self.there[...])
        there = jnp.zeros(count, bool).at[jnp.where(persons < 0, count, persons)].set(True, mode="drop")
        if (found := int(there.sum())) < 2:
            raise ValueError(f"recognition learns to tell persons apart, and {len(persons)} labels are of {found}")
        self.there.set_value(there)

    def __call__(self, vectors: Float[Array, "b d"], persons: Int[Array, "b"]) -> tuple[Float[Array, ""], Metrics]:
        """Mean loss and accuracy over examples whose person is one of those that are told apart."""
        there = self.there[...][None]
        cosines = unit(vectors) @ unit(self.directions[...]).T
        own = (persons[:, None] == jnp.arange(there.shape[1])[None]) & there
        cosine = jnp.where(own, cosines, 0).sum(1)
        moved = self.margin(cosine, jnp.linalg.norm(vectors, axis=1))
        logits = self.margin.scale * jnp.where(own, moved[:, None], cosines)
        losses = jax.nn.logsumexp(logits, axis=1, where=there) - self.margin.scale * moved
        hits = cosine >= jnp.where(there, cosines, -jnp.inf).max(1)
        loss, known = mean_known(losses, own.any(1)), own.any(1)
        return loss, {"loss": loss, "accuracy": mean_known(hits.astype(jnp.float32), known), "known": known.mean()}


class Learnt(Compared):
    """A task whose prediction is an embedding of length one, which a margin softmax over the training persons learns.

    The persons of the test split may be others. Subsets of the labels are of persons, with all of their images.
    Verification of pairs that are drawn from validation images chooses, whatever the test images are scored by.

    Source: insightface, for embeddings of 512 numbers, margins and scale. FRL (2103.16554) recognises faces too; its
    training set, loss and head are not known.
    Changed: the feature of the mirror image is not added.

    Args:
        embedding: width.
        margin: spec of a margin of `models.margins`.
        taps: stages of the encoder that the head reads, as shares of its depth; none for the pooled feature alone.
        head: spec of a head of `models.pooled` that begins at random.
        image_size: of no account.
        meta: of the data set, whose `identities` are as many as persons; without them the task predicts alone.
    """

    needs: tuple[str, ...] = ("image", "identity")
    label = "identity"
    splits = ("train", "validation", "test")
    drawn_by = "identity"
    only_learns = ("persons",)

    def __init__(
        self,
        encoder: Encoder,
        *,
        embedding: int = 512,
        margin: Spec = COSFACE,
        taps: tuple[float, ...] = (),
        head: Spec = PROJECTION,
        image_size: int,
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.taps = stages_at(taps, encoder.stages)
        self.head = build(head, encoder, embedding, known_persons, scaled=False, taps=self.taps, rngs=rngs)
        count = len(meta.get("identities", ()))
        self.persons = Persons(count, embedding, margin, rngs=rngs) if count else None

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Let the head take what it takes from training examples, and see who is there."""
        self.told_apart().fit(batch["identity"])
        self.head.fit(seen["image"], batch["identity"])

    def views(self, batch: Batch, *, encoder: Encoder | None, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"], taps=self.taps)}

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder | None,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        return self.told_apart()(self.head(seen["image"], rng), batch["identity"])

    def told_apart(self) -> Persons:
        """The training persons; ValueError if the meta of the data set does not name them."""
        if self.persons is None:
            raise ValueError("recognition learns from persons, and the meta of the data set names no `identities`")
        return self.persons

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b d"]:
        """The embedding."""
        return unit(self.head(seen["image"]))

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The embedding."""
        return {"embedding": prediction.tolist()}

    @staticmethod
    def validation_metric(meta: Mapping[str, Any]) -> Spec:
        """Verification of drawn pairs, for any data set."""
        return spec(Verification, table="")

    @staticmethod
    def usable(split: Mapping[str, Any], role: str) -> Int[np.ndarray, "_"]:
        """The images whose person is known.

        Raises:
            ValueError: those of the training split are of less than two persons, or one of each.
        """
        person = np.asarray(split["identity"])
        (rows,) = np.nonzero(person >= 0)
        counts = np.unique(person[rows], return_counts=True)[1]
        if role == "train" and len(counts) < 2:
            known = "one known person" if len(counts) else "no known person"
            raise ValueError(
                f"recognition learns to tell persons apart: the {len(person)} training images are of {known}, and at "
                "least two are needed"
            )
        if role == "train" and counts.max() < 2:
            raise ValueError(
                f"each of {len(counts)} training persons has one image, from which nothing is learnt of what two "
                "images of a person share: at least one needs two"
            )
        return rows


class LearntRecognition(Learnt, Recognition):
    """Verification of the pairs of the data set's table by a learnt embedding."""

    title = "Learnt recognition"
    needs: tuple[str, ...] = ("image", "identity")


class LearntDrawnPairs(Learnt, DrawnPairs):
    """The same of pairs that are drawn from test images whose persons are known."""

    title = "Learnt recognition, drawn pairs"


class LearntTemplates(Learnt, Templates):
    """Verification of pairs of templates, those of the data set's table, by a learnt embedding."""

    title = "Learnt recognition of templates"
    needs = ("image", "identity", "template", "media")


class LearntDrawnTemplates(Learnt, DrawnTemplates):
    """The same of templates that are drawn from images whose persons are known."""

    title = "Learnt recognition of drawn templates"


class LearntSearch(Learnt, Search):
    """Identification of probe templates in galleries, those of the data set's tables, by a learnt embedding."""

    title = "Learnt identification of templates"
    needs = ("image", "identity", "template", "media")


class LearntDrawnSearch(Learnt, DrawnSearch):
    """The same of templates that are drawn from images whose persons are known."""

    title = "Learnt identification of drawn templates"


def known_persons(labels: Int[Array, "b"], outputs: int) -> Targets:
    """Whether each person is known, as targets of one output: heads ask no more of them."""
    known = (labels >= 0)[:, None]
    return Targets(known.astype(jnp.float32), known)
