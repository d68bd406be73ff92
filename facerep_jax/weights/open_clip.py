"""CLIP as a state dict of openai/CLIP or open_clip; FaRL's names are the same.

The encoder is the visual tower. The text tower, both projections and the scale belong to the contrastive objective,
`objectives.contrastive.Contrastive`, and have functions of their own.

No array shows the activation: it is quick GELU in OpenAI's and FaRL's weights and in those that open_clip calls
`-quickgelu`, which this layout is for. In others of open_clip it is GELU: see `open_clip_gelu`.

Source: openai/CLIP model.py, open_clip transformer.py. What FaRL's file (2112.03109) holds beside is what others'
loaders say of it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights._transformer import Arrays, Tower, norm, require, square, vit, without

BLOCK = {
    "qkv": "attn.in_proj_",
    "out": "attn.out_proj.",
    "up": "mlp.c_fc.",
    "down": "mlp.c_proj.",
    "attention_norm": "ln_1.",
    "mlp_norm": "ln_2.",
}
VISUAL = Tower(
    {
        "class_token": "visual.class_embedding",
        "positions": "visual.positional_embedding",
        "embed/kernel": "visual.conv1.weight",
        **norm("norm_in", "visual.ln_pre"),
        **norm("norm_out", "visual.ln_post"),
    },
    "visual.transformer.resblocks",
    BLOCK,
)
TEXT = Tower(
    {
        "token_embedding": "token_embedding.weight",
        "positions": "positional_embedding",
        **norm("norm_out", "ln_final"),
    },
    "transformer.resblocks",
    BLOCK,
)
SPACE = {"image_projection": "visual.proj", "text_projection": "text_projection", "log_scale": "logit_scale"}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of RGB in [0, 1]
FILE, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"  # in a folder of open_clip's
TOWER = "text_encoder/"  # begins our paths of the text tower

IN_SPACE = "|".join(map(re.escape, SPACE.values()))
OF_TEXT = r"(token_embedding|transformer|ln_final)\..*|positional_embedding"
OF_MASKED_TOKENS = r"visual\.(mask_token|(lm_transformer|ln_lm|lm_head)\..*)"
SETTINGS = "input_resolution|context_length|vocab_size"
LEFT_OUT = {
    IN_SPACE: "what the contrastive objective has of its own",
    OF_TEXT: "the text tower",
    OF_MASKED_TOKENS: "FaRL's prediction of masked tokens",
    SETTINGS: "numbers in OpenAI's files",
}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    theirs = without(arrays, *LEFT_OUT)
    depth = VISUAL.depth(theirs)
    side, _ = square(theirs["visual.positional_embedding"], 1)
    return vit("clip", theirs["visual.conv1.weight"], depth=depth, side=side)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32. What belongs to objectives is left out, and so are settings."""
    return VISUAL.imported(without(arrays, *LEFT_OUT))


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The visual tower by their names, without its projection, which is the objective's."""
    return VISUAL.exported(arrays)


def save(arrays: Arrays) -> tuple[str, Any]:
    """The name of open_clip's file of weights, and what it holds."""
    return FILE, dict(arrays)


def configs(spec: Mapping[str, Any], theirs: Arrays) -> dict[str, Any]:
    """The file by which `open_clip.create_model("local-dir:FOLDER")` builds the network, which has a text tower."""
    if "text_projection" not in theirs:
        return {}
    vocabulary, width = theirs["token_embedding.weight"].shape
    blocks = {name.split(".")[2] for name in theirs if name.startswith("transformer.resblocks.")}
    text = {"context_length": theirs["positional_embedding"].shape[0], "vocab_size": vocabulary, "width": width}
    vision = {"image_size": spec["image_size"], "layers": spec["depth"], "width": spec["width"], "head_width": 64}
    model = {
        "embed_dim": theirs["text_projection"].shape[1],
        "quick_gelu": spec["flavour"] == "clip",
        "vision_cfg": vision | {"patch_size": int(theirs["visual.conv1.weight"].shape[-1])},
        "text_cfg": text | {"heads": width // 64, "layers": len(blocks)},
    }
    preprocessing = {"mean": spec.get("mean") or MEAN, "std": spec.get("std") or STD}
    return {CONFIG: {"model_cfg": model, "preprocess_cfg": preprocessing}}


def imported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by our path, in float32: the text tower, both projections and the scale."""
    require(SPACE.values() & arrays.keys(), SPACE.values())
    tower = TEXT.imported(without(arrays, IN_SPACE, r"visual\..*", SETTINGS, r".*\.attn_mask"))
    space = {path: np.asarray(arrays[name], np.float32) for path, name in SPACE.items()}
    return {TOWER + path: x for path, x in tower.items()} | space


def exported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by their names."""
    require(SPACE & arrays.keys(), SPACE)
    tower = {path.removeprefix(TOWER): x for path, x in arrays.items() if path not in SPACE}
    return TEXT.exported(tower) | {name: arrays[path] for path, name in SPACE.items()}
