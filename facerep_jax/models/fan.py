"""Heatmaps of landmarks as FAN has them, and a head that learns and reads them.

Coordinates of points run from 0 to 1 across the image, edge to edge, as in `models.heatmaps`.
Source: face-alignment (github.com/1adrianb/face-alignment), of FRL's first author (2103.16554).
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from facerep_jax.config import Spec, build
from facerep_jax.models.heads import LINEAR, Maps, resized
from facerep_jax.typing import Encoder

SIZE, WINDOW = 64, 13  # pixels of a side of a heatmap, and of the window that a point draws
DEVIATION = 0.25 * WINDOW  # its `sigma` of 2 sets the window alone


class FANHeatmaps(nnx.Module):
    """Points as the maxima of heatmaps, one per point, that a dense head gives; the loss is their squared error.

    Changed: points that are not annotated are not in the loss. FAN's own network is a stack of hourglasses; any dense
    head takes its place. That the loss is the mean squared error is recalled.

    Args:
        dense: spec of a dense head, see `models.heads`.
        points: landmarks of a face.
        taps: stages of the encoder, by index.
        image_size: pixels of a side of the images.
    """

    def __init__(
        self,
        encoder: Encoder,
        points: int,
        *,
        taps: tuple[int, ...],
        image_size: int,
        dense: Spec = LINEAR,
        rngs: nnx.Rngs,
    ):
        self.image_size = image_size
        self.dense = build(dense, encoder, points, taps=taps, rngs=rngs)

    def fit(self, maps: Maps, labels: Float[Array, "n k 2"]) -> None:
        """Let the dense head take what it takes from features."""
        self.dense.fit(maps)

    def losses(
        self, maps: Maps, truth: Float[Array, "b k 2"], known: Bool[Array, "b k"], rng: Key[Array, "b"]
    ) -> dict[str, Float[Array, ""]]:
        target = drawn((truth + 0.5) / self.image_size, size=SIZE)
        error = jnp.square(self.heatmaps(maps, rng=rng) - target).mean((1, 2))
        return {"heatmaps": jnp.where(known, error, 0).sum() / jnp.maximum(known.sum(), 1)}

    def heatmaps(self, maps: Maps, *, rng: Key[Array, "b"] | None = None) -> Float[Array, "b H W k"]:
        """What the dense head gives, at the size of the drawn heatmaps."""
        return resized(self.dense(maps, rng=rng), (SIZE, SIZE), antialias=False)

    def __call__(self, maps: Maps) -> Float[Array, "b k 2"]:
        return decoded(self.heatmaps(maps)) * self.image_size - 0.5


def drawn(points: Float[Array, "b k 2"], *, size: int) -> Float[Array, "b size size k"]:
    """Heatmaps of points: a normal distribution about the pixel that holds the point, 1 there, in a window of 13 x 13.

    At the middle of the window's edge it has fallen to 0.18. NaN points draw nothing.
    """
    centre, place = jnp.floor(points * size), jnp.arange(size, dtype=jnp.float32)
    x = place.reshape(1, 1, size, 1) - centre[:, None, None, :, 0]
    y = place.reshape(1, size, 1, 1) - centre[:, None, None, :, 1]
    inside = (jnp.abs(x) <= WINDOW // 2) & (jnp.abs(y) <= WINDOW // 2)  # a comparison with NaN is false
    return jnp.where(inside, jnp.exp(-(jnp.square(x) + jnp.square(y)) / (2 * DEVIATION**2)), 0)


def decoded(maps: Float[Array, "b h w k"]) -> Float[Array, "b k 2"]:
    """The centre of each map's largest pixel, moved by a quarter of a pixel towards the larger of its neighbours.

    A pixel at the edge of a map is not moved.
    """
    b, h, w, k = maps.shape
    flat = maps.reshape(b, h * w, k)
    row, column = jnp.divmod(flat.argmax(1), w)

    def beside(down: int, right: int) -> Float[Array, "b k"]:
        place = jnp.clip(row + down, 0, h - 1) * w + jnp.clip(column + right, 0, w - 1)
        return jnp.take_along_axis(flat, place[:, None], axis=1)[:, 0]

    inside = (column > 0) & (column < w - 1) & (row > 0) & (row < h - 1)
    x = column + 0.5 + jnp.where(inside, 0.25 * jnp.sign(beside(0, 1) - beside(0, -1)), 0)
    y = row + 0.5 + jnp.where(inside, 0.25 * jnp.sign(beside(1, 0) - beside(-1, 0)), 0)
    return jnp.stack([x / w, y / h], axis=-1)
