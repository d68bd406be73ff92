"""DINOv3's vision transformers as Hugging Face's transformers saves them; keys have no bias.

Not read: sizes whose MLPs have a gate (H+ and 7B).

Source: transformers, models/dinov3_vit/modeling_dinov3_vit.py, in the names that its files have.
"""

from typing import Any

import numpy as np

from facerep_jax.weights import timm
from facerep_jax.weights._transformer import Arrays, Tower, linear, norm, vit, without

BLOCK = {
    "query": "attention.q_proj.",
    "key": "attention.k_proj.",
    "value": "attention.v_proj.",
    "out": "attention.o_proj.",
    "up": "mlp.up_proj.",
    "down": "mlp.down_proj.",
    "attention_norm": "norm1.",
    "mlp_norm": "norm2.",
    "attention_scale": "layer_scale1.lambda1",
    "mlp_scale": "layer_scale2.lambda1",
}
TOWER = Tower(
    {
        "class_token": "embeddings.cls_token",
        "registers": "embeddings.register_tokens",
        **linear("embed", "embeddings.patch_embeddings"),
        **norm("norm_out", "norm"),
    },
    "layer",
    BLOCK,
    ones=timm.ONES,
)
LEFT_OUT = {r"embeddings\.mask_token": "the token of masked patches"}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    theirs = completed(arrays)
    if "layer.0.mlp.gate_proj.weight" in theirs:
        raise ValueError("its MLPs have a gate, which our blocks have not")
    depth = TOWER.depth(theirs)
    said = dict(positions="rope", eps=1e-5, registers=theirs["embeddings.register_tokens"].shape[1], layer_scale=1e-5)
    return vit("mae", theirs["embeddings.patch_embeddings.weight"], depth=depth, **said)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32; the biases of keys are 0."""
    return TOWER.imported(completed(arrays))


def completed(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the encoder, with biases of 0 for keys, which have none, and those that are unknown."""
    theirs = without(arrays, *LEFT_OUT)
    for name in [name for name in theirs if name.endswith("attention.k_proj.weight")]:
        theirs.setdefault(name.removesuffix("weight") + "bias", np.zeros(len(theirs[name]), np.float32))
    return theirs
