"""Tokenizers of images: frozen networks that give every patch a code, which is predicted where patches are masked.

A tokenizer is called with uint8 images. It has `patch`, the side of a patch in pixels, `codes`, the number of codes,
and `frequency`, the share of each code on the images that it was fitted on. Before a run it gets its weights and is
fitted on training images, see `train.frozen`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from facerep_jax.models.dvae import DVAEEncoder, map_pixels
from facerep_jax.models.vit import grid_of
from facerep_jax.typing import Frozen, View, as_kind

FIT_BATCH = 32  # images per pass while a tokenizer is fitted


class KMeansTokenizer(nnx.Module):
    """k-means over small normalised patches: a stand-in for a dVAE that is fitted on training images in seconds.

    Each image is normalised by its own mean and standard deviation, so that codes depend on shape and contrast rather
    than on exposure. Each patch is averaged over `cells` x `cells` parts and gets the code of the nearest centre.

    Args:
        patch: side of a patch in pixels; must equal the encoder's, so that codes and patches are aligned.
        codes: size of the vocabulary.
        cells: parts that each side of a patch is divided into for averaging.
    """

    def __init__(self, *, patch: int, codes: int, cells: int = 4, rngs: nnx.Rngs):
        if patch % cells:
            raise ValueError(f"patches of {patch} pixels do not divide into {cells} cells")
        self.patch, self.cells, self.codes = patch, cells, codes
        self.centres = Frozen(jnp.zeros((codes, cells * cells * 3)))
        self.frequency = Frozen(jnp.full(codes, 1 / codes))

    def __call__(self, image: UInt8[Array, "b h w 3"]) -> Int[Array, "b n"]:
        x = self.summaries(image)
        centres = self.centres[...]
        # The squared distance without |x|², which is the same for all centres.
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

    def fit_images(self, images: UInt8[np.ndarray, "b h w 3"], seed: int = 0) -> None:
        """Find the centres on training images, and how often each code is used there."""
        x = np.asarray(self.summaries(jnp.asarray(images))).reshape(-1, self.centres.shape[1])
        if len(x) < self.codes:
            raise ValueError(f"{len(x)} patches are too few to fit {self.codes} codes")
        # Imported here because that takes seconds, which a run that resumes should not wait for.
        from sklearn.cluster import MiniBatchKMeans

        means = MiniBatchKMeans(self.codes, random_state=seed, batch_size=4096, n_init=3).fit(x)
        self.centres.set_value(jnp.asarray(means.cluster_centers_, jnp.float32))
        counts = np.bincount(means.predict(x), minlength=self.codes) + 1
        self.frequency.set_value(jnp.asarray(counts / counts.sum(), jnp.float32))


class DVAE(nnx.Module):
    """The encoder of a discrete variational autoencoder, such as DALL-E's; a patch's code is that of the largest logit.

    Lanczos' filter resizes the image such that each patch gets one code: from 224 pixels in patches of 16 to 112 pixels
    for a stride of 8. Accelerators round products differently from CPUs, so that near ties may be broken differently.
    Source: openai/DALL-E (2102.12092); BEiT's datasets.py (2106.08254) for its use as a tokenizer.
    Changed: BEiT resizes the crop of the original photograph by PIL, which rounds to uint8 after each axis. Here the
    crop that the encoder sees is resized in float, so that a code may differ if two logits are close.

    Args:
        patch: side of a patch in pixels; must equal the encoder's, so that codes and patches are aligned.
        weights: a safetensors file with the names and shapes of the published encoder's state dict, or WORKDIR[@STEP]
            of a pre-training by `configs/pretrain/dvae.py`.
        variant: name of the encoder's sizes in `dvae.SIZES`.
        channels, groups, blocks, codes: override the variant's.
        dtype: type of the products in all convolutions but the last.
    """

    def __init__(
        self,
        *,
        patch: int,
        weights: str = "",
        variant: str = "DALL-E",
        channels: int | None = None,
        groups: int | None = None,
        blocks: int | None = None,
        codes: int | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.patch, self.weights = patch, weights
        sizes = dict(channels=channels, groups=groups, blocks=blocks, codes=codes)
        self.network = as_kind(DVAEEncoder(variant=variant, **sizes, dtype=dtype, remat="none", rngs=rngs), Frozen)
        self.codes = self.network.sizes.codes
        self.frequency = Frozen(jnp.full(self.codes, 1 / self.codes))

    def __call__(self, image: UInt8[Array, "b h w 3"]) -> Int[Array, "b n"]:
        # Lanczos' filter overshoots at edges.
        x = jnp.clip(self.resized(image.astype(jnp.float32) / 255), 0, 1)
        return self.network(View(map_pixels(x))).tokens.argmax(-1)

    def resized(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
        """Images at the resolution at which the network gives one code per patch; values can leave [0, 1] slightly."""
        b, h, w, _ = image.shape
        (rows, columns), stride = grid_of((h, w), self.patch), self.network.sizes.stride
        return jax.image.resize(image, (b, rows * stride, columns * stride, 3), "lanczos3")

    def fit_images(self, images: UInt8[np.ndarray, "b h w 3"]) -> None:
        """Count how often each code is used on training images."""
        graph, state = nnx.split(self)
        codes_of = jax.jit(lambda state, image: nnx.merge(graph, state)(image))
        counts = np.ones(self.codes)
        for start in range(0, len(images), FIT_BATCH):
            codes = codes_of(state, jnp.asarray(images[start : start + FIT_BATCH]))
            counts += np.bincount(np.asarray(codes).ravel(), minlength=self.codes)
        self.frequency.set_value(jnp.asarray(counts / counts.sum(), jnp.float32))
