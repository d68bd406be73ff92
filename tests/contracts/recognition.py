"""Plug-in: recognition by pairs, k nearest neighbours and zero-shot attributes, none of which is a sum over images."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.data.transforms import tokens
from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.problem import Indices, Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.models.layers import Linear, trunc_normal
from facerep_jax.train.handover import offered
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Rows, View, Views

FAR = 0.1


class Recognition(nnx.Module):
    """Who is it? A linear embedding of the pooled feature, learnt by telling the persons of the training split apart.

    Args:
        width: of the embedding.
        persons: that are told apart at most.
    """

    title, drawn = "Recognition", "the face alone"
    needs = ("image", "identity")
    offers = ()
    label, drawn_by = "identity", "identity"
    taps: tuple[int, ...] = ()
    splits, tables = ("train", "validation", "test"), ("pairs",)

    def __init__(
        self,
        encoder: Encoder,
        *,
        width: int = 16,
        persons: int = 256,
        image_size: int,
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        self.embed = Linear(encoder.width, width, init=trunc_normal(0.1), rngs=rngs)
        self.persons = Linear(width, persons, init=trunc_normal(0.1), rngs=rngs)

    def begin(self, encoder: Encoder | None, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Nothing is taken from examples."""

    def views(self, batch: Batch, *, encoder: Encoder | None, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"])}

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
        logits = jax.nn.log_softmax(self.persons(self.predict(seen, batch)))
        loss = -jnp.take_along_axis(logits, batch["identity"][:, None], axis=1).mean()
        return loss, {"loss": loss}

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b e"]:
        """Embeddings of length one."""
        x = self.embed(seen["image"].pooled.astype(jnp.float32))
        return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Verification)

    @staticmethod
    def baselines(train: Batch, validation: Batch, test: Batch, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Embeddings without an encoder: pixels."""
        x = np.asarray(test["image"], np.float64).reshape(len(test["image"]), -1)
        x = x - x.mean(1, keepdims=True)
        return {"pixels": x / np.linalg.norm(x, axis=1, keepdims=True)}

    @staticmethod
    def draw(image: np.ndarray, label: Any, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged."""
        return Image.fromarray(image).resize((image.shape[1] * scale, image.shape[0] * scale))


class Verification:
    """Same person or not, for pairs of images: TAR at FAR, and ten-fold accuracy.

    Pairs of a table are rows: similarity, whether they are of one person, fold. Neither value is a function of sums.
    """

    headline, lower_is_better = "tar_at_far_1e-1", False
    columns = ("tar_at_far_1e-1", "accuracy_ten_fold")
    optional, unit, belongs_to, per_row, error_limit = (), "pair", "fold", False, None
    names: Mapping[str, str] = {"tar_at_far_1e-1": "TAR at FAR 0.1"}
    counts = ("pairs",)
    explains = (
        "TAR at FAR 0.1: the share of pairs of one person that are accepted by a threshold which a tenth of the pairs "
        "of two persons pass.",
        "Ten-fold accuracy: the share of right pairs in a fold, by the threshold that is best on the others; mean.",
    )

    def rows(self, prediction: Any, split: Mapping[str, Any]) -> Rows:
        place, pairs = {name: row for row, name in enumerate(split["id"])}, split["tables"]["pairs"]
        two = list(zip(map(str, pairs["first"]), map(str, pairs["second"]), strict=True))
        there = [i for i, (a, b) in enumerate(two) if a in place and b in place]
        x = np.asarray(prediction, np.float64)
        alike = [x[place[two[i][0]]] @ x[place[two[i][1]]] for i in there]
        columns = np.column_stack([alike, pairs["same"][there], pairs["fold"][there]]).astype(np.float64)
        return Rows([" ".join(two[i]) for i in there], [str(pairs["fold"][i]) for i in there], columns)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        alike, same, fold = statistics[:, 0], statistics[:, 1] > 0, statistics[:, 2]
        accepted = alike[None] >= np.unique(alike)[:, None]  # by each threshold
        with np.errstate(invalid="ignore"):  # NaN without pairs of both kinds
            far, tar = (accepted[:, of] @ weights[:, of].T / weights[:, of].sum(1) for of in (~same, same))
            defined = np.isfinite(far + tar).all(0)
        right, accuracy, folds = accepted == same, np.zeros(len(weights)), np.zeros(len(weights))
        for inside in (fold == each for each in np.unique(fold)):
            best = (right[:, ~inside] @ weights[:, ~inside].T).argmax(0)
            total = weights[:, inside].sum(1)
            hits = (right[best][:, inside] * weights[:, inside]).sum(1)
            accuracy, folds = accuracy + hits / np.maximum(total, 1e-9), folds + (total > 0)
        return {
            "tar_at_far_1e-1": np.where(defined, np.where(far <= FAR, tar, 0).max(0), np.nan),
            "accuracy_ten_fold": np.where(defined, accuracy / np.maximum(folds, 1), np.nan),
            "pairs": weights.sum(1),
        }


class Attributes(Recognition):
    """Which attributes has the face? Predictions are a score for each; nothing here is trained."""

    title = "Attributes"
    needs = ("image", "attributes")
    label, drawn_by, tables = "attributes", "id", ()

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(RankedAttributes, attributes=tuple(meta["attributes"]))

    @staticmethod
    def baselines(train: Batch, validation: Batch, test: Batch, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Scores without an encoder: how frequent each attribute is."""
        return {"frequency": np.broadcast_to(np.nanmean(train["attributes"], axis=0), test["attributes"].shape)}


class RankedAttributes:
    """Area under the ROC curve of each attribute, mean over those that occur; not a function of sums."""

    headline, lower_is_better, columns = "auc_mean", False, ("auc_mean",)
    optional, unit, belongs_to, per_row, error_limit = (), "image", "person", False, None
    names: Mapping[str, str] = {"auc_mean": "AUC, mean"}
    counts: tuple[str, ...] = ()
    explains = ("AUC: how often an image with an attribute scores higher than one without it, mean over attributes.",)

    def __init__(self, attributes: tuple[str, ...]):
        self.attributes = attributes

    def rows(self, prediction: Any, split: Mapping[str, Any]) -> Rows:
        both = np.concatenate([np.asarray(prediction, np.float64), np.asarray(split["attributes"], np.float64)], axis=1)
        return Rows(list(split["id"]), list(split["id"]), both)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        total, counted = np.zeros((2, len(weights)))
        for score, true in zip(*(x.T for x in np.split(statistics, 2, axis=1)), strict=True):
            has, lacks = true > 0.5, true <= 0.5
            wins = (score[has, None] > score[None, lacks]) + 0.5 * (score[has, None] == score[None, lacks])
            pairs = weights[:, has].sum(1) * weights[:, lacks].sum(1)
            total += (weights[:, has] @ wins * weights[:, lacks]).sum(1) / np.maximum(pairs, 1e-9)
            counted += pairs > 0
        return {"auc_mean": np.where(counted > 0, total / np.maximum(counted, 1), np.nan)}


class KNearest:
    """Mean labels of the k training images whose pooled features are most alike; nothing is trained."""

    name, trains_encoder, compares = "k_nearest", False, False
    explains = "k nearest neighbours: the mean label of the most similar labelled faces; nothing is trained."

    def __init__(self, *, k: int = 5):
        self.k = k

    def prepare(self, problem: Problem) -> Learn:
        extract = extractor(problem.encoder, ())
        train, test = (normal(extract(problem.splits[role]["image"])["pooled"]) for role in ("train", "test"))

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            nearest = np.argsort(-(test @ train[chosen].T), axis=1)[:, : self.k]
            return Outcome(problem.splits["train"][problem.task.label][chosen][nearest].mean(1), {})

        return learn


class ZeroShot:
    """Similarity of images and prompts in the common space of a contrastive pre-training; no label is looked at.

    Args:
        run: the pre-training, WORKDIR[@STEP], whose objective offers a text tower.
        names: of the attributes, which become prompts.
        length, buckets: of its tokens.
    """

    name, trains_encoder, compares = "zero_shot", False, False
    explains = "Zero-shot: each attribute is scored by the similarity of image and prompt; no label is looked at."

    def __init__(self, *, run: str, names: tuple[str, ...], length: int = 16, buckets: int = 256):
        self.tower, self.names = offered(run, "text_tower"), names
        self.length, self.buckets = length, buckets

    def prepare(self, problem: Problem) -> Learn:
        prompts = [f"a face with {name.replace('_', ' ')}" for name in self.names]
        text = np.stack([tokens(prompt, self.length, self.buckets)[0] for prompt in prompts])
        pooled = extractor(problem.encoder, ())(problem.splits["test"]["image"])["pooled"]
        images = self.tower.embed_image(jnp.asarray(pooled, jnp.float32))
        scores = np.asarray(images @ self.tower.embed_text(jnp.asarray(text)).T)
        return lambda chosen, held_out, seed: Outcome(scores, {})


def normal(x: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    x = np.asarray(x, np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
