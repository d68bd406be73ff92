"""Our models against frozen outputs of open_clip and timm, where neither is installed; see `freeze.py`.

Planted and seen red: MAE's eps 1e-5; GELU by tanh; GELU in place of quick GELU; the halves of sin-cos positions
swapped; sin-cos positions computed anew for another grid; a = -0.5 in the bicubic kernel; CLIP's mean in MAE's flavour;
no causal mask; the last token in place of the end of text; heads interleaved in the width.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from published import FROZEN, MODELS, assert_close, frozen, make, ours, text, torch_names

from facerep_jax.train.handover import digest_of
from facerep_jax.train.state import abstract, count


def test_outputs_equal_those_of_published_code(case):
    flavour, name, model = case
    for size in MODELS[name][3]:
        assert_close(ours(model, name, size), frozen(flavour, name, size))


def test_padding_of_captions_may_be_cut(small):
    """The published text tower always reads 77 tokens."""
    tokens = text()
    short = (tokens != 0).sum(1) <= 32
    assert 0 < short.sum() < len(tokens)
    texts = small["clip"].objective.embed_text(jnp.asarray(tokens[short, :32]))
    assert_close({"texts": np.asarray(texts)}, {"texts": frozen("clip", "small", 32)["texts"][short]})


def test_clip_has_as_many_parameters_as_published():
    """FaRL's, with the branch of masked tokens: tests/objectives/test_combined.py."""
    assert count(abstract(partial(make, "clip", "B/16"))[1]) == 149_620_737


@pytest.mark.parametrize(
    ("flavour", "digest"),
    [
        ("clip", "f0cc1e3e3b2cf123204f5a44620a722f8d00ca0f861c3e1fdfc194680729d721"),
        ("mae", "aca90a4b0693f4732cbd889e945b9e54eff964804b8882909ee38c041a05747d"),
    ],
)
def test_frozen_outputs_are_of_the_arrays_that_are_exported(small, flavour, digest):
    """The libraries read these arrays when the outputs were frozen; see `handover.digest_of`."""
    assert digest_of(torch_names(small[flavour])) == digest


def test_frozen_outputs_are_small_and_say_what_gave_them():
    assert FROZEN.stat().st_size < 5e6
    with np.load(FROZEN) as stored:
        versions = [line.split()[0] for line in stored["versions"]]
    assert versions == ["torch", "open_clip", "timm"]
