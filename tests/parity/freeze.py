"""Outputs of open_clip's CLIP and timm's VisionTransformer for the weights and inputs of `published.py`.

python tests/parity/freeze.py

writes frozen.npz, which tests read where these libraries are not installed. They are the extra `parity`. The outputs
are computed in float64, so that they do not depend on the machine, and stored in float32 with the libraries' versions.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from published import CASES, FROZEN, MODELS, TAPS, drawn, image, make, places, text, torch_names
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import interpolate
from torchvision.transforms.functional import normalize

VERSIONS = {"torch": torch.__version__, "open_clip": open_clip.__version__, "timm": timm.__version__}
NORMALISATION = {
    "clip": (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    "mae": (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD),
}


def clip(weights: Mapping[str, Any], model: str, size: int, dtype: torch.dtype) -> torch.nn.Module:
    """open_clip's CLIP with quick GELU, for images of a size; B/16 is the published config."""
    config = open_clip.get_model_config("ViT-B-16-quickgelu")
    if model == "small":
        sizes, tower, embedding, _ = MODELS[model]
        config["embed_dim"] = embedding
        config["vision_cfg"] = dict(patch_size=8, width=sizes["width"], layers=sizes["depth"], head_width=16)
        config["text_cfg"] |= dict(width=tower["width"], layers=tower["depth"], heads=tower["heads"])
    config["vision_cfg"]["image_size"] = size
    built = open_clip.CLIP(**config)
    name = "visual.positional_embedding"
    positions = resized(torch.tensor(weights[name]), size // built.visual.patch_size[0])
    return loaded(built, {**weights, name: positions}, dtype)


def mae(weights: Mapping[str, Any], model: str, size: int, dtype: torch.dtype, **settings: Any) -> torch.nn.Module:
    """timm's VisionTransformer, which MAE and MCF build theirs from, for images of a size."""
    settings |= dict(img_size=size, num_classes=0)
    side = MODELS[model][0]["image_size"]
    if model == "small":
        sizes = MODELS[model][0]
        built = VisionTransformer(
            patch_size=8, embed_dim=sizes["width"], depth=sizes["depth"], num_heads=sizes["heads"], **settings
        )
    else:
        built = timm.create_model("vit_base_patch16_224", pretrained=False, **settings)
    side //= built.patch_embed.patch_size[0]
    positions = torch.cat([torch.zeros(1, built.embed_dim), mae_positions(side, built.embed_dim)])
    positions = resized(positions, built.patch_embed.grid_size[0])[None]
    return loaded(built, {**weights, "pos_embed": positions}, dtype)


def mae_positions(side: int, width: int) -> torch.Tensor:
    """timm's sin-cos positions of a grid, transposed: their first half speaks of rows, that of MAE's of columns."""
    table = build_sincos2d_pos_embed([side, side], width, interleave_sin_cos=True)
    return table.reshape(side, side, width).transpose(0, 1).flatten(0, 1)


BUILD = {"clip": clip, "mae": mae}


def resized(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Positions for another grid as FaRL and MAE resize them; open_clip and timm would antialias."""
    old = int((len(positions) - 1) ** 0.5)
    if old == side:
        return positions
    grid = positions[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], grid.flatten(2)[0].T])


def loaded(built: torch.nn.Module, weights: Mapping[str, Any], dtype: torch.dtype) -> torch.nn.Module:
    """The model with these weights, of which none is missing or too many."""
    state = {name: value if torch.is_tensor(value) else torch.tensor(value) for name, value in weights.items()}
    built = built.to(dtype).eval()
    built.load_state_dict(state)
    return built


def pixels(flavour: str, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The images as the published code is given them."""
    scaled = torch.from_numpy(image(size)).permute(0, 3, 1, 2).to(dtype) / 255
    return normalize(scaled, *NORMALISATION[flavour])


@torch.no_grad()
def theirs(
    flavour: str, weights: Mapping[str, Any], model: str, size: int, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """What `published.ours` gives, of the published model."""
    built = BUILD[flavour](weights, model, size, dtype)
    visual = built.visual if flavour == "clip" else built
    norm = visual.ln_post if flavour == "clip" else visual.norm
    blocks = visual.transformer.resblocks if flavour == "clip" else visual.blocks
    layers: list[torch.Tensor] = []
    for block in blocks:
        block.register_forward_hook(lambda _, __, x: layers.append(x))
    x = pixels(flavour, size, dtype)
    if flavour == "clip":
        projection, visual.proj = visual.proj, None
        pooled = visual(x)
        visual.proj = projection
    else:
        pooled = visual.forward_head(visual.forward_features(x))
    where = places(model, layers[-1].shape[1] - 1)
    tokens = layers[-1][:, 1:][:, where]
    everything = {"pooled": pooled, "cls": layers[-1][:, 0], "tokens": tokens, "normed": norm(tokens)}
    everything |= {f"block_{tap}": layers[tap][:, 1:][:, where] for tap in TAPS[model]}
    if flavour == "clip":
        tokens = torch.from_numpy(text()).long()
        everything |= {"images": built.encode_image(x, normalize=True), "texts": built.encode_text(tokens, True)}
        everything["logits"] = built.get_logits(x, tokens)[0]
    return {name: value.to(dtype).numpy() for name, value in everything.items()}


def main() -> None:
    """Write frozen.npz."""
    frozen = {"versions": np.array([f"{name} {version}" for name, version in VERSIONS.items()])}
    for flavour, model in CASES:
        weights = torch_names(drawn(partial(make, flavour, model)))
        for size in MODELS[model][3]:
            outputs = theirs(flavour, weights, model, size, torch.float64)
            frozen |= {f"{flavour} {model} {size} {name}": value.astype(np.float32) for name, value in outputs.items()}
    np.savez_compressed(FROZEN, **frozen)
    print(f"{FROZEN}: {len(frozen) - 1} arrays, {FROZEN.stat().st_size / 1e6:.2f} MB; {', '.join(frozen['versions'])}")


if __name__ == "__main__":
    main()
