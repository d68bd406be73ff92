"""Writes mcf.npz: losses and gradients of the published MAE and MCF for weights that NumPy draws again in the test.

Needs torch, timm 0.3.2 and checkouts of both repositories, of which nothing is copied here:

    python tests/parity/mcf.py facebookresearch/mae nomewang/MCF

MCF's code asks for CUDA, a process group, timm's torchvision and M1 of 224 pixels. Each is replaced by what does the
same on a CPU for small images: nothing is computed by other code than the published. All is computed in float64.
"""

import importlib.util
import sys
import types
import zlib
from collections import abc
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
BATCH, PATCH, SIDE, KEPT = 4, 4, 4, 4  # 16 patches, of which MAE keeps a quarter
WIDTH, DEPTH, HEADS = 32, 2, 2
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 16, 2, 2
M1_WIDTH, M1_DEPTH, M1_HEADS = 16, 12, 2
HIDDEN, OUT = 24, 8
MOMENTUM = 0.99
FIXED = ("pos_embed", "running_", "num_batches")


def drawn(name, shape):
    """A parameter of the published code: a function of its name and shape, at which activations stay near 1."""
    draws = np.random.RandomState(zlib.crc32(name.encode())).uniform(-(3**0.5), 3**0.5, shape)
    if name.endswith("weight") and len(shape) == 1:
        return 1 + 0.2 * draws
    if name.endswith("weight"):
        return draws * np.prod(shape[1:]) ** -0.5
    return 0.3 * draws


def inputs():
    """uint8 images, and noise whose smallest values tell which patches the encoder and the teacher keep."""
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (BATCH, SIDE * PATCH, SIDE * PATCH, 3), np.uint8)
    return image, rng.uniform(size=(BATCH, SIDE**2)), rng.uniform(size=(BATCH, SIDE**2))


def summary(name, gradient):
    """A gradient in two numbers: its norm, and its product with a direction of length one that is drawn by its name."""
    gradient = np.asarray(gradient, np.float64)
    direction = np.random.RandomState(zlib.crc32(f"{name}!".encode())).normal(size=gradient.shape)
    return np.array([np.linalg.norm(gradient), (gradient * direction).sum() / np.linalg.norm(direction)])


class Absent(types.ModuleType):
    """A module that is imported and not used."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock()


def published(checkout, *names):
    """Modules of a checkout."""
    sys.path.insert(0, checkout)
    found = []
    for name in names:
        spec = importlib.util.spec_from_file_location(name, Path(checkout, f"{name}.py"))
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(module)
    return found


def losses_of(model, run, prefix):
    """Losses of a model with drawn weights by name, and summaries of the gradients of the last."""
    import torch

    model = model.double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not any(part in name for part in FIXED):
                parameter.copy_(torch.from_numpy(drawn(name, tuple(parameter.shape))))
    losses = run(model)
    list(losses.values())[-1].backward()
    found = {f"{prefix} {name}": loss.detach().numpy() for name, loss in losses.items()}
    return found | {
        f"{prefix} gradient {name}": summary(name, parameter.grad.numpy())
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def main(mae_checkout, mcf_checkout):
    """Write mcf.npz."""
    import torch

    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets"):
        sys.modules[name] = Absent(name)
    sys.modules["torch._six"] = Absent("torch._six")
    sys.modules["torch._six"].container_abcs = abc
    np.float = float
    (mae,) = published(mae_checkout, "models_mae")
    moco, mcf = published(mcf_checkout, "models_moco", "models_mcf")

    image, *noise = inputs()
    mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (torch.from_numpy(image).permute(0, 3, 1, 2).double() / 255 - mean.double()) / std.double()
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    sizes = dict(img_size=SIDE * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS)
    sizes |= dict(decoder_embed_dim=DECODER_WIDTH, decoder_depth=DECODER_DEPTH, decoder_num_heads=DECODER_HEADS)
    draws = []
    torch.rand = lambda *shape, device=None: torch.from_numpy(draws.pop(0))

    def of_mae(model):
        draws.append(noise[0])
        return {"loss": model(pixels, mask_ratio=0.75)[0]}

    found = {}
    for normalised in (False, True):
        model = mae.MaskedAutoencoderViT(**sizes, norm_layer=norm, norm_pix_loss=normalised)
        found |= losses_of(model, of_mae, f"mae {normalised}")

    class Small(mcf.MaskedAutoencoderViT):
        def _build_projector_and_predictor_mlps(self, hidden_dim, dim, mlp_dim):
            super()._build_projector_and_predictor_mlps(hidden_dim, OUT, HIDDEN)

    m1 = dict(img_size=SIDE * PATCH, patch_size=PATCH, embed_dim=M1_WIDTH, depth=M1_DEPTH, num_heads=M1_HEADS)
    moco.vit_base_patch16 = lambda **more: moco.VisionTransformer(**m1, qkv_bias=True, norm_layer=norm, **more)
    moco.F.interpolate = lambda x, size: x  # to M1's own 224 pixels, which ours are
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self: self
    torch.distributed.get_rank = lambda: 0
    mcf.concat_all_gather = lambda x: x
    model = Small(**sizes, norm_layer=norm, cpl_ckpt="")
    fixed = torch.from_numpy(mcf.get_2d_sincos_pos_embed(M1_WIDTH, SIDE, cls_token=True))
    model.perceptual_loss.model.pos_embed.data.copy_(fixed[None])

    def of_mcf(model):
        draws.extend([noise[0], noise[1]])
        apart = {}
        for name in ("sslp_loss", "forward_contrastive"):
            whole = getattr(model, name)
            setattr(model, name, lambda *args, n=name, w=whole, **more: apart.setdefault(n, w(*args, **more)))
        total = model(pixels, mask_ratio=0.75, m=MOMENTUM)[0]
        return {"features": apart["sslp_loss"], "contrast": apart["forward_contrastive"], "loss": total}

    found |= losses_of(model, of_mcf, "mcf")
    np.savez_compressed(PATH, **found)
    print(f"{PATH}: {len(found)} arrays, {PATH.stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
