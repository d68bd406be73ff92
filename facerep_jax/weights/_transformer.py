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
MODULES = {  # part of a block -> our modules that one of their arrays holds, by rows, and the leaves of each
    "qkv": (("query", "key", "value"), LINEAR),
    **{name: ((name,), LINEAR) for name in ("query", "key", "value", "out", "up", "down")},
    **{name: ((name,), NORM) for name in ("attention_norm", "mlp_norm")},
    **{name: ((name,), {"": ""}) for name in ("attention_scale", "mlp_scale")},
}
PATCHES = "embed/kernel"  # the one array outside blocks whose axes differ
SIZES = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H"}  # width -> size in the variant of a ViT
HEADS = {1152: 16, 1280: 16}  # width -> heads, where these are not 64 wide
HALF = (0.5, 0.5, 0.5)


class Misfit(ValueError):
    """Arrays that are of another layout; `share` of all names, from 0 to 1, are in both."""

    def __init__(self, message: str, share: float):
        super().__init__(message)
        self.share = share


class Tower(NamedTuple):
    """Where a layout keeps the arrays of a transformer."""

    outside: Mapping[str, str]  # our path -> their name, of arrays outside blocks
    blocks: str  # their name of the list of blocks
    parts: Mapping[str, str]  # of `MODULES` -> their name, with what stands between it and `weight` or `bias`
    joined: Mapping[str, tuple[str, ...]] = {}  # their name -> our paths that it holds by rows, outside blocks
    ones: Mapping[str, int] = {}  # our path -> how many axes of length 1 theirs has before ours, outside blocks

    def block(self) -> list[tuple[list[str], str]]:
        """The arrays of a block: the paths of ours, which are joined to one of theirs, and its name in the block."""
        return [
            ([f"blocks/{module}/{ours}".removesuffix("/") for module in modules], name + theirs)
            for part, name in self.parts.items()
            for modules, leaves in (MODULES[part],)
            for ours, theirs in leaves.items()
        ]

    def depth(self, arrays: Arrays) -> int:
        """The number of blocks. Raises Misfit if an array is missing or unknown."""
        indices = (re.match(rf"{re.escape(self.blocks)}\.(\d+)\.", name) for name in arrays)
        depth = max((int(match[1]) + 1 for match in indices if match), default=1)  # if none, the first is missing
        inside = [f"{self.blocks}.{index}.{name}" for index in range(depth) for _, name in self.block()]
        require(arrays, [*self.outside.values(), *self.joined, *inside])
        return depth

    def imported(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Our arrays by path, in float32. Raises Misfit if one of theirs is missing or unknown."""
        depth = self.depth(arrays)
        theirs = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
        found = {path: self.turned(path, theirs[name]) for path, name in self.outside.items()}
        for name, ours in self.joined.items():
            found |= {path: x.T for path, x in zip(ours, np.split(theirs[name], len(ours)), strict=True)}
        for paths, name in self.block():
            stacked = np.stack([theirs[f"{self.blocks}.{index}.{name}"] for index in range(depth)])
            for path, x in zip(paths, np.split(stacked, len(paths), axis=1), strict=True):
                found[path] = x.swapaxes(1, 2) if x.ndim == 3 else x
        return found

    def turned(self, path: str, theirs: np.ndarray) -> np.ndarray:
        """One of their arrays outside blocks as ours."""
        if path == PATCHES:
            return patches(theirs)
        if path.endswith("kernel"):
            return theirs.T
        count = self.ones.get(path, 0)
        if theirs.shape[:count] != (1,) * count:
            raise ValueError(f"the array {self.outside[path]!r} has shape {theirs.shape}: {count} leading 1s expected")
        return theirs.reshape(theirs.shape[count:])

    def exported(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Their arrays by name. Raises Misfit if one of ours is missing or unknown."""
        joined = {path for paths in self.joined.values() for path in paths}
        require(arrays, [*self.outside, *joined, *(path for paths, _ in self.block() for path in paths)])
        found = {}
        for path, name in self.outside.items():
            x = np.asarray(arrays[path])
            turned = convolution(x) if path == PATCHES else x.T if path.endswith("kernel") else x
            found[name] = turned.reshape((1,) * self.ones.get(path, 0) + turned.shape)
        for name, parts in self.joined.items():
            found[name] = np.concatenate([np.asarray(arrays[path]).T for path in parts])
        for paths, name in self.block():
            for index in range(len(arrays[paths[0]])):
                found[f"{self.blocks}.{index}.{name}"] = np.concatenate([arrays[path][index].T for path in paths])
        return {name: np.ascontiguousarray(x) for name, x in found.items()}


def linear(ours: str, theirs: str) -> dict[str, str]:
    """The arrays of a linear layer outside blocks: our paths -> their names."""
    return {f"{ours}/{leaf}": f"{theirs}.{name}" for leaf, name in LINEAR.items()}


def norm(ours: str, theirs: str) -> dict[str, str]:
    """The arrays of a norm outside blocks: our paths -> their names."""
    return {f"{ours}/{leaf}": f"{theirs}.{name}" for leaf, name in NORM.items()}


def patches(kernel: np.ndarray) -> np.ndarray:
    """A convolution of patches, (out, colours, rows, columns), as a matrix from rows, columns and colours to out."""
    return kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))


