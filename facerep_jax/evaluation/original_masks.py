"""Parsing that is scored on the pixels of the original images, whatever the encoder saw of them."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, UInt8
from PIL import Image

from facerep_jax.data.features import MISSING_CLASS, ORIGINAL_MASK
from facerep_jax.data.tanh_warp import canvas_points, nearest
from facerep_jax.evaluation.metrics import F1, units_of
from facerep_jax.models.heads import resized
from facerep_jax.typing import Rows

CHUNK = 2**16  # pixels of an image that are looked up and counted at a time
OUTSIDE = -9.0  # a coordinate of no pixel


class OriginalF1(F1):
    """F1 of predictions on warped faces, brought back to the original images and scored against masks as stored.

    Predictions are class logits of the squares that the encoder saw, at any resolution, or maps of classes. Images are
    scored one after the other, some pixels at a time, so that memory is little more than that of one mask. A split has
    `original_mask`, `frame` and `warp`, which `data.tanh_warp.AlignAndWarp(keep_mask=True)` makes, and `mask`, which is
    as large as the squares.

    Source: FaRL's parsing of LaPa (github.com/FacePerceiver/FaRL and facer): logits are resized to the square,
    sampled bilinearly at each pixel of the image, and only then compared; pixels beyond the square are background.
    Changed: what `F1` changes; masks of CelebAMask-HQ are stored at the size of its images, FaRL scores a quarter of
    their pixels.
    """

    optional = (*F1.optional, ORIGINAL_MASK, "frame", "warp")
    EXPLAINS = (
        *F1.EXPLAINS,
        "The encoder sees aligned and warped faces; its predictions are warped back and scored on the original images, "
        "where large faces count for more.",
    )

    def __init__(self, classes: Sequence[str]):
        super().__init__(classes)  # pixels are counted a few at a time, which know no outlines

    def rows(self, prediction: Any, split: Mapping[str, Any]) -> Rows:
        """Those of `F1`, on the pixels of the original images."""
        if missing := [name for name in (ORIGINAL_MASK, "frame", "warp") if name not in split]:
            raise ValueError(
                f"to score original images takes {', '.join(missing)}, which the transform "
                "data.tanh_warp.AlignAndWarp makes with keep_mask=True: add it to config.data.transforms"
            )
        statistics, counted, side = [], super().rows, split["mask"].shape[-1]
        for row, stored in enumerate(split[ORIGINAL_MASK]):
            with Image.open(io.BytesIO(stored)) as file:
                true = np.asarray(file)
            found = on_image(prediction[row], true.shape, split["frame"][row], float(split["warp"][row]), side)
            chunks = (true.reshape(-1)[start : start + CHUNK] for start in range(0, true.size, CHUNK))
            parts = [
                counted(classes[None, None], {"id": [""], "mask": chunk[None, None]}).statistics
                for classes, chunk in zip(found, chunks, strict=True)
            ]
            statistics.append(np.sum(parts, 0))  # of counts of pixels
        return Rows(list(split["id"]), units_of(split), np.concatenate(statistics))


def on_image(
    prediction: np.ndarray, shape: tuple[int, ...], frame: Float[np.ndarray, "2 3"], warp: float, side: int
) -> Iterator[UInt8[np.ndarray, "n"]]:
    """The classes of an image's pixels, row by row, `CHUNK` at a time.

    Args:
        prediction: logits (h, w, k) or a map of classes (side, side) of the square that the encoder saw.
        shape: rows and columns of the image.
        frame, warp: see `data.tanh_warp`.
        side: pixels of a side of the square.
    """
    look = likeliest_in(prediction, side) if prediction.ndim == 3 else nearest_in(prediction)
    frame, pixels = np.asarray(frame, np.float64), shape[0] * shape[1]
    for start in range(0, pixels, CHUNK):
        row, column = np.divmod(np.arange(float(start), min(start + CHUNK, pixels)), shape[1])
        yield look(canvas_points(np.column_stack([column, row]), frame, warp, side))


def nearest_in(classes: UInt8[np.ndarray, "side side"]) -> Callable[..., UInt8[np.ndarray, "n"]]:
    """From points of a square to the class of the nearest pixel, 0 beyond the square."""

    def look(points: Float[np.ndarray, "n 2"]) -> UInt8[np.ndarray, "n"]:
        found = nearest(classes, points[:, 0], points[:, 1])
        return np.where(found == MISSING_CLASS, 0, found).astype(np.uint8)

    return look


def likeliest_in(logits: Float[np.ndarray, "h w k"], side: int) -> Callable[..., UInt8[np.ndarray, "n"]]:
    """From points of a square of `side` pixels to the class of the largest logit."""
    square = enlarged(logits, side)

    def look(points: Float[np.ndarray, "n 2"]) -> UInt8[np.ndarray, "n"]:
        filled = np.full((CHUNK, 2), OUTSIDE, np.float32)  # one program serves images of all sizes
        filled[: len(points)] = points
        return np.asarray(likeliest(square, filled))[: len(points)]

    return look


@partial(jax.jit, static_argnums=1)
def enlarged(logits: Float[Array, "h w k"], side: int) -> Float[Array, "side side k"]:
    """Logits at the resolution of the square."""
    return resized(logits[None].astype(jnp.float32), (side, side), antialias=False)[0]


@jax.jit
def likeliest(logits: Float[Array, "h w k"], points: Float[Array, "n 2"]) -> UInt8[Array, "n"]:
    """The class of the largest logit at points, interpolated bilinearly; all are 0 outside, where the first wins."""
    places = [points[:, 1], points[:, 0]]
    sampled = jax.vmap(lambda channel: map_coordinates(channel, places, order=1, mode="constant"), -1, -1)(logits)
    return sampled.argmax(-1).astype(jnp.uint8)
