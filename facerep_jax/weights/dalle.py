"""The encoder of DALL-E's discrete variational autoencoder, as a state dict of openai/DALL-E.

Source: openai/DALL-E, dall_e/encoder.py (2102.12092); kernels there are (out, in, rows, columns).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights._transformer import Misfit

PLACES = {"input": "stem", "output.conv": "output"}  # theirs -> ours
LEAVES = {"w": "kernel", "b": "bias"}
BLOCK = re.compile(r"group_(\d+)\.block_(\d+)\.(?:(id_path)|res_path\.conv_(\d+))")


def encoder(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The spec of the encoder that the arrays belong to. Raises ValueError if they are of another layout."""
    share = sum(map(is_known, arrays)) / max(1, len(arrays))
    for needed in ("blocks.input.w", "blocks.output.conv.w"):
        if needed not in arrays:
            raise Misfit(f"no array {needed!r}", share)
    if unknown := [name for name in arrays if not is_known(name)]:
        raise Misfit(f"an encoder of a dVAE has no array {unknown[0]!r}", share)
    places = [tuple(map(int, path.split("/")[1:3])) for path in map(our_path, arrays) if path.startswith("groups/")]
    if not places:
        raise Misfit("no array 'blocks.group_1...'", share)
    return {
        "call": "facerep_jax.models.dvae:DVAEEncoder",
        "channels": int(arrays["blocks.input.w"].shape[0]),
        "groups": max(group for group, _ in places) + 1,
        "blocks": max(block for _, block in places) + 1,
        "codes": int(arrays["blocks.output.conv.w"].shape[0]),
    }


def imported(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our arrays by path, in float32."""
    found = {our_path(name): np.asarray(array, np.float32) for name, array in arrays.items()}
    return {path: x.transpose(2, 3, 1, 0) if x.ndim == 4 else x for path, x in found.items()}


def exported(arrays: Mapping[str, np.ndarray], spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Their arrays by name."""
    found = {their_name(path): np.asarray(x) for path, x in arrays.items()}
    return {name: np.ascontiguousarray(x.transpose(3, 2, 0, 1)) if x.ndim == 4 else x for name, x in found.items()}


def is_known(name: str) -> bool:
    """Whether it is the name of one of their arrays."""
    place, _, leaf = name.removeprefix("blocks.").rpartition(".")
    return leaf in LEAVES and (place in PLACES or BLOCK.fullmatch(place) is not None)


def our_path(name: str) -> str:
    """Our path of one of their arrays: `blocks.input.w` is `stem/kernel`. Raises ValueError if there is none."""
    place, _, leaf = name.removeprefix("blocks.").rpartition(".")
    if leaf in LEAVES and place in PLACES:
        return f"{PLACES[place]}/{LEAVES[leaf]}"
    if leaf in LEAVES and (match := BLOCK.fullmatch(place)):
        group, block, shortcut, conv = match.groups()
        inside = "shortcut" if shortcut else f"convs/{int(conv) - 1}"
        return f"groups/{int(group) - 1}/{int(block) - 1}/{inside}/{LEAVES[leaf]}"
    raise ValueError(f"an encoder of a dVAE has no array {name!r}")


def their_name(path: str) -> str:
    """Their name of one of our arrays: `groups/0/1/convs/2/kernel` is `blocks.group_1.block_2.res_path.conv_3.w`."""
    *place, leaf = path.split("/")
    match place:
        case ["stem"] | ["codebook"]:  # of the encoder, of the decoder
            name = "input"
        case ["output"]:
            name = "output.conv"
        case ["groups", group, block, "shortcut"]:
            name = f"group_{int(group) + 1}.block_{int(block) + 1}.id_path"
        case ["groups", group, block, "convs", conv]:
            name = f"group_{int(group) + 1}.block_{int(block) + 1}.res_path.conv_{int(conv) + 1}"
        case _:
            raise ValueError(f"{path} is no parameter of a dVAE")
    return f"blocks.{name}.{'w' if leaf == 'kernel' else 'b'}"
