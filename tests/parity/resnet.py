"""Outputs and gradients of torchvision's ResNet, in evaluation and training, for weights and images that need no file.

python tests/parity/resnet.py

writes resnet.npz, which tests read where torchvision is not installed. All is computed in float64, so that it does not
depend on the machine, and stored in float32 with the libraries' versions.
"""

import zlib
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
SIZE, IMAGES = 64, 4
CASES = {  # name: bottlenecks, blocks of each stage, width of a group, which is 128 in wide networks
    "basic": (False, (2, 1, 1, 1), 64),
    "bottleneck": (True, (1, 2, 1, 1), 64),
    "wide": (True, (1, 1, 1, 1), 128),
}
KEPT = 16  # every so many channels of a map, and values of a gradient


def draws(name, shape):
    """Uniform numbers of variance 1, by a name: NumPy's RandomState, whose draws never change, seeded by its CRC."""
    return np.random.RandomState(zlib.crc32(name.encode())).uniform(-(3**0.5), 3**0.5, shape)


def weight(name, shape):
    """An array of a network by its name in torch; activations stay near 1, and nothing is at 0 or 1."""
    u, leaf = draws(name, shape), name.rpartition(".")[2]
    if len(shape) == 4:
        return u * (2 / np.prod(shape[1:])) ** 0.5
    if leaf == "running_var":
        return 1 + 0.3 * np.abs(u)
    return 1 + 0.2 * u if leaf == "weight" else 0.3 * u


def image():
    """uint8 images, (b, h, w, 3)."""
    return np.random.RandomState(0).randint(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)


def summed(name, gradient):
    """What is kept of the gradient of an array: its norm, its product with draws, and some values."""
    along = draws(f"{name} along", gradient.shape) / gradient.size**0.5
    return np.array([np.linalg.norm(gradient), (gradient * along).sum(), *gradient.ravel()[:KEPT]])


def theirs(case):
    """What torchvision gives, by name."""
    import torch
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
    from torchvision.transforms.functional import normalize

    bottleneck, blocks, width = CASES[case]
    model = ResNet(Bottleneck if bottleneck else BasicBlock, list(blocks), width_per_group=width).double()
    model.fc = torch.nn.Identity()
    state = model.state_dict()
    model.load_state_dict(
        {name: torch.from_numpy(weight(name, x.shape)) if x.is_floating_point() else x for name, x in state.items()}
    )
    scaled = torch.from_numpy(image()).permute(0, 3, 1, 2).double() / 255
    seen = normalize(scaled, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = {}
    for mode in ("eval", "train"):
        model.train(mode == "train")
        maps = []
        stages = (model.layer1, model.layer2, model.layer3, model.layer4)
        hooks = [stage.register_forward_hook(lambda _, __, x, maps=maps: maps.append(x)) for stage in stages]
        model.zero_grad()
        pooled = model(seen)
        (pooled * torch.from_numpy(draws("loss", pooled.shape))).sum().backward()
        found[f"{mode} pooled"] = pooled.detach().numpy()
        for stage, x in enumerate(maps):
            found[f"{mode} map {stage}"] = x.detach().permute(0, 2, 3, 1).numpy()[..., ::KEPT]
        for name, parameter in model.named_parameters():
            found[f"{mode} gradient {name}"] = summed(name, parameter.grad.numpy())
        for hook in hooks:
            hook.remove()
    for name, x in model.state_dict().items():
        if "running" in name:
            found[f"statistics {name}"] = x.numpy()
    return found


def main():
    """Write resnet.npz."""
    import torch
    import torchvision

    kept = {"versions": np.array([f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"])}
    for case in CASES:
        kept |= {f"{case} {name}": x.astype(np.float32) for name, x in theirs(case).items()}
    np.savez_compressed(PATH, **kept)
    print(f"{PATH}: {len(kept) - 1} arrays, {PATH.stat().st_size / 1e6:.2f} MB; {', '.join(kept['versions'])}")


if __name__ == "__main__":
    main()