def convolution(matrix: np.ndarray) -> np.ndarray:
    """The way back from `patches`; patches are square."""
    side = round((len(matrix) / 3) ** 0.5)
    return matrix.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


def require(given: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise Misfit, which names one that is missing or unknown, unless the names are those that are wanted."""
    given, wanted = set(given), set(wanted)
    share = len(given & wanted) / max(len(given | wanted), 1)
    if missing := sorted(wanted - given):
        raise Misfit(f"no array {missing[0]!r}", share)
    if unknown := sorted(given - wanted):
        raise Misfit(f"the array {unknown[0]!r} is unknown", share)


def without(arrays: Arrays, *left_out: str) -> dict[str, np.ndarray]:
    """The arrays but those whose names match a pattern."""
    return {name: x for name, x in arrays.items() if not re.fullmatch("|".join(left_out), name)}


def below(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def square(positions: np.ndarray, *before: int) -> tuple[int, int]:
    """The side of the square grid that a list of positions is of, and which of `before` count of them are no patches'.

    Raises ValueError if none of these counts leaves a square.
    """
    for count in before:
        side = round((max(len(positions) - count, 0)) ** 0.5)
        if side and side**2 == len(positions) - count:
            return side, count
    raise ValueError(f"{len(positions)} positions are of no square grid of patches")


def vit(
    flavour: str, kernel: np.ndarray, *, depth: int, side: int = 0, image_size: int = 224, **settings: Any
) -> dict[str, Any]:
    """The spec of a vision transformer of a published size. Raises ValueError if its heads cannot be told.

    No array shows how many heads there are. They are 64 wide in all published sizes but H and So400m, which have 16.

    Args:
        kernel: the convolution of patches.
        side: of the grid of positions, in patches; 0 if there is none, so that `image_size` holds.
        settings: further arguments of the encoder.
    """
    width, _, patch, _ = kernel.shape
    heads = settings.pop("heads", None) or HEADS.get(width, 0 if width % 64 else width // 64)
    if not heads:
        raise ValueError(f"the encoder's width {width} is that of no published size, so that its heads are not known")
    return {
        "call": "facerep_jax.models.vit:ViT",
        "flavour": flavour,
        "variant": f"{SIZES.get(width, 'Nano')}/{patch}",  # what follows overrides the variant's sizes
        "image_size": side * patch if side else image_size,
        "width": width,
        "depth": depth,
        "heads": heads,
        **settings,
    }


def hidden_of(up: np.ndarray) -> dict[str, int]:
    """The setting `hidden` of the encoder, from an MLP's first matrix, where it is not four times the width."""
    hidden, width = up.shape
    return {} if hidden == 4 * width else {"hidden": hidden}
