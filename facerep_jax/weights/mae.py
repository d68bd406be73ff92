"""MAE's weights: timm's names with MAE's fixed positions, and the decoder that reconstructs images.

Its files are `{"model": {...}}`; FSFM's and FMAE's have their names. A file without a decoder is recognised as timm's,
and means the same encoder.

Source: facebookresearch/mae, models_mae.py (2111.06377).
"""

from typing import Any

import numpy as np

from facerep_jax.weights import timm
from facerep_jax.weights._transformer import Arrays, without

LEFT_OUT = {r"mask_token|decoder_.*": "MAE's decoder", **timm.LEFT_OUT}
MARK = "mask_token|decoder_.*"


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout or the positions are not MAE's."""
    theirs = without(arrays, *LEFT_OUT)
    spec = timm.encoder(theirs)
    if timm.POSITIONS not in theirs:
        raise ValueError(f"no array {timm.POSITIONS!r}")
    if spec["flavour"] != "mae" or "positions" in spec:
        raise ValueError(f"{timm.POSITIONS} of shape {theirs[timm.POSITIONS].shape} are not MAE's fixed ones")
    if odd := [name for name in ("registers", "layer_scale", "class_token") if name in spec]:
        raise ValueError(f"MAE's encoders have no setting {odd[0]}")
    return spec


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32; without positions and MAE's decoder."""
    return timm.imported(without(arrays, *LEFT_OUT))
