"""A vision transformer as a state dict of timm's VisionTransformer: what it has is told by its arrays.

That is: learned positions or those of MAE or MoCo v3, with or without a row for the class token; a norm before the
blocks; layer scale; registers; a bias of the patch embedding; and the pooled feature, which is the class token, the
mean of patches (`fc_norm`) or attention (`attn_pool`).

What no array shows is as in the models that timm publishes so: CLIP's have a norm before the blocks, eps 1e-5 and
quick GELU; SigLIP's pool by attention and have GELU by tanh; images are normalised by CLIP's statistics, by 1/2, or
else by ImageNet's. timm's models `augreg` are normalised by 1/2 too, which their arrays do not show.

Fixed positions are no arrays of ours: those of a file are compared and left out.

Source: timm 1.0.31, vision_transformer.py; facebookresearch/mae, models_mae.py and util/pos_embed.py (2111.06377).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from facerep_jax.weights import open_clip
from facerep_jax.weights._transformer import (
    HALF,
    LINEAR,
    Arrays,
    Tower,
    hidden_of,
    linear,
    norm,
    square,
    vit,
    without,
)

BLOCK = {
    "qkv": "attn.qkv.",
    "out": "attn.proj.",
    "up": "mlp.fc1.",
    "down": "mlp.fc2.",
    "attention_norm": "norm1.",
    "mlp_norm": "norm2.",
}
SCALES = {"attention_scale": "ls1.gamma", "mlp_scale": "ls2.gamma"}
POOL = {
    "attention_pool/probe": "attn_pool.latent",
    **linear("attention_pool/query", "attn_pool.q"),
    **linear("attention_pool/out", "attn_pool.proj"),
    **norm("attention_pool/norm", "attn_pool.norm"),
    **linear("attention_pool/up", "attn_pool.mlp.fc1"),
    **linear("attention_pool/down", "attn_pool.mlp.fc2"),
}
KEY_VALUE = {
    f"attn_pool.kv.{theirs}": tuple(f"attention_pool/{module}/{ours}" for module in ("key", "value"))
    for ours, theirs in LINEAR.items()
}
OPTIONAL = {  # our path -> their name, of arrays that not all have
    "class_token": "cls_token",
    "registers": "reg_token",
    "positions": "pos_embed",
    "embed/bias": "patch_embed.proj.bias",
}
ONES = {"class_token": 2, "registers": 1, "positions": 1, "attention_pool/probe": 2}
POSITIONS = "pos_embed"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of RGB in [0, 1]
CLIP = (open_clip.MEAN, open_clip.STD)
LEFT_OUT = {r"head\..*": "a classifier"}
IMAGE_SIZE = 224  # pixels of a side that MAE is trained on, if a file holds no positions


def tower(theirs: Arrays) -> Tower:
    """Where a file keeps its arrays."""
    pooled = "fc_norm" if "fc_norm.weight" in theirs else "norm"
    attends = "attn_pool.latent" in theirs
    outside = {path: name for path, name in OPTIONAL.items() if name in theirs}
    if not attends and pooled == "norm":
        outside["class_token"] = "cls_token"  # which nothing replaces
    return table(outside, pooled, "norm_pre.weight" in theirs, "blocks.0.ls1.gamma" in theirs, attends)


def table(outside: dict[str, str], pooled: str, norm_in: bool, scales: bool, attends: bool) -> Tower:
    """Where arrays are kept, with the optional ones `outside` blocks, and the last norm called `pooled`."""
    outside = outside | {"embed/kernel": "patch_embed.proj.weight", **norm("norm_out", pooled)}
    outside |= norm("norm_in", "norm_pre") if norm_in else {}
    outside |= POOL if attends else {}
    return Tower(outside, "blocks", BLOCK | (SCALES if scales else {}), KEY_VALUE if attends else {}, ONES)


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    theirs = without(arrays, *LEFT_OUT)
    depth = tower(theirs).depth(theirs)
    kernel, side, positions = theirs["patch_embed.proj.weight"], 0, "sincos"
    if POSITIONS in theirs:
        side, _, positions = grid_of(theirs)
    said: dict[str, Any] = hidden_of(theirs["blocks.0.mlp.fc1.weight"])
    flavour = "clip" if "norm_pre.weight" in theirs else "mae"
    if positions != {"clip": "learned", "mae": "sincos"}[flavour]:
        said["positions"] = positions
    if ("patch_embed.proj.bias" in theirs) != (flavour == "mae"):
        said["patch_bias"] = flavour == "clip"
    if "cls_token" not in theirs:
        said["class_token"] = False
    if "reg_token" in theirs:
        said["registers"] = theirs["reg_token"].shape[1]
    if "blocks.0.ls1.gamma" in theirs:
        said["layer_scale"] = 1e-5
    if "fc_norm.weight" in theirs:
        said["pool"] = "mean"
    if "attn_pool.latent" in theirs:
        said |= dict(pool="attention", activation="gelu_tanh", mean=HALF, std=HALF)
    return vit(flavour, kernel, depth=depth, side=side, image_size=IMAGE_SIZE, **said)


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32; without fixed positions and a classifier."""
    theirs = without(arrays, *LEFT_OUT)
    found = tower(theirs).imported(theirs)
    if POSITIONS not in theirs:
        return found
    _, before, kind = grid_of(theirs)
    positions = found.pop("positions")
    if kind != "learned":
        return found
    classes = int("class_token" in found)
    if before > classes:  # positions of registers are added to these
        found["registers"] = found["registers"] + positions[classes:before]
    first = positions[:classes] if before else np.zeros((classes, positions.shape[1]), np.float32)
    return found | {"positions": np.concatenate([first, positions[before:]])}


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Their arrays by name.

    Where there are registers, timm's models have no position of the class token (`no_embed_class`): it is added to the
    token, so that these two come back otherwise, with the same outputs.

    Args:
        spec: of the encoder, which says whether patches are pooled by their mean, and which fixed positions there are;
            without it, the class token is pooled and fixed positions are left out.
    """
    spec, ours = spec or {}, dict(arrays)
    if "registers" in ours and "positions" in ours:
        ours["class_token"] = ours["class_token"] + ours["positions"][0]
        ours["positions"] = ours["positions"][1:]
    outside = {path: name for path, name in OPTIONAL.items() if path in ours}
    pooled = "fc_norm" if spec.get("pool") == "mean" else "norm"
    attends, scales = "attention_pool/probe" in ours, "blocks/attention_scale" in ours
    found = table(outside, pooled, "norm_in/scale" in ours, scales, attends).exported(ours)
    if spec and POSITIONS not in found:
        width, _, patch, _ = found["patch_embed.proj.weight"].shape
        kind, classes = spec.get("positions") or "sincos", int("class_token" in ours)
        tables = fixed_positions(spec["image_size"] // patch, width)
        if kind not in tables:
            raise ValueError(f"the layout has no positions of the kind {kind!r}")
        patches = tables[kind].astype(np.float32)
        found[POSITIONS] = np.concatenate([np.zeros((classes, width), np.float32), patches])[None]
    return found


def configs(spec: Mapping[str, Any], theirs: Arrays) -> dict[str, Any]:
    """The file by which `timm.create_model("local-dir:FOLDER", pretrained=True)` builds the network."""
    width, _, patch, _ = theirs["patch_embed.proj.weight"].shape
    args: dict[str, Any] = dict(
        img_size=spec["image_size"],
        patch_size=patch,
        embed_dim=width,
        depth=spec["depth"],
        num_heads=spec["heads"],
        mlp_ratio=theirs["blocks.0.mlp.fc1.weight"].shape[0] / width,
        class_token="cls_token" in theirs,
    )
    architecture = "vit_base_patch16_224"
    if "norm_pre.weight" in theirs:
        architecture = "vit_base_patch16_clip_quickgelu_224"  # has what cannot be said here, the eps of its norms
    if "blocks.0.ls1.gamma" in theirs:
        args["init_values"] = 1e-5
    if "reg_token" in theirs:
        args |= dict(reg_tokens=theirs["reg_token"].shape[1], no_embed_class=True)
    pool = {"mean": "avg", "attention": "map"}.get(spec.get("pool") or "", "token")
    if pool == "map":
        args["act_layer"] = "gelu_tanh"
    mean, std = CLIP if "norm_pre.weight" in theirs else IMAGENET
    images = {"input_size": (3, spec["image_size"], spec["image_size"]), "interpolation": "bicubic", "crop_pct": 1.0}
    images |= {"mean": spec.get("mean") or mean, "std": spec.get("std") or std, "num_classes": 0}
    return {
        "config.json": {
            "architecture": architecture,
            "num_classes": 0,
            "num_features": width,
            "global_pool": pool,
            "model_args": args,
            "pretrained_cfg": images,
        }
    }


def grid_of(theirs: Arrays) -> tuple[int, int, str]:
    """The side of the grid of positions, how many stand before the patches' ones, and of which kind they are."""
    positions = theirs[POSITIONS]
    if positions.ndim != 3 or len(positions) != 1:
        raise ValueError(f"{POSITIONS} has shape {positions.shape}, (1, tokens, width) is expected")
    classes = int("cls_token" in theirs)
    registers = theirs["reg_token"].shape[1] if "reg_token" in theirs else 0
    side, before = square(positions[0], classes, classes + registers, 0)
    patches = np.asarray(positions[0, before:], np.float32)
    if patches.shape[1] % 4 == 0 and before == classes and not np.any(positions[0, :before]):
        for kind, fixed in fixed_positions(side, patches.shape[1]).items():
            if np.abs(patches - fixed).max() <= 1e-3:
                return side, before, kind
    return side, before, "learned"


def fixed_positions(side: int, width: int) -> dict[str, Float[np.ndarray, "{side*side} d"]]:
    """The positions of patches that some never learn: "sincos", MAE's, and "sincos_rows", MoCo v3's.

    For each patch, sines and cosines of its column, then its row; in MoCo v3, the row comes first.
    """
    frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    row, column = np.divmod(np.arange(side * side), side)
    of_row, of_column = (
        np.concatenate([wave(axis[:, None] * frequency) for wave in (np.sin, np.cos)], axis=1) for axis in (row, column)
    )
    return {
        "sincos": np.concatenate([of_column, of_row], axis=1),
        "sincos_rows": np.concatenate([of_row, of_column], axis=1),
    }
