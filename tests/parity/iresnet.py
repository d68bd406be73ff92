"""Outputs and gradients of insightface's IResNet, in evaluation and training, for weights and images that need no file.

python tests/parity/iresnet.py INSIGHTFACE/recognition/arcface_torch/backbones/iresnet.py

writes iresnet.npz, which tests read, for insightface's package has no such network. All is computed in float64.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from resnet import draws, summed, weight

PATH = Path(__file__).with_suffix(".npz")
SIZE, IMAGES, BLOCKS = 112, 4, (1, 2, 1, 1)


def array(name, shape):
    """A weight by its name; the scale of the last normalisation is 1."""
    return np.ones(shape) if name == "features.weight" else weight(name, shape)


def image():
    """uint8 images, (b, h, w, 3)."""
    return np.random.RandomState(1).randint(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)


def theirs(path):
    """What the published network gives, by name."""
    import torch

    found = importlib.util.spec_from_file_location("published_iresnet", path)
    published = importlib.util.module_from_spec(found)
    found.loader.exec_module(published)
    model = published.IResNet(published.IBasicBlock, list(BLOCKS)).double()
    state = {
        name: torch.from_numpy(array(name, x.shape)) if x.is_floating_point() else x
        for name, x in model.state_dict().items()
    }
    model.load_state_dict(state)
    seen = (torch.from_numpy(image()).permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.5
    kept = {}
    for mode in ("eval", "train"):
        model.train(mode == "train")
        model.zero_grad()
        pooled = model(seen)
        (pooled * torch.from_numpy(draws("loss", pooled.shape))).sum().backward()
        kept[f"{mode} pooled"] = pooled.detach().numpy()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                kept[f"{mode} gradient {name}"] = summed(name, parameter.grad.numpy())
    kept |= {f"statistics {name}": x.numpy() for name, x in model.state_dict().items() if "running" in name}
    return kept


def main():
    """Write iresnet.npz."""
    import torch

    kept = {"versions": np.array([f"torch {torch.__version__}"])}
    kept |= {name: x.astype(np.float32) for name, x in theirs(sys.argv[1]).items()}
    np.savez_compressed(PATH, **kept)
    print(f"{PATH}: {len(kept) - 1} arrays, {PATH.stat().st_size / 1e6:.2f} MB; {', '.join(kept['versions'])}")


if __name__ == "__main__":
    main()
