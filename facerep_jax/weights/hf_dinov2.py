"""DINOv2 as Hugging Face's transformers saves it, with or without registers.

Source: transformers, models/dinov2 and models/dinov2_with_registers, in the names that its files have.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import timm
from facerep_jax.weights._transformer import Arrays, Tower, linear, norm, square, vit, without

BLOCK = {
    "query": "attention.attention.query.",
    "key": "attention.attention.key.",
    "value": "attention.attention.value.",
    "out": "attention.output.dense.",
    "up": "mlp.fc1.",
    "down": "mlp.fc2.",
    "attention_norm": "norm1.",
    "mlp_norm": "norm2.",
    "attention_scale": "layer_scale1.lambda1",
    "mlp_scale": "layer_scale2.lambda1",
}
LEFT_OUT = {r"(dinov2\w*\.)?embeddings\.mask_token": "the token of masked patches", r"classifier\..*": "a classifier"}
PREFIXES = ("dinov2.", "dinov2_with_registers.")  # of networks with a head


def tower(registers: bool) -> Tower:
    """Where a file keeps its arrays, with or without registers."""
    outside = {
        "class_token": "embeddings.cls_token",
        "positions": "embeddings.position_embeddings",
        **linear("embed", "embeddings.patch_embeddings.projection"),
        **norm("norm_out", "layernorm"),
        **({"registers": "embeddings.register_tokens"} if registers else {}),
    }
    return Tower(outside, "encoder.layer", BLOCK, ones=timm.ONES)


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    theirs = own(arrays)
    if "encoder.layer.0.mlp.weights_in.weight" in theirs:
        raise ValueError("its MLPs have a gate, which our blocks have not")
    registers = theirs.get("embeddings.register_tokens")
    depth = tower(registers is not None).depth(theirs)
    side, _ = square(theirs["embeddings.position_embeddings"][0], 1)
    said = {} if registers is None else {"registers": registers.shape[1]}
    kernel = theirs["embeddings.patch_embeddings.projection.weight"]
    return vit("mae", kernel, depth=depth, side=side, positions="learned", layer_scale=1e-5, **said)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    theirs = own(arrays)
    return tower("embeddings.register_tokens" in theirs).imported(theirs)


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Their arrays by name, with a token of masked patches, which is 0."""
    width = arrays["class_token"].shape[0]
    token = {"embeddings.mask_token": np.zeros((1, width), np.float32)}
    return tower("registers" in arrays).exported(arrays) | token


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the encoder alone, and those that are unknown."""
    theirs = without(arrays, *LEFT_OUT)
    prefix = next((each for each in PREFIXES if any(name.startswith(each) for name in theirs)), "")
    return {name.removeprefix(prefix): x for name, x in theirs.items()}
