"""SigLIP and SigLIP 2 as state dicts of open_clip, whose visual tower is timm's, below `visual.trunk.`.

Source: open_clip, model.py and timm_model.py (2303.15343, 2502.14786).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import open_clip, timm
from facerep_jax.weights._transformer import Arrays, Tower, below, linear, require, without

PREFIX, OF_TEXT = "visual.trunk.", "text."
TEXT = Tower({**open_clip.TEXT.outside, **linear("head", "text_projection")}, "transformer.resblocks", open_clip.BLOCK)
TEXT_TOWER = dict(causal=False, activation="gelu_tanh", eps=1e-6, pool="last")  # what no array shows
SPACE = {"log_scale": "logit_scale", "bias": "logit_bias"}  # our path -> their name
LEFT_OUT = {r"text\..*": "the text tower", "logit_scale|logit_bias": "the space shared with captions"}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    spec = timm.encoder(trunk(arrays))
    if spec.get("pool") != "attention":
        raise ValueError(f"no array '{PREFIX}attn_pool.latent'")
    return spec


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    return timm.imported(trunk(arrays))


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The visual tower by their names."""
    return {PREFIX + name: x for name, x in timm.exported(arrays, spec).items()}


def imported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by our path, in float32: the text tower, the scale and the bias."""
    return objective(TEXT, below(arrays, OF_TEXT), arrays)


def objective(text: Tower, theirs: Arrays, beside: Arrays) -> dict[str, np.ndarray]:
    """The arrays of a text tower, and of the scale and the bias beside it, by our path."""
    require(SPACE.values() & beside.keys(), SPACE.values())
    space = {path: np.asarray(beside[name], np.float32).reshape(()) for path, name in SPACE.items()}
    return {open_clip.TOWER + path: x for path, x in text.imported(theirs).items()} | space


def trunk(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the visual tower by timm's names. Raises ValueError if there are none, or another is unknown."""
    theirs = without(arrays, *LEFT_OUT)
    found = below(theirs, PREFIX)
    if not found:
        raise ValueError(f"no array '{PREFIX}pos_embed'")
    if unknown := sorted(name for name in theirs if not name.startswith(PREFIX)):
        raise ValueError(f"the array {unknown[0]!r} is unknown")
    return found
