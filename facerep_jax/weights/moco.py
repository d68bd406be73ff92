"""MoCo v3's vision transformers: timm's names below `base_encoder.`, with fixed positions of which the row comes first.

These positions are MAE's with the halves swapped. The files are `{"state_dict": {...}}`, with names that begin with
`module.`, which is left out before.

Source: facebookresearch/moco-v3, vits.py and moco/builder.py (2104.02057).
"""

from typing import Any

import numpy as np

from facerep_jax.weights import timm
from facerep_jax.weights._transformer import Arrays, below, without

PREFIX = "base_encoder."
LEFT_OUT = {
    r"base_encoder\.head\..*|predictor\..*": "MoCo's projection and prediction",
    r"momentum_encoder\..*": "the momentum encoder, an average of the other",
}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    spec = timm.encoder(chosen(arrays))
    if spec.get("positions") != "sincos_rows":
        raise ValueError("pos_embed are not MoCo v3's fixed ones")
    return spec


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32; without fixed positions."""
    return timm.imported(chosen(arrays))


def chosen(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the encoder by timm's names. Raises ValueError if there are none, or another is unknown."""
    theirs = without(arrays, *LEFT_OUT)
    found = below(theirs, PREFIX)
    if timm.POSITIONS not in found:
        raise ValueError(f"no array '{PREFIX}{timm.POSITIONS}'")
    if unknown := sorted(name for name in theirs if not name.startswith(PREFIX)):
        raise ValueError(f"the array {unknown[0]!r} is unknown")
    return found
