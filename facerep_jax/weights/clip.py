"""CLIP as OpenAI's own files have it: a state dict with the settings of the network, which open_clip's has not.

OpenAI publishes archives of TorchScript in half precision, which are read as they are. The arrays are those of
`open_clip`; that they are OpenAI's says that the activation is quick GELU.

Source: openai/CLIP, clip.py and model.py (2103.00020).
"""

from typing import Any

from facerep_jax.weights import open_clip
from facerep_jax.weights._transformer import Arrays

imported, imported_objective, LEFT_OUT = open_clip.imported, open_clip.imported_objective, open_clip.LEFT_OUT
MARK = open_clip.SETTINGS


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    spec = open_clip.encoder(arrays)
    for setting in open_clip.SETTINGS.split("|"):
        if setting not in arrays:
            raise ValueError(f"no array {setting!r}, which OpenAI's files have")
    return spec
