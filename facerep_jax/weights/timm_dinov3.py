"""DINOv3's vision transformers as timm saves them: its Eva, with or without biases of queries and values.

Rotary positions are in no array. Not read: sizes whose MLPs have a gate (H+ and 7B).

Source: timm, models/eva.py (2508.10104).
"""

import re
from typing import Any

import numpy as np

from facerep_jax.weights import dinov3
from facerep_jax.weights._transformer import Arrays, without

LEFT_OUT = {r"(head|fc_norm)\..*": "the classifier"}
MARK = r"blocks\.0\.gamma_1"
NAMES = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}  # theirs -> DINOv3's
BIASES = re.compile(r"blocks\.\d+\.attn\.[qv]_bias")


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    return dinov3.encoder(own(arrays))


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    return dinov3.imported(own(arrays))


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays by DINOv3's own names, which has one bias for query, key and value."""
    theirs = without(arrays, *LEFT_OUT)
    if "reg_token" not in theirs:
        raise ValueError("no array 'reg_token'")
    found = {}
    for name, x in theirs.items():
        before, dot, last = name.rpartition(".")
        if not BIASES.fullmatch(name):
            found[before + dot + NAMES.get(last, last)] = x
        if name.endswith("attn.qkv.weight"):
            block, none = name.removesuffix("qkv.weight"), np.zeros(x.shape[1], x.dtype)
            parts = (theirs.get(f"{block}q_bias", none), none, theirs.get(f"{block}v_bias", none))
            found[f"{block}qkv.bias"] = np.concatenate(parts)
    return found
