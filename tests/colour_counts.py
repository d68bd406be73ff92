"""An encoder made by hand, and its layout of weights in one module: how often each colour occurs in an image.

It finds copies that show the same colours, however they are cropped, turned or mirrored, and none that are grey. With a
large `shift` all images are alike to it. Of a black image its features are NaN.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

from facerep_jax.typing import Features, View
from tests.tapless import Tapless

LEVELS = np.linspace(0, 255, 6)
SPREAD = 20.0  # of a colour over its neighbours


class ColourCounts(Tapless):
    """Square roots of the counts of 216 colours, so that a cosine is the share that two images have in common."""

    width = len(LEVELS) ** 3

    def __init__(self, *, image_size=32, dtype, remat, rngs):
        self.dtype, self.remat = dtype, remat
        self.shift = nnx.Param(jnp.zeros(()))

    def __call__(self, view: View, *, train=False, rng=None):
        pixels = view.image.astype(jnp.float32).reshape(len(view.image), -1, 3)
        near = jnp.exp(-(((pixels[..., None] - LEVELS[None, None, None]) / SPREAD) ** 2) / 2)
        near = near / near.sum(-1, keepdims=True)
        counts = jnp.einsum("bnx,bny,bnz->bxyz", *(near[:, :, channel] for channel in range(3))) / pixels.shape[1]
        brightest = pixels.max((1, 2))[:, None]
        pooled = (jnp.sqrt(counts).reshape(len(counts), -1) + self.shift[...]) * (brightest / brightest)
        return Features(pooled, pooled[:, None], {})


def encoder(arrays) -> dict[str, Any]:
    """The spec, see `facerep_jax.weights`."""
    return {"call": f"{__name__}:ColourCounts", "image_size": 32}


def imported(arrays):
    """Our arrays by path."""
    return dict(arrays)


def write(path, shift=0.0) -> str:
    """A file of weights; gives what `--checkpoint` takes."""
    safetensors.numpy.save_file({"shift": np.array(shift, np.float32)}, path)
    return f"{path}@{__name__}"
