"""Heatmaps of landmarks: from points to maps, and from maps to points.

The coordinates of points run from 0 to 1 across the image, edge to edge. The centre of pixel i in a map of `size`
pixels is at (i + 0.5) / size.
Source: FaRL (arXiv 2112.03109; github.com/FacePerceiver/FaRL, farl/network/geometry.py and ext/p2i_ops).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def drawn(points: Float[Array, "b k 2"], *, size: int, radius: float) -> Float[Array, "b size size k"]:
    """Heatmaps of points: exp(-16 r² / (2 radius²)) at a distance of r map pixels, and 0 beyond the radius.

    So the standard deviation is radius / 4. A point that lies between pixels has a peak below 1; NaN points draw
    nothing.
    """
    centre = points * size - 0.5  # in pixels, counted from the centre of the first
    place = jnp.arange(size, dtype=jnp.float32)
    x = place.reshape(1, 1, size, 1) - centre[:, None, None, :, 0]
    y = place.reshape(1, size, 1, 1) - centre[:, None, None, :, 1]
    square = jnp.square(x) + jnp.square(y)
    # A comparison with NaN is false, so the maps of NaN points are 0 everywhere.
    return jnp.where(square <= radius**2, jnp.exp(-8 * square / radius**2), 0)


def soft_argmax(logits: Float[Array, "b h w k"]) -> Float[Array, "b k 2"]:
    """The mean position of each map's pixels, weighted by the sigmoid of their logits."""
    weight = jax.nn.sigmoid(logits)
    total = jnp.maximum(weight.sum((1, 2)), 1e-6)  # a map that is 0 everywhere must not divide by 0
    _, h, w, _ = logits.shape
    columns, rows = jnp.arange(w, dtype=jnp.float32), jnp.arange(h, dtype=jnp.float32)
    # Both sums are products with a line of pixel indices, so that no grid of coordinates is made.
    x = jnp.einsum("bhwk,w->bk", weight, columns) / total
    y = jnp.einsum("bhwk,h->bk", weight, rows) / total
    return jnp.stack([(x + 0.5) / w, (y + 0.5) / h], axis=-1)
