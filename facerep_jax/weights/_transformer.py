"""Transformers in torch's arrays, which the layouts that hold one share; this module is no layout itself.

In torch a matrix is (out, in), query, key and value are one matrix whose rows follow in that order, and each block has
arrays of its own. Ours are (in, out), apart, and stacked along a leading axis of depth.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]

LINEAR, NORM = {"kernel": "weight", "bias": "bias"}, {"scale": "weight", "bias": "bias"}  # our leaf -> theirs
PARTS = {  # part of a block -> its leaves, and our modules that it holds
    "qkv": (LINEAR, ("query", "key", "value")),
    "out": (LINEAR, ("out",)),
    "up": (LINEAR, ("up",)),
    "down": (LINEAR, ("down",)),
    "attention_norm": (NORM, ("attention_norm",)),
    "mlp_norm": (NORM, ("mlp_norm",)),
}
PATCHES = "embed/kernel"  # the one array outside blocks whose axes differ
SIZES = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H"}  # width -> size in the variant of a ViT


class Tower(NamedTuple):
    """Where a layout keeps the arrays of a transformer."""

    outside: Mapping[str, str]  # our path -> their name, of all arrays outside blocks
    blocks: str  # their name of the list of blocks
    parts: Mapping[str, str]  # of `PARTS` -> their name, with what stands between it and `weight` or `bias`

    def block(self) -> list[tuple[list[str], str]]:
        """The arrays of a block: the paths of ours, which are joined to one of theirs, and its name in the block."""
        return [
            ([f"blocks/{module}/{ours}" for module in modules], self.parts[part] + theirs)
            for part, (leaves, modules) in PARTS.items()
            for ours, theirs in leaves.items()
        ]

    def depth(self, arrays: Arrays) -> int:
        """The number of blocks. Raises ValueError if an array is missing or unknown."""
        indices = (re.match(rf"{re.escape(self.blocks)}\.(\d+)\.", name) for name in arrays)
        depth = max((int(match[1]) + 1 for match in indices if match), default=1)  # if none, the first is missing
        inside = [f"{self.blocks}.{index}.{name}" for index in range(depth) for _, name in self.block()]
        require(arrays, [*self.outside.values(), *inside])
        return depth

    def imported(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Our arrays by path, in float32. Raises ValueError if one of theirs is missing or unknown."""
        depth = self.depth(arrays)
        theirs = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
        found = {path: theirs[name] for path, name in self.outside.items()}
        if PATCHES in found:
            found[PATCHES] = patches(found[PATCHES])
        for paths, name in self.block():
            stacked = np.stack([theirs[f"{self.blocks}.{index}.{name}"] for index in range(depth)])
            for path, x in zip(paths, np.split(stacked, len(paths), axis=1), strict=True):
                found[path] = x.swapaxes(1, 2) if x.ndim == 3 else x
        return found

    def exported(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Their arrays by name. Raises ValueError if one of ours is missing or unknown."""
        require(arrays, [*self.outside, *(path for paths, _ in self.block() for path in paths)])
        ours = dict(arrays)
        if PATCHES in ours:
            ours[PATCHES] = convolution(ours[PATCHES])
        found = {name: ours[path] for path, name in self.outside.items()}
        for paths, name in self.block():
            for index in range(len(ours[paths[0]])):
                found[f"{self.blocks}.{index}.{name}"] = np.concatenate([ours[path][index].T for path in paths])
        return {name: np.ascontiguousarray(x) for name, x in found.items()}


def patches(kernel: np.ndarray) -> np.ndarray:
    """A convolution of patches, (out, colours, rows, columns), as a matrix from rows, columns and colours to out."""
    return kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))


def convolution(matrix: np.ndarray) -> np.ndarray:
    """The way back from `patches`; patches are square."""
    side = round((len(matrix) / 3) ** 0.5)
    return matrix.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


def require(given: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise ValueError, which names one that is missing or unknown, unless the names are those that are wanted."""
    given, wanted = set(given), set(wanted)
    if missing := sorted(wanted - given):
        raise ValueError(f"no array {missing[0]!r}")
    if unknown := sorted(given - wanted):
        raise ValueError(f"the array {unknown[0]!r} is unknown")


def vit(flavour: str, *, patch: int, width: int, depth: int, image_size: int) -> dict[str, Any]:
    """The spec of a vision transformer of a published size. Raises ValueError if its heads cannot be told.

    No array shows how many heads there are. They are 64 wide in all published sizes but H, which has 16 of 80.
    """
    if width % 64:
        raise ValueError(f"the encoder's width {width} is that of no published size, so that its heads are not known")
    return {
        "call": "facerep_jax.models.vit:ViT",
        "flavour": flavour,
        "variant": f"{SIZES.get(width, 'Nano')}/{patch}",  # what follows overrides the variant's sizes
        "image_size": image_size,
        "width": width,
        "depth": depth,
        "heads": 16 if width == 1280 else width // 64,
    }
