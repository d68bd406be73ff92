"""SigLIP's tokens: of a stand-in for SentencePiece, and of its own files by transformers' tokenizers."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from facerep_jax.data import sentence_pieces
from facerep_jax.data.sentence_pieces import of_file, pieces

CAPTIONS = ("A man, with a  hat!", "a WOMAN's photo (smiling)", "", "a man with a beard and " * 9, "ein Gesicht: ß")


def letters(bos):
    """A stand-in, whose tokens are letters."""
    return SimpleNamespace(encode=lambda text: [ord(letter) for letter in text], bos_id=lambda: bos)


@pytest.mark.parametrize(
    ("bos", "text", "padding"), [(-1, "a man with a hat", 1), (2, "a man, with a  hat!", 0)], ids=["t5", "gemma"]
)
def test_captions_are_cleaned_ended_and_padded(bos, text, padding, monkeypatch):
    monkeypatch.setattr(sentence_pieces, "of_file", lambda file: letters(bos))
    found = pieces(CAPTIONS[0], "some", 24)
    expected = [*map(ord, text), 1]
    assert (found.dtype, found.tolist()) == (np.int32, expected + [padding] * (24 - len(expected)))
    assert pieces(CAPTIONS[0], "some", 5).tolist() == [*map(ord, "a ma"), 1]
    assert pieces("", "some").tolist() == [1] + [padding] * 63


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer none\.model; SigLIP's are files of SentencePiece"):
        of_file("none.model")
    (tmp_path / "some.model").write_bytes(b"none")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"some\.model needs a package: pip install 'facerep_jax\[siglip\]'"):
        of_file(str(tmp_path / "some.model"))


@pytest.mark.parametrize("kind", ["t5", "gemma"])
def test_tokens_are_those_of_transformers(kind, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    words = [f"a {who} with {what} and {more}" for who in ("man", "woman", "child") for what in ("a hat", "a beard")
             for more in ("glasses", "a smile", "the sun", "a scarf", "no hair", "long hair")]  # fmt: skip
    ids = (
        dict(pad_id=0, eos_id=1, bos_id=-1, unk_id=2) if kind == "t5" else dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3)
    )
    more = dict(model_type="unigram") if kind == "t5" else dict(
        model_type="bpe", add_dummy_prefix=False, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False)  # fmt: skip
    file = tmp_path / "some.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_prefix=str(tmp_path / "some"), vocab_size=60 if kind == "t5" else 320,
        hard_vocab_limit=False, minloglevel=2, **ids, **more)  # fmt: skip
    found = np.stack([pieces(caption, str(file), 64) for caption in CAPTIONS])
    assert found.max() > 20
    (tmp_path / "none.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"none\.model is no file of SentencePiece"):
        of_file(str(tmp_path / "none.model"))
    transformers = pytest.importorskip("transformers", reason="transformers is not installed; see the extra `parity`")
    if kind == "t5":
        theirs = transformers.SiglipTokenizer(str(file))
    else:
        theirs = siglip2_of(transformers, sentencepiece.SentencePieceProcessor(model_file=str(file)))
    given = theirs(list(CAPTIONS), padding="max_length", max_length=64, truncation=True)["input_ids"]
    np.testing.assert_array_equal(found, given)


def siglip2_of(transformers, processor):
    """transformers' tokenizer of SigLIP 2, with the vocabulary and merges of a file of SentencePiece."""
    from tokenizers.processors import TemplateProcessing

    vocabulary = {processor.id_to_piece(index): index for index in range(processor.get_piece_size())}
    merges = [(whole[:at], whole[at:], index) for whole, index in vocabulary.items() for at in range(1, len(whole))
              if whole[:at] in vocabulary and whole[at:] in vocabulary]  # fmt: skip
    made = transformers.Siglip2Tokenizer(
        vocab=vocabulary, merges=[each[:2] for each in sorted(merges, key=lambda each: each[2])],
        eos_token="</s>", bos_token="<s>", padding_side="right")  # fmt: skip
    made.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made
