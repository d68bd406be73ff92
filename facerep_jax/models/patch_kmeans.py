"""k-means features of whitened patches, fitted in seconds without a gradient or a label: what encoders should beat."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, UInt8

from facerep_jax.models.stems import normalised
from facerep_jax.models.vit import grid_of, patches, sincos
from facerep_jax.typing import Features, Frozen, Rules, View

FLOOR = 300.0  # added to the variance of a patch's values, which are 0 to 255, so that noise in flat ones stays small
POSITIONS = 64  # numbers that tell the place of a patch


class PatchKMeans(nnx.Module):
    """An encoder without layers: each patch by how near it is to the centres of k-means over patches.

    A patch is freed of its mean, divided by its standard deviation, and whitened by principal components. Of each
    centre its feature is max(0, mean distance to all centres - distance); mean and deviation are two further ones. Then
    come fixed positions, as MAE has them, since a transformer's features tell the place of a patch too.
    `pooled` is the mean over patches. There is one stage.
    Source: Coates, Lee, Ng, "An analysis of single-layer networks in unsupervised feature learning" (2011), sections
    3.1 and 3.2.
    Changed: patches tile the image and do not overlap; whitened are as many components as are asked for; mean and
    deviation are kept, and positions added.

    Its floor and number of components were chosen on validation faces, by landmarks of drawn faces (RESULTS.md).

    Args:
        patch: side of a patch in pixels.
        components: that are whitened and kept.
        centres: of k-means.
    """

    no_matter: tuple[str, ...] = ()
    rules: Mapping[str, Rules] = {}
    stages = 1

    def __init__(self, *, patch: int, components: int = 24, centres: int = 256, dtype: str, remat: str, rngs: nnx.Rngs):
        values = 3 * patch**2
        self.patch, self.dtype, self.remat, self.width = patch, dtype, remat, centres + 2 + POSITIONS
        self.mean = Frozen(jnp.zeros(values))
        self.whiten = Frozen(jnp.zeros((values, min(components, values))))
        self.centres = Frozen(jnp.zeros((centres, min(components, values))))

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (self.width,) * len(taps)

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (self.patch,) * len(taps)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in an image of (height, width). Raises ValueError if patches do not tile it."""
        return grid_of(image_size, self.patch)

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        if view.keep is not None or view.masked is not None:
            raise ValueError(
                "k-means of patches looks at whole images: none of their patches can be left out or masked"
            )
        b, h, w, _ = view.image.shape
        rows, columns = self.grid((h, w))
        places = jnp.broadcast_to(sincos(rows, columns, POSITIONS)[1:], (b, rows * columns, POSITIONS))
        tokens = jnp.concatenate(
            [self.activations(patches(view.image.astype(jnp.float32), self.patch)), places], axis=-1
        )
        maps = {tap: tokens.reshape(b, rows, columns, -1) for tap in view.taps}
        return Features(pooled=tokens.mean(1), tokens=tokens, maps=maps)

    def activations(self, x: Float[Array, "b n p"]) -> Float[Array, "b n e"]:
        """The features of patches without their places."""
        flat, mean, variance = normalised(x, FLOOR)
        white = (flat - self.mean[...][None, None]) @ self.whiten[...]
        centres = self.centres[...]
        squared = jnp.square(white).sum(-1, keepdims=True) - 2 * white @ centres.T
        distance = jnp.sqrt(jnp.maximum(squared + jnp.square(centres).sum(-1)[None, None], 0))
        near = jnp.maximum(distance.mean(-1, keepdims=True) - distance, 0)
        return jnp.concatenate([near, mean / 255, jnp.sqrt(variance) / 255], axis=-1)

    def fit_images(self, images: UInt8[np.ndarray, "b h w 3"], seed: int = 0) -> None:
        """Find components and centres on images. Raises ValueError if these have too few patches."""
        flat = normalised(patches(jnp.asarray(images, jnp.float32), self.patch), FLOOR)[0]
        x = np.asarray(flat, np.float64).reshape(-1, flat.shape[-1])
        if len(x) < len(self.centres[...]):
            raise ValueError(f"{len(x)} patches are too few to fit {len(self.centres[...])} centres")
        # Imported here because that takes seconds, which nobody else should wait for.
        from sklearn.cluster import MiniBatchKMeans

        mean = x.mean(0)
        variances, axes = np.linalg.eigh(np.cov(x - mean, rowvar=False))
        kept = np.argsort(variances)[::-1][: self.whiten.shape[1]]
        whiten = axes[:, kept] / np.sqrt(np.maximum(variances[kept], 0) + 1e-3)
        means = MiniBatchKMeans(len(self.centres[...]), random_state=seed, batch_size=4096, n_init=3)
        self.centres.set_value(jnp.asarray(means.fit((x - mean) @ whiten).cluster_centers_, jnp.float32))
        self.mean.set_value(jnp.asarray(mean, jnp.float32))
        self.whiten.set_value(jnp.asarray(whiten, jnp.float32))
