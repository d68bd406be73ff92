"""CLIP as a state dict of openai/CLIP or open_clip; FaRL's names are the same.

The encoder is the visual tower. The text tower, both projections and the scale belong to the contrastive objective,
`objectives.contrastive.Contrastive`, and have functions of their own.

No array shows the activation: it is quick GELU in OpenAI's and FaRL's weights and in those that open_clip calls
`-quickgelu`, which this layout is for. In others of open_clip it is GELU: see `open_clip_gelu`.

Source: openai/CLIP model.py, open_clip transformer.py. What FaRL's file (2112.03109) holds beside is what others'
loaders say of it.
"""

import re
from typing import Any

import numpy as np

from facerep_jax.weights._transformer import Arrays, Tower, require, vit

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
        "norm_in/scale": "visual.ln_pre.weight",
        "norm_in/bias": "visual.ln_pre.bias",
        "norm_out/scale": "visual.ln_post.weight",
        "norm_out/bias": "visual.ln_post.bias",
    },
    "visual.transformer.resblocks",
    BLOCK,
)
TEXT = Tower(
    {
        "token_embedding": "token_embedding.weight",
        "positions": "positional_embedding",
        "norm_out/scale": "ln_final.weight",
        "norm_out/bias": "ln_final.bias",
    },
    "transformer.resblocks",
    BLOCK,
)
SPACE = {"image_projection": "visual.proj", "text_projection": "text_projection", "log_scale": "logit_scale"}
TOWER = "text_encoder/"  # begins our paths of the text tower

IN_SPACE = "|".join(map(re.escape, SPACE.values()))
OF_TEXT = r"(token_embedding|transformer|ln_final)\..*|positional_embedding"
OF_MASKED_TOKENS = r"visual\.(mask_token|(lm_transformer|ln_lm|lm_head)\..*)"  # FaRL's other objective
SETTINGS = "input_resolution|context_length|vocab_size"  # numbers, in OpenAI's files


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    theirs = without(arrays, IN_SPACE, OF_TEXT, OF_MASKED_TOKENS, SETTINGS)
    depth = VISUAL.depth(theirs)
    width, _, patch, _ = theirs["visual.conv1.weight"].shape
    side = round((len(theirs["visual.positional_embedding"]) - 1) ** 0.5)
    return vit("clip", patch=patch, width=width, depth=depth, image_size=side * patch)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32. What belongs to objectives is left out, and so are settings."""
    return VISUAL.imported(without(arrays, IN_SPACE, OF_TEXT, OF_MASKED_TOKENS, SETTINGS))


def exported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The visual tower by their names, without its projection, which is the objective's."""
    return VISUAL.exported(arrays)


def imported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by our path, in float32: the text tower, both projections and the scale."""
    require(SPACE.values() & arrays.keys(), SPACE.values())
    tower = TEXT.imported(without(arrays, IN_SPACE, r"visual\..*", SETTINGS))
    space = {path: np.asarray(arrays[name], np.float32) for path, name in SPACE.items()}
    return {TOWER + path: x for path, x in tower.items()} | space


def exported_objective(arrays: Arrays) -> dict[str, np.ndarray]:
    """The contrastive objective's arrays by their names."""
    require(SPACE & arrays.keys(), SPACE)
    tower = {path.removeprefix(TOWER): x for path, x in arrays.items() if path not in SPACE}
    return TEXT.exported(tower) | {name: arrays[path] for path, name in SPACE.items()}


def without(arrays: Arrays, *left_out: str) -> dict[str, np.ndarray]:
    """The arrays but those whose names match a pattern."""
    return {name: x for name, x in arrays.items() if not re.fullmatch("|".join(left_out), name)}
