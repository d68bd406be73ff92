"""CLIP as a state dict of open_clip, with GELU: the models of open_clip whose names do not end in `-quickgelu`.

The arrays are those of `open_clip`. Only the visual tower is read: our text tower has quick GELU.
"""

import re
from typing import Any

from facerep_jax.weights import open_clip
from facerep_jax.weights._transformer import Arrays

imported, exported, LEFT_OUT = open_clip.imported, open_clip.exported, open_clip.LEFT_OUT


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout, or OpenAI's or FaRL's."""
    spec = open_clip.encoder(arrays)
    quick = f"{open_clip.SETTINGS}|{open_clip.OF_MASKED_TOKENS}"
    if owned := next((name for name in arrays if re.fullmatch(quick, name)), ""):
        raise ValueError(f"the array {owned!r} is of OpenAI's or FaRL's weights, which have quick GELU")
    return {**spec, "flavour": "clip_gelu"}
