"""Writes layouts.npz: what published libraries make of small networks whose weights NumPy draws again in the tests.

Needs torch, timm, transformers and open_clip:  python tests/parity/layouts.py

A network's state dict has the names that the library's own files have. A weight is a function of its name and shape,
but for those that the published code computes (`fixed`), which are kept. Outputs are computed in float64.
"""

import importlib
import json
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
WIDTH, DEPTH, HEADS, PATCH, SIZE = 128, 2, 2, 8, 32
SIZES = (SIZE, 48)  # of images, in pixels: that of positions, and a larger one
TEXT = dict(width=64, depth=1, heads=1)
SPACE = 24
PIECES = np.random.RandomState(0).randint(3, 320, (3, 16))  # token ids of SigLIP's captions: an end, then padding
PIECES[0, 5:], PIECES[1, 9:] = 1, 1
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Case(NamedTuple):
    """A network of a published library: its layout, normalisation, and what builds it and gives its outputs."""

    layout: str
    normalisation: tuple
    theirs: Callable[..., Any]  # of weights (None draws shapes only), pixels -> shapes and fixed arrays, or outputs


def drawn(shapes: Mapping[str, tuple[int, ...]], fixed: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
    """A state dict of these names and shapes: of a size that keeps activations near 1, and none of them at 0 or 1."""
    state = {}
    for name, shape in shapes.items():
        draws = np.random.RandomState(zlib.crc32(name.encode())).uniform(-(3**0.5), 3**0.5, shape)
        if any(part in name for part in ("gamma", "lambda", "norm", "ln_", "layrnorm")) and not name.endswith("bias"):
            draws = 1 + 0.2 * draws
        elif len(shape) < 2 or shape[0] == 1 or ("embedding.weight" in name and len(shape) == 2):
            draws *= 0.3
        else:
            draws *= np.prod(shape[1:]) ** -0.5
        state[name] = draws.astype(np.float32)
    return state | dict(fixed or {})


def image(size: int) -> np.ndarray:
    """Two uint8 images, (2, size, size, 3), that are smooth: of waves, with a little noise."""
    rng = np.random.RandomState(size)
    y, x = np.mgrid[:size, :size] / size
    waves = [[np.sin(6 * x + k + b) * np.cos(5 * y - k) for k in range(3)] for b in range(2)]
    noisy = 127 + 100 * np.moveaxis(np.array(waves), 1, -1) + rng.uniform(-20, 20, (2, size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def text() -> np.ndarray:
    """Token ids of two captions, int64 (2, 77): a start, some words, the end, zeros."""
    ids = np.zeros((2, 77), np.int64)
    ids[0, :5], ids[1, :9] = (49406, 320, 1125, 539, 49407), (49406, 518, 2533, 525, 518, 1823, 267, 550, 49407)
    return ids


def pixels(size: int, normalisation: tuple) -> Any:
    """The images as the published code is given them, in float64."""
    import torch

    mean, std = (np.array(each) for each in normalisation)
    return torch.from_numpy(((image(size) / 255 - mean) / std).transpose(0, 3, 1, 2))


def loaded(built: Any, state: Mapping[str, Any]) -> Any:
    """The network with these weights, of which none is missing or too many, in float64."""
    import torch

    built = built.double().eval()
    built.load_state_dict({name: torch.as_tensor(x) for name, x in state.items()})
    return built


def shapes_of(built: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's state dict."""
    return {name: tuple(x.shape) for name, x in built.state_dict().items()}


def timm_vit(size: int, **settings: Any) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    sizes = dict(patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0)
    return VisionTransformer(img_size=size, **sizes, **settings)


def outputs_of_timm(built: Any, x: Any) -> dict[str, Any]:
    tokens = []
    built.blocks[-1].register_forward_hook(lambda _, __, y: tokens.append(y))
    pooled = built.forward_head(built.forward_features(x), pre_logits=True)
    return {"pooled": pooled, "tokens": tokens[0][:, built.num_prefix_tokens :]}


def resized(positions: np.ndarray, size: int) -> np.ndarray:
    """Positions (1, tokens, width) for images of another size, as FaRL and MAE resize them; timm would antialias."""
    import torch
    from torch.nn.functional import interpolate

    old, new = SIZE // PATCH, size // PATCH
    before = positions.shape[1] - old * old
    grid = torch.as_tensor(positions[:, before:]).reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = interpolate(grid, (new, new), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    return np.concatenate([positions[:, :before], grid.numpy()], axis=1)


def of_timm(state: Any = None, size: int = SIZE, x: Any = None, *, name: Any = None, **settings: Any) -> Any:
    """timm's network; `name` turns timm's names into those of the layout, of which all others are left out."""
    name = name or (lambda key: key)
    built = timm_vit(size, **settings)
    if state is None:
        return {name(key): shape for key, shape in shapes_of(built).items()}, {}
    state = {key: state[name(key)] for key in built.state_dict()}
    state["pos_embed"] = resized(state["pos_embed"], size)
    return outputs_of_timm(loaded(built, state), x)


def of_timm_clip(state: Any = None, size: int = SIZE, x: Any = None) -> Any:
    """timm's network as its models of CLIP have it, those of quick GELU."""
    import torch

    return of_timm(state, size, x, pre_norm=True, norm_layer=torch.nn.LayerNorm, act_layer="quick_gelu")


def sincos(rows_first: bool) -> np.ndarray:
    """Fixed positions by the published code of MoCo v3, or of MAE, which has the column first."""
    import torch

    side, quarter = SIZE // PATCH, WIDTH // 4
    if not rows_first:  # what follows is util/pos_embed.py, get_2d_sincos_pos_embed
        omega = 1.0 / 10_000 ** (np.arange(quarter) / quarter)
        halves = []
        for axis in np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32)):
            out = np.einsum("m,d->md", axis.reshape(-1), omega)
            halves.append(np.concatenate([np.sin(out), np.cos(out)], axis=1))
        table = np.concatenate([np.zeros((1, WIDTH)), np.concatenate(halves, axis=1)])
        return table[None].astype(np.float32)
    line = torch.arange(side, dtype=torch.float32)  # what follows is vits.py, build_2d_sincos_position_embedding
    grid_w, grid_h = torch.meshgrid(line, line, indexing="ij")
    omega = 1.0 / (10_000.0 ** (torch.arange(quarter, dtype=torch.float32) / quarter))
    w, h = (torch.einsum("m,d->md", [grid.flatten(), omega]) for grid in (grid_w, grid_h))
    table = torch.cat([torch.sin(w), torch.cos(w), torch.sin(h), torch.cos(h)], dim=1)[None]
    return torch.cat([torch.zeros(1, 1, WIDTH), table], dim=1).numpy()


def of_fixed(state: Any = None, size: int = SIZE, x: Any = None, *, prefix: str, more: Any, rows_first: bool) -> Any:
    """MAE's, MCF's and MoCo v3's networks: timm's with fixed positions, below a prefix, and others beside."""
    found = of_timm(state, size, x, name=lambda key: prefix + key)
    if state is not None:
        return found
    shapes = found[0] | {name: tuple(shape) for name, shape in more.items()}
    del shapes[f"{prefix}pos_embed"]
    return shapes, {f"{prefix}pos_embed": sincos(rows_first)}


DECODER = {
    "mask_token": (1, 1, 48),
    "decoder_pos_embed": (1, 17, 48),
    "decoder_embed.weight": (48, WIDTH),
    "decoder_blocks.0.norm1.weight": (48,),
    "decoder_pred.bias": (192,),
}
OF_MCF = {
    "online_encoder.cls_token": (1, 1, WIDTH),
    "online_encoder.fc.0.weight": (64, WIDTH),
    "target_encoder.fc.1.running_mean": (64,),
    "predictor.0.weight": (64, 16),
    "perceptual_loss.model.norm.weight": (WIDTH,),
}
OF_MOCO = {
    "base_encoder.head.0.weight": (64, WIDTH),
    "momentum_encoder.cls_token": (1, 1, WIDTH),
    "predictor.0.weight": (64, 16),
}


def of_dinov2(state: Any = None, size: int = SIZE, x: Any = None, *, registers: int) -> Any:
    """facebookresearch's DINOv2 in timm's network, which timm's own conversion fills."""
    from timm.models import vision_transformer

    names = {} if not registers else dict(reg_tokens=registers, no_embed_class=True)
    built = timm_vit(size, init_values=1e-5, **names)
    if state is None:
        shapes = shapes_of(built) | {"mask_token": (1, WIDTH)}
        if registers:
            shapes["register_tokens"] = shapes.pop("reg_token")
        return shapes | {"pos_embed": (1, (SIZE // PATCH) ** 2 + 1, WIDTH)}, {}
    import torch

    state = {**state, "pos_embed": resized(state["pos_embed"], size)}
    tensors = {name: torch.from_numpy(x) for name, x in state.items()}
    return outputs_of_timm(loaded(built, vision_transformer.checkpoint_filter_fn(tensors, built)), x)


def of_dinov3(state: Any = None, size: int = SIZE, x: Any = None, *, names: str = "own", bias: bool = True) -> Any:
    """DINOv3 in timm's Eva, by timm's names, or by facebookresearch's `own`, which timm's conversion reads."""
    import torch
    from timm.models import eva

    built = eva.Eva(
        img_size=size,
        **dict(patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0, global_pool="token"),
        **dict(qkv_bias=bias, init_values=1e-5, rope_type="dinov3", rope_temperature=100, rope_rotate_half=True),
        **dict(use_rot_pos_emb=True, use_abs_pos_emb=False, num_reg_tokens=4, use_fc_norm=False, dynamic_img_size=True),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
    )
    if names == "timm":
        return (shapes_of(built), {}) if state is None else outputs_of_timm(loaded(built, state), x)
    if state is None:
        shapes = {}
        for name, shape in shapes_of(built).items():
            block = name.partition(".attn.")[0]
            if name.endswith("q_bias"):
                shapes[f"{block}.attn.qkv.bias"] = (3 * WIDTH,)
            elif not name.endswith("v_bias"):
                ours = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
                shapes[ours.replace("reg_token", "storage_tokens")] = shape
        mask = np.repeat(np.array([1, 0, 1], np.float32), WIDTH)
        masks = {f"blocks.{index}.attn.qkv.bias_mask": mask for index in range(DEPTH)}
        quarter = WIDTH // HEADS // 4  # what follows is layers/rope_position_encoding.py, RopePositionEmbedding
        periods = (100.0 ** (2 * torch.arange(quarter) / (2 * quarter))).float().numpy()
        return shapes | {"mask_token": (1, WIDTH)}, masks | {"rope_embed.periods": periods}
    converted = eva.checkpoint_filter_fn({name: torch.from_numpy(x) for name, x in state.items()}, built)
    return outputs_of_timm(loaded(built, converted), x)


def of_open_clip_siglip(state: Any = None, size: int = SIZE, x: Any = None) -> Any:
    """timm's network with attention that pools and open_clip's text tower, as open_clip has them in one model."""
    import torch
    from open_clip.transformer import TextTransformer

    sizes = dict(context_length=PIECES.shape[1], vocab_size=320, output_dim=WIDTH, layers=TEXT["depth"])
    built = TextTransformer(
        **sizes,
        **dict(width=TEXT["width"], heads=TEXT["heads"], no_causal_mask=True, pool_type="last", proj_bias=True),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        act_layer=partial(torch.nn.GELU, approximate="tanh"),
    )
    settings = dict(class_token=False, global_pool="map", act_layer="gelu_tanh")
    found = of_timm(state, size, x, name=lambda key: f"visual.trunk.{key}", **settings)
    if state is None:
        words = {f"text.{name}": shape for name, shape in shapes_of(built).items()}
        return found[0] | words | {"logit_scale": (), "logit_bias": ()}, {}
    words = {name.removeprefix("text."): each for name, each in state.items() if name.startswith("text.")}
    texts = torch.nn.functional.normalize(loaded(built, words)(torch.from_numpy(PIECES)), dim=-1)
    images = torch.nn.functional.normalize(found["pooled"], dim=-1)
    scale, bias = (float(state[f"logit_{each}"]) for each in ("scale", "bias"))
    return found | {"texts": texts, "logits": np.exp(scale) * images @ texts.T + bias}


def saved_shapes(built: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the file that `save_pretrained` writes."""
    import tempfile

    import safetensors

    with tempfile.TemporaryDirectory() as folder:
        built.save_pretrained(folder)
        with safetensors.safe_open(f"{folder}/model.safetensors", "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def from_saved(kind: Any, config: Any, state: Mapping[str, Any]) -> Any:
    """The network that `from_pretrained` makes of a file, of which no array is missing or too many, in float64."""
    import tempfile

    import safetensors.numpy

    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        safetensors.numpy.save_file(dict(state), f"{folder}/model.safetensors", metadata={"format": "pt"})
        built, said = kind.from_pretrained(folder, output_loading_info=True)
    if odd := {name: which for name, which in said.items() if which}:
        raise ValueError(f"{kind.__name__} says {odd}")
    return built.double().eval()


def of_transformers(
    state: Any = None, size: int = SIZE, x: Any = None, *, kind: str, before: int, raw: bool = False, **settings: Any
) -> Any:
    """A visual network of transformers; `raw` says that its last states are not normalised."""
    import transformers

    sizes = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIZE)
    if "Registers" in kind and state is not None:  # it would antialias
        name, sizes["image_size"] = "embeddings.position_embeddings", size
        state = {**state, name: resized(state[name], size)}
    config = getattr(transformers, f"{kind.replace('Model', 'Config')}")(**sizes, patch_size=PATCH, **settings)
    kind = getattr(transformers, kind)
    if state is None:
        return saved_shapes(kind(config)), {}
    built = from_saved(kind, config, state)
    more = {} if "Dino" in kind.__name__ or "DINO" in kind.__name__ else dict(interpolate_pos_encoding=True)
    seen = built(x, **more)
    return {"pooled": seen.pooler_output, ("tokens" if raw else "normed"): seen.last_hidden_state[:, before:]}


def of_naflex(state: Any = None, size: int = SIZE, x: Any = None) -> Any:
    """transformers' Siglip2VisionModel, whose processor makes a list of patches of each image and pads it."""
    import torch
    import transformers
    from transformers.models.siglip2 import image_processing_siglip2

    sizes = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH)
    config = transformers.Siglip2VisionConfig(**sizes, patch_size=PATCH, num_patches=(SIZE // PATCH) ** 2)
    if state is None:
        return saved_shapes(transformers.Siglip2VisionModel(config)), {}
    built, side = from_saved(transformers.Siglip2VisionModel, config, state), size // PATCH
    rows = [image_processing_siglip2.convert_image_to_patches(each, PATCH) for each in x]
    padded = [image_processing_siglip2.pad_along_first_dim(each, side * side + 3) for each in rows]
    seen, mask = (torch.stack(each) for each in zip(*padded, strict=True))
    found = built(seen, pixel_attention_mask=mask, spatial_shapes=torch.tensor([[side, side]] * len(x)))
    return {"pooled": found.pooler_output, "normed": found.last_hidden_state[:, : side * side]}


def of_hf_clip(state: Any = None, size: int = SIZE, x: Any = None) -> Any:
    """transformers' CLIPModel, also for two captions."""
    import torch
    import transformers

    vision = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIZE)
    vision |= dict(patch_size=PATCH, intermediate_size=4 * WIDTH)
    words = dict(hidden_size=TEXT["width"], num_hidden_layers=TEXT["depth"], num_attention_heads=TEXT["heads"])
    words |= dict(intermediate_size=4 * TEXT["width"], eos_token_id=49407, bos_token_id=49406, pad_token_id=0)
    config = transformers.CLIPConfig(vision_config=vision, text_config=words, projection_dim=SPACE)
    if state is None:
        return saved_shapes(transformers.CLIPModel(config)), {}
    built = from_saved(transformers.CLIPModel, config, state)
    seen = built(input_ids=torch.from_numpy(text()), pixel_values=x, interpolate_pos_encoding=True)
    return {
        "pooled": built.vision_model.post_layernorm(seen.vision_model_output.last_hidden_state[:, 0]),
        "tokens": seen.vision_model_output.last_hidden_state[:, 1:],
        "images": seen.image_embeds,
        "texts": seen.text_embeds,
        "logits": seen.logits_per_image,
    }


def of_hf_siglip(state: Any = None, size: int = SIZE, x: Any = None) -> Any:
    """transformers' SiglipModel, also for captions."""
    import torch
    import transformers

    vision = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIZE)
    vision |= dict(patch_size=PATCH, intermediate_size=4 * WIDTH)
    words = dict(hidden_size=TEXT["width"], num_hidden_layers=TEXT["depth"], num_attention_heads=TEXT["heads"])
    words |= dict(intermediate_size=3 * TEXT["width"], vocab_size=320, max_position_embeddings=PIECES.shape[1])
    config = transformers.SiglipConfig(vision_config=vision, text_config=words | dict(projection_size=WIDTH))
    if state is None:
        return saved_shapes(transformers.SiglipModel(config)), {}
    built = from_saved(transformers.SiglipModel, config, state)
    seen = built(input_ids=torch.from_numpy(PIECES), pixel_values=x, interpolate_pos_encoding=True)
    whole = {"texts": seen.text_embeds, "images": seen.image_embeds, "logits": seen.logits_per_image}
    return whole | {
        "pooled": seen.vision_model_output.pooler_output,
        "normed": seen.vision_model_output.last_hidden_state,
    }


def of_clip(quick: bool) -> Callable[..., Any]:
    act = "quick_gelu" if quick else "gelu"
    return partial(
        of_transformers, kind="CLIPVisionModel", before=1, raw=True, intermediate_size=4 * WIDTH, hidden_act=act
    )


HF = partial(of_transformers, intermediate_size=4 * WIDTH)
CASES = {
    "hf_clip": Case("hf_clip", CLIP, of_hf_clip),
    "hf_clip_visual": Case("hf_clip", CLIP, of_clip(True)),
    "hf_clip_gelu": Case("hf_clip_gelu", CLIP, of_clip(False)),
    "hf_siglip": Case("hf_siglip", HALF, partial(HF, kind="SiglipVisionModel", before=0)),
    "hf_siglip_texts": Case("hf_siglip", HALF, of_hf_siglip),
    "hf_siglip2": Case("hf_siglip2", HALF, of_naflex),
    "hf_dinov2": Case("hf_dinov2", IMAGENET, partial(of_transformers, kind="Dinov2Model", before=1)),
    "hf_dinov2_registers": Case(
        "hf_dinov2", IMAGENET, partial(of_transformers, kind="Dinov2WithRegistersModel", before=5)
    ),
    "hf_dinov3": Case("hf_dinov3", IMAGENET, partial(HF, kind="DINOv3ViTModel", before=5, num_register_tokens=4)),
    "mae": Case("mae", IMAGENET, partial(of_fixed, prefix="", more=DECODER, rows_first=False)),
    "mcf": Case("mcf", IMAGENET, partial(of_fixed, prefix="target_encoder.", more=OF_MCF | DECODER, rows_first=False)),
    "moco": Case("moco", IMAGENET, partial(of_fixed, prefix="base_encoder.", more=OF_MOCO, rows_first=True)),
    "dinov2": Case("dinov2", IMAGENET, partial(of_dinov2, registers=0)),
    "dinov2_registers": Case("dinov2", IMAGENET, partial(of_dinov2, registers=4)),
    "dinov3": Case("dinov3", IMAGENET, of_dinov3),
    "timm_dinov3": Case("timm_dinov3", IMAGENET, partial(of_dinov3, names="timm")),
    "timm_dinov3_no_bias": Case("timm_dinov3", IMAGENET, partial(of_dinov3, names="timm", bias=False)),
    "open_clip_siglip": Case("open_clip_siglip", HALF, of_open_clip_siglip),
    "timm": Case("timm", IMAGENET, of_timm),
    "timm_mean": Case("timm", IMAGENET, partial(of_timm, global_pool="avg", init_values=1e-5)),
    "timm_registers": Case("timm", IMAGENET, partial(of_timm, reg_tokens=4, no_embed_class=True)),
    "timm_placed_registers": Case("timm", IMAGENET, partial(of_timm, reg_tokens=4)),
    "timm_clip": Case("timm", CLIP, of_timm_clip),
    "timm_wide": Case(
        "timm", HALF, partial(of_timm, class_token=False, global_pool="map", mlp_ratio=3.5, act_layer="gelu_tanh")
    ),
}


def kept(case: str) -> tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray]]:
    """The names and shapes of a case's state dict, and its fixed arrays, as layouts.npz holds them."""
    with np.load(PATH) as stored:
        shapes = {name: tuple(shape) for name, shape in json.loads(str(stored[f"{case} shapes"])).items()}
        prefix = f"{case} fixed "
        return shapes, {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}


def state_of(case: str) -> dict[str, np.ndarray]:
    """The state dict of a case."""
    return drawn(*kept(case))


def frozen(case: str, size: int) -> dict[str, np.ndarray]:
    """The published library's outputs for the images of a size, by name."""
    prefix = f"{case} {size} "
    with np.load(PATH) as stored:
        return {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}


def main() -> None:
    """Write layouts.npz."""
    import torch

    torch.set_grad_enabled(False)
    libraries = ("torch", "timm", "transformers")
    versions = [f"{name} {importlib.import_module(name).__version__}" for name in libraries]
    found: dict[str, Any] = {"versions": np.array(versions)}
    for name, case in CASES.items():
        torch.manual_seed(0)
        shapes, fixed = case.theirs()
        shapes = {key: shape for key, shape in shapes.items() if key not in fixed}
        found[f"{name} shapes"] = np.array(json.dumps(shapes))
        found |= {f"{name} fixed {key}": x for key, x in fixed.items()}
        for size in SIZES:
            outputs = case.theirs(drawn(shapes, fixed), size, pixels(size, case.normalisation))
            found |= {f"{name} {size} {key}": x.numpy().astype(np.float32) for key, x in outputs.items()}
    np.savez_compressed(PATH, **found)
    print(f"{PATH}: {len(found) - 1} arrays, {PATH.stat().st_size / 1e6:.2f} MB; {', '.join(versions)}")


if __name__ == "__main__":
    main()
