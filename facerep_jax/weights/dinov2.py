"""DINOv2 as facebookresearch publishes it: timm's names with `register_tokens` and positions that are learned.

Not read: DINOv2's ViT-g, whose MLPs have a gate.

Source: facebookresearch/dinov2, models/vision_transformer.py (2304.07193; registers: 2309.16588).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import timm
from facerep_jax.weights._transformer import Arrays, Tower, norm, square, vit, without

LEFT_OUT = {"mask_token": "the token of masked patches"}
REGISTERS = "register_tokens"


def tower(registers: bool) -> Tower:
    """Where a file keeps its arrays, with or without registers."""
    outside = {
        "class_token": "cls_token",
        "positions": "pos_embed",
        "embed/kernel": "patch_embed.proj.weight",
        "embed/bias": "patch_embed.proj.bias",
        **norm("norm_out", "norm"),
        **({"registers": REGISTERS} if registers else {}),
    }
    return Tower(outside, "blocks", timm.BLOCK | timm.SCALES, ones=timm.ONES)


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    theirs = without(arrays, *LEFT_OUT)
    if "blocks.0.mlp.w12.weight" in theirs:
        raise ValueError("its MLPs have a gate, which our blocks have not")
    depth = tower(REGISTERS in theirs).depth(theirs)
    side, _ = square(theirs["pos_embed"][0], 1)
    said = {"registers": theirs[REGISTERS].shape[1]} if REGISTERS in theirs else {}
    kernel = theirs["patch_embed.proj.weight"]
    return vit("mae", kernel, depth=depth, side=side, positions="learned", layer_scale=1e-5, **said)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    theirs = without(arrays, *LEFT_OUT)
    return tower(REGISTERS in theirs).imported(theirs)


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Their arrays by name, without a token of masked patches."""
    return tower("registers" in arrays).exported(arrays)
