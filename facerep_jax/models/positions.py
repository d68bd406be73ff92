"""Positions of patches: fixed sin-cos tables, tables for another grid, and rotations of queries and keys."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from facerep_jax.models.layers import cubic_matrix

LEARNED, SINCOS, SINCOS_ROWS, ROPE = "learned", "sincos", "sincos_rows", "rope"
KINDS = dict.fromkeys((LEARNED, SINCOS, SINCOS_ROWS, ROPE))
BICUBIC, LINEAR = "bicubic", "linear"


def sincos(rows: int, columns: int, width: int, *, rows_first: bool = False) -> Float[np.ndarray, "{1+rows*columns} d"]:
    """Fixed positions of a class token, which are 0, and of a grid of patches in row-major order.

    The first half of each vector encodes the column, the second half the row; with `rows_first`, the row comes first.
    Each half holds sines, then cosines, of angular frequencies that fall geometrically from 1 to nearly 1 / 10000.
    Source: util/pos_embed.py of facebookresearch/mae; with `rows_first`, vits.py of facebookresearch/moco-v3.
    """
    if width % 4:
        raise ValueError(f"sin-cos positions need a width that is a multiple of 4, not {width}")
    # A quarter of the width for each of column and row, sine and cosine. NumPy computes in float64, as MAE does.
    frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))

    def along(count: int) -> np.ndarray:
        angle = np.arange(count)[:, None] * frequency
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    # One line of vectors for the columns and one for the rows suffice; each is repeated along the other axis.
    half = (rows, columns, width // 2)
    x, y = np.broadcast_to(along(columns), half), np.broadcast_to(along(rows)[:, None], half)
    patches = np.concatenate([y, x] if rows_first else [x, y], axis=-1).reshape(rows * columns, width)
    return np.concatenate([np.zeros((1, width)), patches]).astype(np.float32)


def linear_matrix(size_in: int, size_out: int) -> Float[np.ndarray, "o i"]:
    """The matrix that resizes a signal by torch's linear kernel, which is widened to antialias where it shrinks.

    Source: torch.nn.functional.interpolate(mode="bilinear", align_corners=False, antialias=True), with which SigLIP 2
    (2502.14786, section 2.4) resizes positions.
    """
    scale = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * scale - 0.5
    weight = np.maximum(1 - np.abs(np.arange(size_in) - centres[:, None]) / max(scale, 1), 0)
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


RESIZINGS = {BICUBIC: cubic_matrix, LINEAR: linear_matrix}


def resized(
    table: Float[Array, "_ d"], old: tuple[int, int], new: tuple[int, int], *, before: int = 1, by: str = BICUBIC
) -> Float[Array, "_ d"]:
    """Positions for another grid of (rows, columns), by one of torch's kernels; the first `before` are no patches'."""
    if old == new:
        return table
    rows, columns = (RESIZINGS[by](count, wanted) for count, wanted in zip(old, new, strict=True))
    grid = jnp.einsum("hi,wj,ijd->hwd", rows, columns, table[before:].reshape(*old, -1))
    return jnp.concatenate([table[:before], grid.reshape(new[0] * new[1], -1)])


def rope(rows: int, columns: int, width: int) -> Float[np.ndarray, "{rows*columns} {width}"]:
    """The angles in radians by which `rotated` turns a patch's query and key of a head of this width.

    The centre of each patch has coordinates from -1 to 1 whatever the grid, so that none is resized. The first quarter
    are angles of the row, the second of the column, at frequencies that fall geometrically from 1 to nearly 1 / 100
    turns per unit; the second half repeats the first.
    Source: DINOv3 (2508.10104), layers/rope_position_encoding.py of facebookresearch/dinov3.
    """
    if width % 4:
        raise ValueError(f"rotary positions need heads whose width is a multiple of 4, not {width}")
    frequency = 100.0 ** -(np.arange(width // 4) / (width // 4))
    y, x = (2 * (np.arange(count) + 0.5) / count - 1 for count in (rows, columns))
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    angles = (2 * np.pi * grid * frequency).reshape(rows * columns, width // 2)
    return np.concatenate([angles, angles], axis=1).astype(np.float32)
