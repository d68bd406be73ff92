"""An archive of TorchScript as OpenAI publishes CLIP, against what open_clip makes of it.

torch_files/write_clip.py wrote both. Planted and seen red: GELU for quick GELU.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import weights
from facerep_jax.config import spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train import handover
from facerep_jax.train.model import filled
from facerep_jax.typing import View

FILES = Path(__file__).parents[1] / "torch_files"
SIZE, SPACE, CONTEXT = 32, 24, 77


def inputs():
    """Those of write_clip.py."""
    words = np.zeros((2, CONTEXT), np.int32)
    words[0, :3], words[1, :5] = (38, 5, 39), (38, 7, 8, 9, 39)
    return np.random.RandomState(0).randint(0, 256, (2, SIZE, SIZE, 3), np.uint8), words


def test_both_towers_give_what_open_clip_makes_of_them(capsys):
    encoder = handover.encoder(str(FILES / "clip.pt")).encoder
    said = capsys.readouterr().err
    assert "clip.pt: layout clip; 19 arrays read" in said
    assert "float16 made float32" in said
    assert "3 left out: numbers in OpenAI's files" in said

    arrays = weights.read(FILES / "clip.pt")
    tower = spec(TextTransformer, width=64, depth=1, heads=1, vocabulary=40)
    make = partial(Contrastive, encoder, text_encoder=tower, embedding=SPACE)
    empty = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(params=0)))
    objective = filled(empty, weights.load("clip").imported_objective(arrays), "it")
    images, words = inputs()

    @jax.jit
    def embedded(encoder, objective):
        pooled = encoder(View(jnp.asarray(images))).pooled
        return objective.embed_image(pooled), objective.embed_text(jnp.asarray(words))

    with np.load(FILES / "clip.npz") as theirs:
        for name, ours in zip(("images", "texts"), embedded(encoder, objective), strict=True):
            expected = theirs[name] / np.linalg.norm(theirs[name], axis=-1, keepdims=True)
            np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_the_masks_of_an_archive_are_in_no_state_dict():
    arrays = weights.read(FILES / "clip.pt")
    assert arrays["transformer.resblocks.0.attn_mask"].shape == (4, 4)
    assert weights.recognised(arrays) is weights.load("clip")
    with pytest.raises(ValueError, match="no array 'vocab_size', which OpenAI's files have"):
        weights.load("clip").encoder({name: x for name, x in arrays.items() if name != "vocab_size"})
