"""CLIP as Hugging Face's transformers saves it: CLIPModel, or its visual tower alone.

No array shows the activation: it is quick GELU here, as in OpenAI's weights. For others see `hf_clip_gelu`.

Source: transformers, models/clip/modeling_clip.py, in the names that its files have.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import open_clip
from facerep_jax.weights._transformer import Arrays, Tower, below, norm, require, square, vit, without

BLOCK = {
    "query": "self_attn.q_proj.",
    "key": "self_attn.k_proj.",
    "value": "self_attn.v_proj.",
    "out": "self_attn.out_proj.",
    "up": "mlp.fc1.",
    "down": "mlp.fc2.",
    "attention_norm": "layer_norm1.",
    "mlp_norm": "layer_norm2.",
}
VISUAL = Tower(
    {
        "class_token": "embeddings.class_embedding",
        "positions": "embeddings.position_embedding.weight",
        "embed/kernel": "embeddings.patch_embedding.weight",
        **norm("norm_in", "pre_layrnorm"),  # so misspelt there
        **norm("norm_out", "post_layernorm"),
    },
    "encoder.layers",
    BLOCK,
)
TEXT = Tower(
    {
        "token_embedding": "embeddings.token_embedding.weight",
        "positions": "embeddings.position_embedding.weight",
        **norm("norm_out", "final_layer_norm"),
    },
    "encoder.layers",
    BLOCK,
)
SPACE = {  # our path -> their name; both projections are turned
    "image_projection": "visual_projection.weight",
    "text_projection": "text_projection.weight",
    "log_scale": "logit_scale",
}
OF_VISION, OF_TEXT = "vision_model.", "text_model."
LEFT_OUT = {
    "|".join(map(re.escape, SPACE.values())): "what the contrastive objective has of its own",
    r"text_model\..*": "the text tower",
    r"(vision_model\.)?embeddings\.position_ids": "the numbers of positions",
}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    theirs = own(arrays)
    depth = VISUAL.depth(theirs)
    side, _ = square(theirs["embeddings.position_embedding.weight"], 1)
    return vit("clip", theirs["embeddings.patch_embedding.weight"], depth=depth, side=side)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32. What belongs to objectives is left out."""
    return VISUAL.imported(own(arrays))


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The visual tower by their names, as in CLIPModel, without its projection, which is the objective's."""
    return {OF_VISION + name: x for name, x in VISUAL.exported(arrays).items()}


def imported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by our path, in float32: the text tower, both projections and the scale."""
    require(SPACE.values() & arrays.keys(), SPACE.values())
    tower = TEXT.imported(without(below(arrays, OF_TEXT), r"embeddings\.position_ids"))
    space = {path: np.asarray(arrays[name], np.float32).T for path, name in SPACE.items()}
    return {open_clip.TOWER + path: x for path, x in tower.items()} | space


def exported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by their names."""
    require(SPACE & arrays.keys(), SPACE)
    tower = {path.removeprefix(open_clip.TOWER): x for path, x in arrays.items() if path not in SPACE}
    space = {name: np.ascontiguousarray(np.asarray(arrays[path]).T) for path, name in SPACE.items()}
    return {OF_TEXT + name: x for name, x in TEXT.exported(tower).items()} | space


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the visual tower alone, without what their names begin with, and those that are unknown."""
    return {name.removeprefix(OF_VISION): x for name, x in without(arrays, *LEFT_OUT).items()}
