"""A residual network as a state dict of torchvision's ResNet; FRL's and SwAV's files hold one too, with prefixes.

Source: torchvision.models.resnet; facebookresearch/swav, whose arrays begin with `module.`; FRL (2103.16554;
1adrianb/unsupervised-face-representation), with `module.base_net.`. SwAV frames an image by one pixel and its first
convolution by two more, which is torchvision's frame of three. Both normalise by a standard deviation of 0.228 for red,
where torchvision has 0.229: files with prototypes are taken to be theirs.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]

SIZES = {  # as in `models.resnet`, which this package does not import: blocks, whether bottlenecks, their factor
    "18": ((2, 2, 2, 2), False, 1),
    "34": ((3, 4, 6, 3), False, 1),
    "50": ((3, 4, 6, 3), True, 1),
    "101": ((3, 4, 23, 3), True, 1),
    "152": ((3, 8, 36, 3), True, 1),
    "50-wide": ((3, 4, 6, 3), True, 2),
    "101-wide": ((3, 4, 23, 3), True, 2),
}
PREFIX = re.compile(r"^(module\.)?(base_net\.)?")
PROTOTYPES = re.compile(r"prototypes\..*")
OF_OTHERS = re.compile(rf"fc\..*|projection_(head|net)\..*|{PROTOTYPES.pattern}|.*num_batches_tracked")
LEFT_OUT = {rf"(module\.)?(base_net\.)?({OF_OTHERS.pattern})": "a classifier or projection, prototypes, and counts"}
SWAV_STD = (0.228, 0.224, 0.225)
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
CONV = re.compile(r"(?:layer(\d+)\.(\d+)\.)?conv(\d+)\.weight")


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout or of no published variant."""
    theirs = own(arrays)
    if "conv1.weight" not in theirs:
        raise ValueError("no array 'conv1.weight'")
    places = [(int(m[1]), int(m[2])) for m in map(CONV.fullmatch, theirs) if m and m[1]]
    blocks = tuple(max((block + 1 for stage, block in places if stage == each), default=0) for each in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in theirs
    channels = theirs["conv1.weight"].shape[0]
    inner = theirs["layer1.0.conv1.weight"].shape[0] if "layer1.0.conv1.weight" in theirs else 0
    found = (blocks, bottleneck, inner // channels)
    variant = next((name for name, sizes in SIZES.items() if sizes == found), None)
    if variant is None:
        raise ValueError(f"a residual network of {blocks} blocks of inner width {inner} is no published one")
    spec: dict[str, Any] = {"call": "facerep_jax.models.resnet:ResNet", "variant": variant}
    require(theirs, names(blocks, bottleneck))
    if channels != 64:
        spec["channels"] = channels
    if any(PROTOTYPES.fullmatch(PREFIX.sub("", name)) for name in arrays):
        spec["std"] = SWAV_STD
    return spec


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32; without a classifier, a projection and prototypes."""
    found = {}
    for name, array in own(arrays).items():
        x = np.asarray(array, np.float32)
        found[our_path(name)] = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x
    return found


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Their arrays by name, without prefix, classifier and the number of batches that statistics were taken of."""
    found = {their_name(path): np.asarray(x) for path, x in arrays.items()}
    return {name: np.ascontiguousarray(x.transpose(3, 2, 0, 1)) if x.ndim == 4 else x for name, x in found.items()}


def own(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the encoder alone, and those that are unknown, without prefix."""
    plain = {PREFIX.sub("", name): x for name, x in arrays.items()}
    return {name: x for name, x in plain.items() if not OF_OTHERS.fullmatch(name)}


def names(blocks: tuple[int, ...], bottleneck: bool) -> set[str]:
    """The names of a network's arrays."""
    convs = ["stem"]
    for group, count in enumerate(blocks):
        for block in range(count):
            place = f"groups/{group}/{block}"
            convs += [f"{place}/convs/{index}" for index in range(3 if bottleneck else 2)]
            if not block and (group or bottleneck):
                convs.append(f"{place}/shortcut")
    paths = [f"{conv}/{leaf}" for conv in convs for leaf in ("kernel", *(f"norm/{each}" for each in NORM))]
    return set(map(their_name, paths))


def require(given: Arrays, wanted: set[str]) -> None:
    """Raise ValueError, which names one that is missing or unknown, unless the names are those that are wanted."""
    if missing := sorted(wanted - set(given)):
        raise ValueError(f"no array {missing[0]!r}")
    if unknown := sorted(set(given) - wanted):
        raise ValueError(f"the array {unknown[0]!r} is unknown")


def our_path(name: str) -> str:
    """Our path of one of their arrays: `layer2.0.bn1.weight` is `groups/1/0/convs/0/norm/scale`; ValueError if none."""
    leaves = {theirs: ours for ours, theirs in NORM.items()}
    block = re.fullmatch(r"(?:layer(\d+)\.(\d+)\.)?(conv|bn|downsample\.)(\d+)\.(\w+)", name)
    if block is None or (block[3] == "downsample.") > (block[1] is not None):
        raise ValueError(f"the array {name!r} is unknown")
    stage, index, kind, number, leaf = block.groups()
    conv = kind == "conv" or (kind == "downsample." and number == "0")
    last = "kernel" if conv and leaf == "weight" else f"norm/{leaves[leaf]}" if not conv and leaf in leaves else ""
    if not last:
        raise ValueError(f"the array {name!r} is unknown")
    if stage is None:
        return f"stem/{last}"
    inside = "shortcut" if kind == "downsample." else f"convs/{int(number) - 1}"
    return f"groups/{int(stage) - 1}/{index}/{inside}/{last}"


def their_name(path: str) -> str:
    """Their name of one of our arrays, the way back from `our_path`. Raises ValueError if there is none."""
    match path.split("/"):
        case ["stem", *leaf]:
            place, number = "", 0
        case ["groups", stage, block, "convs", conv, *leaf]:
            place, number = f"layer{int(stage) + 1}.{block}.", int(conv)
        case ["groups", stage, block, "shortcut", *leaf]:
            kind = "0" if leaf == ["kernel"] else "1"
            return f"layer{int(stage) + 1}.{block}.downsample.{kind}.{'weight' if kind == '0' else NORM[leaf[-1]]}"
        case _:
            raise ValueError(f"{path} is no array of a residual network")
    if leaf == ["kernel"]:
        return f"{place}conv{number + 1}.weight"
    if len(leaf) == 2 and leaf[0] == "norm" and leaf[1] in NORM:
        return f"{place}bn{number + 1}.{NORM[leaf[1]]}"
    raise ValueError(f"{path} is no array of a residual network")
