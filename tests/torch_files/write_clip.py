"""Writes clip.pt, an archive of TorchScript as OpenAI publishes CLIP, and clip.npz, what open_clip makes of it.

python tests/torch_files/write_clip.py    # PyTorch 2.13 and open_clip 3.3 wrote the files here

The network is small and drawn. As in OpenAI's archives, numbers are halves, three settings are tensors, and blocks of
the text tower hold their masks as attributes that no state dict has (open_clip/openai.py and clip/clip.py read so).
"""

import pathlib
import zlib

import numpy as np
import open_clip
import torch

HERE = pathlib.Path(__file__).parent
WIDTH, SPACE, PATCH, SIZE, WORDS, CONTEXT = 64, 24, 16, 32, 40, 77


def block(name):
    wide = 4 * WIDTH
    return {
        f"{name}.attn.in_proj_weight": (3 * WIDTH, WIDTH),
        f"{name}.attn.in_proj_bias": (3 * WIDTH,),
        f"{name}.attn.out_proj.weight": (WIDTH, WIDTH),
        f"{name}.attn.out_proj.bias": (WIDTH,),
        **{f"{name}.ln_{i}.{kind}": (WIDTH,) for i in (1, 2) for kind in ("weight", "bias")},
        f"{name}.mlp.c_fc.weight": (wide, WIDTH),
        f"{name}.mlp.c_fc.bias": (wide,),
        f"{name}.mlp.c_proj.weight": (WIDTH, wide),
        f"{name}.mlp.c_proj.bias": (WIDTH,),
    }


SHAPES = {
    "visual.class_embedding": (WIDTH,),
    "visual.positional_embedding": ((SIZE // PATCH) ** 2 + 1, WIDTH),
    "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
    **{f"visual.{norm}.{kind}": (WIDTH,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")},
    **block("visual.transformer.resblocks.0"),
    "visual.proj": (WIDTH, SPACE),
    "token_embedding.weight": (WORDS, WIDTH),
    "positional_embedding": (CONTEXT, WIDTH),
    **block("transformer.resblocks.0"),
    **{f"ln_final.{kind}": (WIDTH,) for kind in ("weight", "bias")},
    "text_projection": (WIDTH, SPACE),
    "logit_scale": (),
}


def drawn(name, shape):
    draws = np.random.RandomState(zlib.crc32(name.encode())).uniform(-(3**0.5), 3**0.5, shape)
    if ".ln_" in name or name.startswith("ln_"):
        return 0.2 * draws + name.endswith("weight")
    return draws * (0.3 if len(shape) < 2 else np.prod(shape[1:]) ** -0.5)


def archive():
    root = torch.nn.Module()
    for name, shape in SHAPES.items():
        module = root
        *path, last = name.split(".")
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, torch.nn.Parameter(torch.tensor(drawn(name, shape)).half(), False))
    for name, value in (("input_resolution", SIZE), ("context_length", CONTEXT), ("vocab_size", WORDS)):
        root.register_buffer(name, torch.tensor(value))
    root.transformer.resblocks.get_submodule("0").attn_mask = torch.zeros(4, 4).half()
    return torch.jit.script(root)


def inputs():
    """Two uint8 images (2, h, w, 3) and two captions (2, 77)."""
    rng = np.random.RandomState(0)
    words = np.zeros((2, CONTEXT), np.int64)
    words[0, :3], words[1, :5] = (38, 5, 39), (38, 7, 8, 9, 39)
    return rng.randint(0, 256, (2, SIZE, SIZE, 3), np.uint8), words


if __name__ == "__main__":
    torch.jit.save(archive(), str(HERE / "clip.pt"))
    model = open_clip.load_openai_model(str(HERE / "clip.pt"), precision="fp32", device="cpu").eval()
    images, words = inputs()
    mean, std = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    pixels = torch.tensor(((images / 255 - mean) / std).transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        found = {"images": model.encode_image(pixels), "texts": model.encode_text(torch.tensor(words))}
    np.savez_compressed(HERE / "clip.npz", **{name: x.numpy() for name, x in found.items()})
