"""IResNet as a state dict of insightface's arcface_torch; the scale of its last normalisation, always 1, is left out.

Source: insightface, recognition/arcface_torch/backbones/iresnet.py. Its last layer reads the map channel by channel,
ours place by place.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]

BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 14, 3), "100": (3, 13, 30, 3), "200": (6, 26, 60, 6)}
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
OUTSIDE = {"stem": "conv1", "stem/norm": "bn1", "activation": "prelu", "norm": "bn2", "norm_out": "features"}
INSIDE = {
    "norm": "bn1",
    "first": "conv1",
    "first/norm": "bn2",
    "activation": "prelu",
    "second": "conv2",
    "second/norm": "bn3",
    "shortcut": "downsample.0",
    "shortcut/norm": "downsample.1",
}
LINEAR = {"linear/kernel": "fc.weight", "linear/bias": "fc.bias"}
ONES = "features.weight"


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout or of no published variant."""
    for needed in ("conv1.weight", "fc.weight", "prelu.weight", ONES):
        if needed not in arrays:
            raise ValueError(f"no array {needed!r}")
    blocks = [0, 0, 0, 0]
    for name in arrays:
        if match := re.fullmatch(r"layer([1-4])\.(\d+)\.conv1\.weight", name):
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
    variant = next((name for name, counts in BLOCKS.items() if counts == tuple(blocks)), None)
    if variant is None:
        raise ValueError(f"an IResNet of {tuple(blocks)} blocks is no published one")
    wanted = {theirs for _, theirs in pairs(tuple(blocks))} | {ONES}
    theirs = {name for name in arrays if not name.endswith("num_batches_tracked")}
    if missing := sorted(wanted - theirs):
        raise ValueError(f"no array {missing[0]!r}")
    if unknown := sorted(theirs - wanted):
        raise ValueError(f"the array {unknown[0]!r} is unknown")
    if np.abs(np.asarray(arrays[ONES]) - 1).max() > 0:
        raise ValueError(f"{ONES} is not 1, which insightface keeps it at")
    channels, width = arrays["conv1.weight"].shape[0], len(arrays["fc.bias"])
    if width != 8 * channels:
        raise ValueError(f"an embedding of {width} is not as wide as the last map, {8 * channels}")
    side = round((arrays["fc.weight"].shape[1] / width) ** 0.5)
    spec = {"call": "facerep_jax.models.iresnet:IResNet", "variant": variant, "image_size": 16 * side}
    return spec if channels == 64 else spec | {"channels": channels}


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """Our arrays by path, in float32."""
    theirs = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
    blocks = [1 + max(int(n.split(".")[1]) for n in theirs if n.startswith(f"layer{stage}.")) for stage in range(1, 5)]
    found = {path: theirs[name] for path, name in pairs(tuple(blocks))}
    found = {path: x.transpose(2, 3, 1, 0) if x.ndim == 4 else x for path, x in found.items()}
    kernel = found["linear/kernel"]
    width, side = len(kernel), round((kernel.shape[1] / len(kernel)) ** 0.5)
    by_place = kernel.reshape(width, -1, side, side).transpose(2, 3, 1, 0)
    return found | {"linear/kernel": by_place.reshape(-1, width)}


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Their arrays by name."""
    places = [path.split("/") for path in arrays]
    blocks = [1 + max(int(p[2]) for p in places if p[:2] == ["groups", str(stage)]) for stage in range(4)]
    kernel = np.asarray(arrays["linear/kernel"])
    width, side = kernel.shape[1], round((len(kernel) / kernel.shape[1]) ** 0.5)
    by_channel = kernel.reshape(side, side, -1, width).transpose(3, 2, 0, 1)
    ours = {**arrays, "linear/kernel": by_channel.reshape(width, -1)}
    if unknown := sorted(set(ours) - {path for path, _ in pairs(tuple(blocks))}):
        raise ValueError(f"{unknown[0]} is no array of an IResNet")
    found = {name: np.asarray(ours[path]) for path, name in pairs(tuple(blocks))} | {ONES: np.ones(width, np.float32)}
    return {name: np.ascontiguousarray(x.transpose(3, 2, 0, 1)) if x.ndim == 4 else x for name, x in found.items()}


def pairs(blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    """Our path and their name of each array of a network with so many blocks in its stages."""
    modules = list(OUTSIDE.items())
    for stage, count in enumerate(blocks):
        for block in range(count):
            inside = {k: v for k, v in INSIDE.items() if not block or not k.startswith("shortcut")}
            modules += [(f"groups/{stage}/{block}/{k}", f"layer{stage + 1}.{block}.{v}") for k, v in inside.items()]
    found = list(LINEAR.items())
    for ours, theirs in modules:
        last = ours.rpartition("/")[2]
        if last == "activation":
            found.append((f"{ours}/slope", f"{theirs}.weight"))
        elif last.startswith("norm"):
            found += [(f"{ours}/{k}", f"{theirs}.{v}") for k, v in NORM.items() if f"{theirs}.{v}" != ONES]
        else:
            found.append((f"{ours}/kernel", f"{theirs}.weight"))
    return found
