"""A vision transformer as a state dict of timm's VisionTransformer in MAE's flavour, which MAE's own files have too.

MAE's positions are fixed, so that they are no arrays of ours: those of a file are compared and left out, and a file
that is written has none.

Source: timm vision_transformer.py; facebookresearch/mae, models_mae.py and util/pos_embed.py (2111.06377).
"""

import re
from typing import Any

import numpy as np
from jaxtyping import Float

from facerep_jax.weights._transformer import Arrays, Tower, vit

ENCODER = Tower(
    {
        "class_token": "cls_token",
        "embed/kernel": "patch_embed.proj.weight",
        "embed/bias": "patch_embed.proj.bias",
        "norm_out/scale": "norm.weight",
        "norm_out/bias": "norm.bias",
    },
    "blocks",
    {
        "qkv": "attn.qkv.",
        "out": "attn.proj.",
        "up": "mlp.fc1.",
        "down": "mlp.fc2.",
        "attention_norm": "norm1.",
        "mlp_norm": "norm2.",
    },
)
POSITIONS = "pos_embed"
OF_OTHERS = r"head\..*|mask_token|decoder_.*"  # a classifier's, and what MAE reconstructs images with
IMAGE_SIZE = 224  # pixels of a side that MAE is trained on, if a file holds no positions


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout or the positions are not MAE's."""
    theirs = own(arrays)
    depth = ENCODER.depth(theirs)
    width, _, patch, _ = theirs["patch_embed.proj.weight"].shape
    size = IMAGE_SIZE
    if (found := arrays.get(POSITIONS)) is not None:
        side = round((found.shape[1] - 1) ** 0.5)
        fixed = sincos(side, width)
        if found.shape != (1, *fixed.shape) or np.abs(found[0] - fixed).max() > 1e-3:
            raise ValueError(f"{POSITIONS} of shape {found.shape} are not MAE's fixed ones of {side} x {side} patches")
        size = side * patch
    return vit("mae", patch=patch, width=width, depth=depth, image_size=size)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32; without positions, a classifier and MAE's decoder."""
    found = ENCODER.imported(own(arrays))
    return found | {"class_token": found["class_token"].reshape(-1)}


def exported(arrays: Arrays) -> dict[str, np.ndarray]:
    """Their arrays by name, without positions."""
    found = ENCODER.exported(arrays)
    return found | {"cls_token": found["cls_token"].reshape(1, 1, -1)}


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the encoder alone, and those that are unknown."""
    return {name: x for name, x in arrays.items() if not re.fullmatch(f"{OF_OTHERS}|{POSITIONS}", name)}


def sincos(side: int, width: int) -> Float[np.ndarray, "{1+side*side} d"]:
    """MAE's positions: zeros for the class token, then for each patch sines and cosines of its column, then its row."""
    frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    row, column = np.divmod(np.arange(side * side), side)
    angles = [axis[:, None] * frequency for axis in (column, row)]
    patches = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return np.concatenate([np.zeros((1, width)), patches])
