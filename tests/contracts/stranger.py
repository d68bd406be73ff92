"""Plug-in: the weights of somebody else's vision transformer, as a layout of `facerep_jax.weights`.

Their file has a block's arrays one by one, (out, in) kernels, query, key and value in one matrix, and the patch kernel
as (out, 3, rows, columns). Their network is MAE's: fixed sin-cos positions, which the file does not hold.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

WIDTH_OF_HEAD = 8
BLOCK = {  # theirs -> ours
    "norm1": "attention_norm",
    "proj": "out",
    "norm2": "mlp_norm",
    "fc1": "up",
    "fc2": "down",
}


def encoder(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The spec of the encoder that the arrays belong to. Raises ValueError if they are of another layout."""
    if "tower.patch" not in arrays:
        raise ValueError("no array 'tower.patch'")
    width, _, patch, _ = arrays["tower.patch"].shape
    return {
        "call": "facerep_jax.models.vit:ViT",
        "flavour": "mae",
        "variant": f"Nano/{patch}",
        "image_size": int(arrays["tower.image_size"]),
        "width": int(width),
        "depth": sum(name.endswith("fc1.weight") for name in arrays),
        "heads": int(width) // WIDTH_OF_HEAD,
    }


def imported(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our arrays by path. `tower.image_size` is left out: it is no weight."""
    depth = encoder(arrays)["depth"]
    patch = arrays["tower.patch"]
    found = {
        "embed/kernel": patch.transpose(2, 3, 1, 0).reshape(-1, len(patch)),
        "embed/bias": arrays["tower.patch_bias"],
        "class_token": arrays["tower.cls"],
        "norm_out/scale": arrays["tower.norm.weight"],
        "norm_out/bias": arrays["tower.norm.bias"],
    }
    blocks = [f"tower.blocks.{index}" for index in range(depth)]
    for theirs, ours in BLOCK.items():
        kernel = "scale" if "norm" in theirs else "kernel"
        found[f"blocks/{ours}/{kernel}"] = np.stack([arrays[f"{block}.{theirs}.weight"].T for block in blocks])
        found[f"blocks/{ours}/bias"] = np.stack([arrays[f"{block}.{theirs}.bias"] for block in blocks])
    for index, ours in enumerate(("query", "key", "value")):
        kernels = [np.split(arrays[f"{block}.qkv.weight"], 3)[index].T for block in blocks]
        biases = [np.split(arrays[f"{block}.qkv.bias"], 3)[index] for block in blocks]
        found |= {f"blocks/{ours}/kernel": np.stack(kernels), f"blocks/{ours}/bias": np.stack(biases)}
    return {path: np.asarray(array, np.float32) for path, array in found.items()}
