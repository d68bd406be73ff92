"""MCF's weights: MAE's encoder below `target_encoder.`, which follows `online_encoder.`, with what trains them.

The target is taken, and the online encoder if there is no other. MCF's files were not at hand: the names are those of
its code, and of another project's loader, which takes the target. A file with the bare names of an encoder is of the
layout `mae`.

Source: MCF (2309.03575), its published code; FSFM, cross_domain_FAS/fas.py.
"""

from typing import Any

import numpy as np

from facerep_jax.weights import mae
from facerep_jax.weights._transformer import Arrays, below, without

ENCODERS = ("target_encoder.", "online_encoder.")
LEFT_OUT = {
    r"(target|online)_encoder\.fc\..*|predictor\..*": "MCF's projection and prediction",
    r"mask_token|decoder_.*": "MCF's decoder",
    r"perceptual_loss\..*": "the frozen network whose features MCF predicts",
    r"online_encoder\..*": "the online encoder, of which the target is an average",
}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    return mae.encoder(chosen(arrays))


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    return mae.imported(chosen(arrays))


def chosen(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of one encoder by MAE's names. Raises ValueError if there is none, or another array is unknown."""
    *others, online = LEFT_OUT
    theirs = without(arrays, *others)
    prefix = next((each for each in ENCODERS if any(name.startswith(each) for name in theirs)), "")
    if not prefix:
        raise ValueError("no array 'target_encoder.cls_token'")
    if prefix == ENCODERS[0]:
        theirs = without(theirs, online)
    if unknown := sorted(name for name in theirs if not name.startswith(prefix)):
        raise ValueError(f"the array {unknown[0]!r} is unknown")
    return below(theirs, prefix)
