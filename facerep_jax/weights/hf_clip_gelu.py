"""CLIP as Hugging Face's transformers saves it, with GELU: `"hidden_act": "gelu"` in its config.json, as LAION's have.

The arrays are those of `hf_clip`. Only the visual tower is read: our text tower has quick GELU.
"""

from typing import Any

from facerep_jax.weights import hf_clip
from facerep_jax.weights._transformer import Arrays

imported, exported, LEFT_OUT = hf_clip.imported, hf_clip.exported, hf_clip.LEFT_OUT
configs = hf_clip.configs


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    return {**hf_clip.encoder(arrays), "flavour": "clip_gelu"}
