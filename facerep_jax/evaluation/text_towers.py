"""Text towers of contrastive pre-trainings, ours and published: what turns texts and features into one space."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from facerep_jax import weights as published
from facerep_jax.config import spec
from facerep_jax.data.sentence_pieces import END, LENGTH, pieces
from facerep_jax.data.transforms import START, folded, tokens
from facerep_jax.evaluation.results import RANDOM
from facerep_jax.models.text import LAST, VOCABULARY, TextTransformer
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train import handover
from facerep_jax.train.model import filled

OFFERED = "text_tower"  # what a contrastive objective calls itself among what a checkpoint offers
TOWER = "text_encoder/"  # begins paths in the objective
HEAD_WIDTH = 64  # channels of a head of published text towers, which no array shows
HEADS = {1152: 16}  # width -> heads, where they are not as wide: So400m's
TEXTS = 64  # at a time


def text_tower(name: str) -> Any:
    """The contrastive objective of WORKDIR[@STEP], or of FILE[@LAYOUT] of published weights.

    Raises:
        ValueError: it has no text tower.
    """
    if name == RANDOM:
        raise ValueError("zero-shot tasks need texts: an encoder before any training has no text tower")
    if (found := handover.file_of(name)) is not None:
        return of_file(*found)
    try:
        return handover.offered(name, OFFERED)
    except ValueError as error:
        raise ValueError(f"zero-shot tasks need a text tower: {error}") from None


def of_file(path: Path, layout: str) -> Contrastive:
    """The contrastive objective of a file of published weights."""
    theirs = published.read(path)
    module = published.load(layout) if layout else published.recognised(theirs)
    name = module.__name__.rpartition(".")[2]
    try:
        if not hasattr(module, "imported_objective"):
            raise ValueError("nothing else is read of this layout")
        arrays = module.imported_objective(theirs)
    except ValueError as error:
        raise ValueError(f"{path}: no text tower is found by the layout {name}: {error}") from None
    text = {path.removeprefix(TOWER): x for path, x in arrays.items() if path.startswith(TOWER)}
    (vocabulary, width), (depth, _, hidden) = text["token_embedding"].shape, text["blocks/up/kernel"].shape
    tower = spec(
        TextTransformer,
        vocabulary=vocabulary,
        context=len(text["positions"]),
        width=width,
        depth=depth,
        heads=HEADS.get(width, max(1, width // HEAD_WIDTH)),
        hidden=hidden,
        head=text["head/kernel"].shape[1] if "head/kernel" in text else None,
        **getattr(module, "TEXT_TOWER", {}),
    )
    encoder = handover.empty_encoder(module.encoder(theirs), "float32", "none")
    embedding = arrays["image_projection"].shape[1] if "image_projection" in arrays else None
    said = dict(text_encoder=tower, embedding=embedding, sigmoid="bias" in arrays)
    empty = nnx.eval_shape(lambda: Contrastive(encoder, **said, rngs=nnx.Rngs(params=0)))
    return filled(empty, arrays, "it")


def tokens_of(tower: Any, texts: Sequence[str], tokenizer: str = "") -> Int[np.ndarray, "n l"]:
    """Texts as a tower reads them; `tokenizer` is the file of SentencePiece, if it is one of SigLIP's."""
    if tokenizer:
        return as_read(tower, np.stack([pieces(text, tokenizer) for text in texts]))
    return as_read(tower, np.stack([tokens(text)[0] for text in texts]))


def as_read(tower: Any, texts: Int[np.ndarray, "n l"]) -> Int[np.ndarray, "n k"]:
    """Tokens as a tower reads them.

    CLIP's are no longer than its context, which cuts them, and of its own vocabulary. SigLIP's are cut too.

    Raises:
        ValueError: they are of another tokenizer than the tower's.
    """
    length, vocabulary = tower.text_encoder.context, tower.text_encoder.token_embedding.shape[0]
    short = texts[:, :length].copy()
    of_siglip = texts.shape[1] == LENGTH
    if tower.text_encoder.pool == LAST:
        if not of_siglip or texts.max() >= vocabulary:
            raise ValueError(f"the text tower reads SentencePiece's tokens, {vocabulary} of them: give tokenizer=FILE")
        short[~(short == END).any(1), -1] = END
        return short
    if of_siglip:
        raise ValueError("the text tower reads CLIP's tokens: leave out tokenizer=FILE")
    short[texts[:, length:].any(1), -1] = START + 1
    return folded(short, 0 if vocabulary == VOCABULARY else vocabulary)


def embedded(tower: Any, texts: Int[np.ndarray, "n l"]) -> Float[np.ndarray, "n e"]:
    """Embeddings of texts, of length one."""
    graph, state = nnx.split(tower)

    @jax.jit
    def embed(state: Any, text: Int[Array, "b l"]) -> Float[Array, "b e"]:
        return nnx.merge(graph, state).embed_text(text)

    found = []
    for start in range(0, len(texts), TEXTS):
        rows = np.minimum(np.arange(start, start + TEXTS), len(texts) - 1)  # one shape, one program
        found.append(np.asarray(embed(state, jnp.asarray(texts[rows]))))
    return np.concatenate(found)[: len(texts)]


def embedded_images(tower: Any, pooled: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n e"]:
    """Embeddings of the features of images, of length one."""
    return np.asarray(tower.embed_image(jnp.asarray(pooled, jnp.float32)))
