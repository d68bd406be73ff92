"""Heatmaps of landmarks: how they are drawn and how they are read.

Points are in [0, 1] from edge to edge of the image: pixel i of a map of `size` pixels lies at (i + 0.5) / size.
Source: FaRL (arXiv 2112.03109; github.com/FacePerceiver/FaRL, farl/network/geometry.py and ext/p2i_ops).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def drawn(points: Float[Array, "b k 2"], *, size: int, radius: float) -> Float[Array, "b size size k"]:
    """exp(-16 r² / (2 radius²)) at a distance of r pixels of the map from a point, and 0 beyond the radius.

    The deviation is so a quarter of the radius. A point between pixels has a peak below 1, and one that is NaN none.
    """
    centre = points * size - 0.5
    place = jnp.arange(size, dtype=jnp.float32)
    x = place.reshape(1, 1, size, 1) - centre[:, None, None, :, 0]
    y = place.reshape(1, size, 1, 1) - centre[:, None, None, :, 1]
    square = jnp.square(x) + jnp.square(y)
    return jnp.where(square <= radius**2, jnp.exp(-8 * square / radius**2), 0)


def soft_argmax(logits: Float[Array, "b h w k"]) -> Float[Array, "b k 2"]:
    """The mean place of the pixels of each map, weighted by their sigmoid; weights sum to at least 1e-6."""
    weight = jax.nn.sigmoid(logits)
    total = jnp.maximum(weight.sum((1, 2)), 1e-6)
    _, h, w, _ = logits.shape
    columns, rows = jnp.arange(w, dtype=jnp.float32), jnp.arange(h, dtype=jnp.float32)
    x = jnp.einsum("bhwk,w->bk", weight, columns) / total
    y = jnp.einsum("bhwk,h->bk", weight, rows) / total
    return jnp.stack([(x + 0.5) / w, (y + 0.5) / h], axis=-1)
