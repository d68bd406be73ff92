"""A whole CLIP of a width that all its libraries read, which tests write in their layouts."""

from functools import partial

import numpy as np
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train.state import Model
from tests.parity import layouts, published


def make(**settings: object) -> Model:
    """An encoder whose heads are 64 wide, and the contrastive objective."""
    rngs = nnx.Rngs(params=0)
    sizes = dict(variant=f"Nano/{layouts.PATCH}", image_size=layouts.SIZE, width=layouts.WIDTH, depth=layouts.DEPTH)
    encoder = ViT(**sizes, heads=layouts.HEADS, **settings, dtype="float32", remat="none", rngs=rngs)
    tower = spec(TextTransformer, **layouts.TEXT)
    return Model(encoder, Contrastive(encoder, text_encoder=tower, embedding=layouts.SPACE, rngs=rngs))


def clip() -> dict[str, np.ndarray]:
    """Its state dict by the names of open_clip."""
    return published.torch_names(published.drawn(partial(make)))
