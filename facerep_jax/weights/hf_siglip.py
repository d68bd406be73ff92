"""SigLIP and SigLIP 2 as Hugging Face's transformers saves them: SiglipModel, or its visual tower alone.

SigLIP 2's models for images of any aspect ratio (NaFlex) are of the layout `hf_siglip2`.

Source: transformers, models/siglip/modeling_siglip.py (2303.15343, 2502.14786).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import hf_clip, open_clip_siglip, timm
from facerep_jax.weights._transformer import (
    HALF,
    LINEAR,
    Arrays,
    Tower,
    below,
    hidden_of,
    linear,
    norm,
    square,
    vit,
    without,
)

PATCHES = "embeddings.patch_embedding.weight"
VISUAL = Tower(
    {
        "positions": "embeddings.position_embedding.weight",
        **linear("embed", "embeddings.patch_embedding"),
        **norm("norm_out", "post_layernorm"),
        "attention_pool/probe": "head.probe",
        **linear("attention_pool/out", "head.attention.out_proj"),
        **norm("attention_pool/norm", "head.layernorm"),
        **linear("attention_pool/up", "head.mlp.fc1"),
        **linear("attention_pool/down", "head.mlp.fc2"),
    },
    "encoder.layers",
    hf_clip.BLOCK,
    {
        f"head.attention.in_proj_{theirs}": tuple(f"attention_pool/{part}/{ours}" for part in ("query", "key", "value"))
        for ours, theirs in LINEAR.items()
    },
    {"attention_pool/probe": timm.ONES["attention_pool/probe"]},
)
TEXT = Tower({**hf_clip.TEXT.outside, **linear("head", "head")}, "encoder.layers", hf_clip.BLOCK)
TEXT_TOWER = open_clip_siglip.TEXT_TOWER
LEFT_OUT = {
    r"text_model\..*": "the text tower",
    "logit_scale|logit_bias": "the space shared with captions",
    r"(vision_model\.)?embeddings\.position_ids": "the numbers of positions",
}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    theirs = own(arrays)
    depth = VISUAL.depth(theirs)
    if (kernel := theirs[PATCHES]).ndim != 4:
        raise ValueError(f"the array {PATCHES!r} has shape {kernel.shape}, (width, 3, patch, patch) is expected")
    side, _ = square(theirs["embeddings.position_embedding.weight"], 0)
    said: dict[str, Any] = hidden_of(theirs["encoder.layers.0.mlp.fc1.weight"])
    said |= dict(positions="learned", class_token=False, pool="attention", activation="gelu_tanh", mean=HALF, std=HALF)
    return vit("mae", kernel, depth=depth, side=side, **said)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    return VISUAL.imported(own(arrays))


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The visual tower by their names, as in SiglipModel."""
    return {hf_clip.OF_VISION + name: x for name, x in VISUAL.exported(arrays).items()}


def imported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by our path, in float32: the text tower, the scale and the bias."""
    theirs = without(below(arrays, hf_clip.OF_TEXT), r"embeddings\.position_ids")
    return open_clip_siglip.objective(TEXT, theirs, arrays)


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the visual tower alone, without what their names begin with, and those that are unknown."""
    return {name.removeprefix(hf_clip.OF_VISION): x for name, x in without(arrays, *LEFT_OUT).items()}
