"""CLIP as a state dict of open_clip, with GELU: the models of open_clip whose names do not end in `-quickgelu`.

The arrays are those of `open_clip`. Only the visual tower is read: our text tower has quick GELU.
"""

from typing import Any

from facerep_jax.weights import open_clip
from facerep_jax.weights._transformer import Arrays

imported, exported = open_clip.imported, open_clip.exported


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    return {**open_clip.encoder(arrays), "flavour": "clip_gelu"}
