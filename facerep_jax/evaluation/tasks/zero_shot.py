"""Zero-shot tasks: attributes by prompts, and retrieval between images and captions."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.data.records import Example
from facerep_jax.data.sentence_pieces import pieces
from facerep_jax.data.transforms import Lacking, captions_of, require, tokens
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.caption_metrics import CaptionRetrieval
from facerep_jax.evaluation.compared import Compared
from facerep_jax.evaluation.label_metrics import MultiLabel
from facerep_jax.evaluation.one_vector import mean_known, names_in
from facerep_jax.evaluation.text_towers import as_read, embedded, tokens_of
from facerep_jax.typing import Encoder

YES = (
    "a photo of a face, {}.",
    "a photo of a person with {}.",
    "a close-up photo of a person, {}.",
    "the person in this picture has {}.",
)
NO = (
    "a photo of a face.",
    "a photo of a person without {}.",
    "a close-up photo of a person.",
    "the person in this picture does not have {}.",
)
MOST = 5  # captions of an image, at most


class ZeroShotAttributes(Compared):
    """A score for each attribute, above 0 for yes: how much nearer an image is to prompts with it than without it.

    Each side is an ensemble: embeddings of its prompts are averaged and scaled to length one. The score is the
    difference of the two cosines. Where a score is 0 depends on the words, so the headline is the AUC, which does not.

    Source: prompt ensembles, CLIP (2103.00020), section 3.1.4; the words are ours.

    Args:
        yes, no: prompts, in which {} is an attribute's words: its name with spaces for underscores, in small letters.
        words: attribute -> other words for it; or two tuples of whole prompts, with it and without it.
        tokenizer: file of SentencePiece, for text towers of SigLIP.
    """

    needs = ("image", "attributes")
    title = "Zero-shot attributes"
    drawn = "yes or no of each attribute, truth green, prediction red"
    label = "attributes"

    def __init__(
        self,
        encoder: Encoder,
        *,
        yes: tuple[str, ...] = YES,
        no: tuple[str, ...] = NO,
        words: Mapping[str, Any] | None = None,
        tokenizer: str = "",
        image_size: int,
        meta: Mapping[str, Any],
        rngs: nnx.Rngs,
    ):
        if not yes or not no:
            raise ValueError("each attribute needs prompts with it and prompts without it")
        names, given = names_in(meta, "attributes"), dict(words or {})
        if unknown := [name for name in given if name not in names]:
            raise ValueError(
                f"words are given for {unknown[0]!r}, which the data set has not; it has {', '.join(names)}"
            )
        self.tokenizer = tokenizer
        self.yes, self.no = (
            tuple(prompts_of(name, given, each, side) for name in names) for side, each in enumerate((yes, no))
        )

    def compare(
        self, images: Float[np.ndarray, "n e"], tower: Any, test: Mapping[str, Any]
    ) -> Float[np.ndarray, "n k"]:
        """The scores of embedded images."""
        yes, no = (np.stack([ensemble(tower, each, self.tokenizer) for each in side]) for side in (self.yes, self.no))
        return images @ (yes - no).T

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(MultiLabel, labels=names_in(meta, "attributes"), key="attributes", headline="auc_mean")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """One answer for all images, what most of the test images have: its accuracy is one to beat."""
        frequent = mean_known(np.where(test["attributes"] >= 0, test["attributes"] > 0.5, np.nan)) - 0.5
        return {"most_frequent": np.broadcast_to(frequent, test["attributes"].shape)}

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, and below it a pair of bars for each attribute: high for yes, low for no."""
        true = np.where(label >= 0, (label > 0.5) * 1.0, np.nan)
        return drawing.with_bars(image, true, (prediction > 0) * 1.0, (0.0, 1.0), scale)


def prompts_of(name: str, words: Mapping[str, Any], templates: Sequence[str], side: int) -> tuple[str, ...]:
    """The prompts of an attribute, of side 0 with it and of 1 without it."""
    said = words.get(name, name.replace("_", " ").lower())
    if not isinstance(said, str):
        return tuple(said[side])
    return tuple(template.format(said) for template in templates)


def ensemble(tower: Any, prompts: Sequence[str], tokenizer: str = "") -> Float[np.ndarray, "e"]:
    """The mean of the embeddings of prompts, of length one."""
    mean = embedded(tower, tokens_of(tower, prompts, tokenizer)).mean(0)
    return mean / max(np.linalg.norm(mean), 1e-12)


class Captions(Compared):
    """Retrieval of the captions of an image among those of all test images, and of images by captions.

    `AllCaptions`, a transform of the data, gives `texts`, the captions of a record in the text tower's tokens.
    """

    needs = ("image", "texts")
    title = "Caption retrieval"
    label = "texts"

    def compare(
        self, images: Float[np.ndarray, "n e"], tower: Any, test: Mapping[str, Any]
    ) -> Float[np.ndarray, "n m e"]:
        """Embeddings of each image and of its captions, side by side; NaN for captions that are not there."""
        texts = np.asarray(test["texts"])
        there = texts.any(2)
        found = np.full((len(images), 1 + texts.shape[1], images.shape[1]), np.nan, np.float32)
        found[:, 0] = images
        found[:, 1:][there] = embedded(tower, as_read(tower, texts[there]))
        return found

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for any data set."""
        return spec(CaptionRetrieval)

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Chance: directions that are drawn at random."""
        texts = np.asarray(test["texts"])
        found = np.random.default_rng(0).normal(size=(len(texts), 1 + texts.shape[1], 64)).astype(np.float32)
        _, same = np.unique(texts.reshape(-1, texts.shape[2]), axis=0, return_inverse=True)
        found[:, 1:] = np.random.default_rng(1).normal(size=(same.max() + 1, 64))[same.reshape(texts.shape[:2])]
        found[:, 1:][~texts.any(2)] = np.nan
        return {"chance": found}

    @staticmethod
    def draw(image: np.ndarray, label: Any, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged."""
        return drawing.enlarged(image, scale)


class AllCaptions:
    """A transform: `texts`, up to `MOST` captions of a record in CLIP's tokens, zeros for those that are not there.

    Args:
        tokenizer: file of SentencePiece, whose tokens SigLIP's text towers read.
    """

    reads = ("caption",)

    def __init__(self, *, tokenizer: str = ""):
        self.tokenizer = tokenizer

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        require(example, "caption", "caption retrieval")
        captions = [caption for caption in captions_of(example["caption"]) if caption.strip()]
        if not captions:
            raise Lacking(example, "has no caption")
        read = partial(pieces, file=self.tokenizer) if self.tokenizer else lambda caption: tokens(caption)[0]
        found = [read(caption) for caption in captions[:MOST]]
        blank = [np.zeros_like(found[0])] * (MOST - len(found))
        return {**example, "texts": np.stack([*found, *blank])}
