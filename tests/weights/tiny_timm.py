"""A file in the layout `timm` of a vision transformer that was never trained, as small as one can be."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH = 64  # of one head


def write(path: Path, *, patch: int, side: int, depth: int = 2, seed: int = 0, scale: float = 0.1) -> Path:
    """Write the file; images have `side` patches of `patch` pixels on a side."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    arrays = {
        "patch_embed.proj.weight": drawn(WIDTH, 3, patch, patch),
        "patch_embed.proj.bias": drawn(WIDTH),
        "cls_token": drawn(1, 1, WIDTH),
        "pos_embed": drawn(1, side**2 + 1, WIDTH),
        "norm.weight": 1 + drawn(WIDTH),
        "norm.bias": drawn(WIDTH),
    }
    shapes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (2, 1), "mlp.fc2": (1, 2)}  # in widths
    for block in (f"blocks.{index}" for index in range(depth)):
        for name, (out, into) in shapes.items():
            arrays[f"{block}.{name}.weight"] = drawn(out * WIDTH, into * WIDTH)
            arrays[f"{block}.{name}.bias"] = drawn(out * WIDTH)
        for name in ("norm1", "norm2"):
            arrays[f"{block}.{name}.weight"], arrays[f"{block}.{name}.bias"] = 1 + drawn(WIDTH), drawn(WIDTH)
    save_file(arrays, path)
    return path
