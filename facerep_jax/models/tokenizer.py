"""Tokenizers of images: frozen networks that give every patch one of a few codes, which masked patches predict."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8
from sklearn.cluster import MiniBatchKMeans

from facerep_jax.typing import Frozen


class KMeansTokenizer(nnx.Module):
    """k-means over small normalised patches: fitted in seconds on the training images, for want of a dVAE.

    Each image is normalised by its own mean and standard deviation, so that a code speaks of shape and contrast rather
    than of exposure; each patch is averaged over `cells` x `cells` parts and given the code of the nearest centre.

    Args:
        patch: pixels of a side; the encoder's patch, so that codes and patches are aligned.
        codes: size of the vocabulary.
        cells: parts of a side that a patch is averaged over.
    """

    def __init__(self, *, patch: int, codes: int, cells: int = 4, rngs: nnx.Rngs):
        if patch % cells:
            raise ValueError(f"patches of {patch} pixels do not divide into {cells} cells")
        self.patch, self.cells, self.codes = patch, cells, codes
        self.centres = Frozen(jnp.zeros((codes, cells * cells * 3)))
        self.frequency = Frozen(jnp.full(codes, 1 / codes))  # of each code on the images of the fit

    def __call__(self, image: UInt8[Array, "b h w 3"]) -> Int[Array, "b n"]:
        x = self.summaries(image)
        centres = self.centres[...]
        distance = jnp.square(centres).sum(-1).reshape(1, 1, -1) - 2 * x @ centres.T
        return distance.argmin(-1)

    def summaries(self, image: UInt8[Array, "b h w 3"]) -> Float[Array, "b n e"]:
        """Each patch as cells x cells mean colours of the normalised image."""
        b, h, w, _ = image.shape
        x = image.astype(jnp.float32)
        x = x - x.mean((1, 2, 3), keepdims=True)
        x = x / (x.std((1, 2, 3), keepdims=True) + 1e-3)
        rows, columns, cell = h // self.patch, w // self.patch, self.patch // self.cells
        x = x.reshape(b, rows, self.cells, cell, columns, self.cells, cell, 3).mean((3, 6))
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows * columns, -1)

    def fit(self, images: UInt8[np.ndarray, "b h w 3"], seed: int = 0) -> None:
        """Find the centres on training images, and how often each code is used there."""
        x = np.asarray(self.summaries(jnp.asarray(images))).reshape(-1, self.centres.shape[1])
        if len(x) < self.codes:
            raise ValueError(f"{len(x)} patches are too few to fit {self.codes} codes")
        means = MiniBatchKMeans(self.codes, random_state=seed, batch_size=4096, n_init=3).fit(x)
        self.centres.set_value(jnp.asarray(means.cluster_centers_, jnp.float32))
        counts = np.bincount(means.predict(x), minlength=self.codes) + 1
        self.frequency.set_value(jnp.asarray(counts / counts.sum(), jnp.float32))
