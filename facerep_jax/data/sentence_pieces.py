"""Captions in the tokens of a file of SentencePiece, which SigLIP's text towers read."""

import re
import string
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int32

from facerep_jax.files import local_path

LENGTH, END = 64, 1  # tokens of a caption, and the one that ends it
INSTALL = "pip install 'facerep_jax[siglip]'"
PUNCTUATION = str.maketrans("", "", string.punctuation)


def pieces(caption: str, file: str, length: int = LENGTH) -> Int32[np.ndarray, " length"]:
    """A caption in the tokens of a file, cut to leave room for the end, and padded.

    SigLIP 2 (2502.14786) has Gemma's file, whose tokens include a start: small letters, padding of 0. SigLIP
    (2303.15343) has files of T5: small letters, no punctuation, spaces collapsed, the end as padding.
    Source: transformers, tokenization_siglip.py and tokenization_siglip2.py.

    Raises:
        ValueError: the file is none of SentencePiece, or the package that reads it is missing.
        FileNotFoundError: there is no such file.
    """
    processor = of_file(file)
    gemma = processor.bos_id() >= 0
    text = caption.lower()
    if not gemma:
        text = re.sub(r"\s+", " ", text.translate(PUNCTUATION)).strip()
    ids = [*processor.encode(text)[: length - 1], END]
    return np.array(ids + [0 if gemma else END] * (length - len(ids)), np.int32)


@lru_cache(maxsize=4)
def of_file(file: str) -> Any:
    """What a file of SentencePiece says of words, once per process."""
    path = local_path("tokenizer", file)
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer {file}; SigLIP's are files of SentencePiece, beside its weights")
    try:
        import sentencepiece
    except ImportError:
        raise ValueError(f"the tokenizer {file} needs a package: {INSTALL}") from None
    try:
        found = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"the tokenizer {file} is no file of SentencePiece: {error}") from None
    if found.eos_id() != END:
        raise ValueError(f"the tokenizer {file} ends texts by token {found.eos_id()}, SigLIP's by {END}")
    return found
