"""Our models against frozen outputs of open_clip and timm, where neither is installed; see `freeze.py`.

Planted and seen red: MAE's eps 1e-5; GELU by tanh; GELU in place of quick GELU; the halves of sin-cos positions
swapped; sin-cos positions computed anew for another grid; a = -0.5 in the bicubic kernel; CLIP's mean in MAE's flavour;
no causal mask; the last token in place of the end of text; heads interleaved in the width.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from published import FROZEN, MODELS, assert_close, make, ours, text

from facerep_jax.train.state import abstract, count


@pytest.fixture(scope="module")
def frozen():
    with np.load(FROZEN) as stored:
        return dict(stored)


def of(frozen, flavour, name, size):
    """The frozen outputs of one model for images of one size."""
    prefix = f"{flavour} {name} {size} "
    return {key.removeprefix(prefix): value for key, value in frozen.items() if key.startswith(prefix)}


def test_outputs_equal_those_of_published_code(frozen, case):
    flavour, name, model = case
    for size in MODELS[name][3]:
        assert_close(ours(model, name, size), of(frozen, flavour, name, size))


def test_padding_of_captions_may_be_cut(frozen, small):
    """The published text tower always reads 77 tokens."""
    tokens = text()
    short = (tokens != 0).sum(1) <= 32
    assert 0 < short.sum() < len(tokens)
    texts = small["clip"].objective.embed_text(jnp.asarray(tokens[short, :32]))
    assert_close({"texts": np.asarray(texts)}, {"texts": of(frozen, "clip", "small", 32)["texts"][short]})


def test_clip_has_as_many_parameters_as_published():
    """FaRL's, with the branch of masked tokens: tests/objectives/test_combined.py."""
    assert count(abstract(partial(make, "clip", "B/16"))[1]) == 149_620_737


def test_frozen_outputs_are_small_and_say_what_gave_them(frozen):
    assert FROZEN.stat().st_size < 5e6
    assert [line.split()[0] for line in frozen["versions"]] == ["torch", "open_clip", "timm"]
