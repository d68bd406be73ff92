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


def configs(spec: Mapping[str, Any], theirs: Arrays) -> dict[str, Any]:
    """The files by which transformers builds the network: of CLIPModel, or of CLIPVisionModel alone."""
    vision = {
        "hidden_act": {"clip": "quick_gelu", "clip_gelu": "gelu"}[spec["flavour"]],
        "hidden_size": spec["width"],
        "image_size": spec["image_size"],
        "intermediate_size": 4 * spec["width"],
        "layer_norm_eps": 1e-5,
        "num_attention_heads": spec["heads"],
        "num_hidden_layers": spec["depth"],
        "patch_size": int(theirs[f"{OF_VISION}embeddings.patch_embedding.weight"].shape[-1]),
        "model_type": "clip_vision_model",
    }
    preprocessor = preprocessing(spec, "CLIPImageProcessor", open_clip.MEAN, open_clip.STD)
    if "text_projection.weight" not in theirs:
        alone = {"architectures": ["CLIPVisionModel"], **vision}
        return {"config.json": alone, "preprocessor_config.json": preprocessor}
    vocabulary, width = theirs[f"{OF_TEXT}embeddings.token_embedding.weight"].shape
    space = theirs["text_projection.weight"].shape[0]
    blocks = {name.split(".")[3] for name in theirs if name.startswith(f"{OF_TEXT}encoder.layers.")}
    text = {
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0,
        "hidden_act": "quick_gelu",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": theirs[f"{OF_TEXT}embeddings.position_embedding.weight"].shape[0],
        "num_attention_heads": width // 64,
        "num_hidden_layers": len(blocks),
        "projection_dim": space,
        "vocab_size": vocabulary,
        "model_type": "clip_text_model",
    }
    both = {"text_config": text, "vision_config": vision | {"projection_dim": space}}
    whole = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": space, **both}
    return {"config.json": whole, "preprocessor_config.json": preprocessor}


def preprocessing(spec: Mapping[str, Any], kind: str, mean: tuple, std: tuple) -> dict[str, Any]:
    """The file by which transformers prepares images."""
    side = spec["image_size"]
    return {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": spec.get("mean") or mean,
        "image_std": spec.get("std") or std,
        "do_convert_rgb": True,
    }


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
    space = {name: np.asarray(arrays[path]).T.copy() for path, name in SPACE.items()}
    return {OF_TEXT + name: x for name, x in TEXT.exported(tower).items()} | space


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the visual tower alone, without what their names begin with, and those that are unknown."""
    return {name.removeprefix(OF_VISION): x for name, x in without(arrays, *LEFT_OUT).items()}
