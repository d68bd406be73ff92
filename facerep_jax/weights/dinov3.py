"""DINOv3's vision transformers as facebookresearch publishes them: registers, rotary positions and biases with masks.

A mask is 0 for the biases of keys, which count as 0. Rotary positions are no arrays of ours: the frequencies of a file
are compared and left out; their number tells the heads. Not read: sizes whose MLPs have a gate (H+ and 7B).

Source: facebookresearch/dinov3, models/vision_transformer.py and layers/ (2508.10104).
"""

from typing import Any

import numpy as np

from facerep_jax.weights import timm
from facerep_jax.weights._transformer import Arrays, Tower, norm, vit, without

PERIODS = "rope_embed.periods"
LEFT_OUT = {
    "mask_token": "the token of masked patches",
    r"rope_embed\.periods": "the periods of rotary positions, which are ours",
    r"blocks\.\d+\.attn\.qkv\.bias_mask": "masks of biases, which are applied",
    r"local_cls_norm\..*": "a norm of training",
}
TOWER = Tower(
    {
        "class_token": "cls_token",
        "registers": "storage_tokens",
        "embed/kernel": "patch_embed.proj.weight",
        "embed/bias": "patch_embed.proj.bias",
        **norm("norm_out", "norm"),
    },
    "blocks",
    timm.BLOCK | timm.SCALES,
    ones=timm.ONES,
)


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    theirs = without(arrays, *LEFT_OUT)
    if "blocks.0.mlp.w1.weight" in theirs:
        raise ValueError("its MLPs have a gate, which our blocks have not")
    depth = TOWER.depth(theirs)
    kernel, heads = theirs["patch_embed.proj.weight"], None
    if PERIODS in arrays:
        periods = np.asarray(arrays[PERIODS], np.float64)
        ours = 100.0 ** (np.arange(len(periods)) / len(periods))
        if np.abs(periods / ours - 1).max() > 1e-2:  # they may be bfloat16
            raise ValueError(f"{PERIODS} are not those of a base of 100")
        heads = len(kernel) // (4 * len(periods))
    registers = theirs["storage_tokens"].shape[1]
    said = dict(positions="rope", eps=1e-5, registers=registers, layer_scale=1e-5, heads=heads)
    return vit("mae", kernel, depth=depth, **said)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    found = TOWER.imported(without(arrays, *LEFT_OUT))
    # A masked bias may be anything, even no number.
    return found | {"blocks/key/bias": np.zeros_like(found["blocks/key/bias"])}
