"""Faces that are aligned and then squeezed into a square, with all that is around them; and the way back.

The middle of the square shows the face as it is aligned. Towards the edges everything becomes smaller, so that hair,
neck and ears are in sight however far they reach. What the encoder says of the square is brought back to the pixels of
the image by `canvas_points`.

Source: RoI tanh-warping (Lin et al., Face Parsing with RoI Tanh-Warping, CVPR 2019), for each axis by itself and with a
linear middle, as FaRL's parsing has it (py-blueprint 0.0.1, ml/augmenters/transform.py). FaRL has no polar variant.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from facerep_jax.data.alignment import AlignToTemplate
from facerep_jax.data.augmentations import RandomAffine
from facerep_jax.data.features import MISSING_CLASS, ORIGINAL_MASK
from facerep_jax.data.images import png
from facerep_jax.data.transforms import Example, placed, require, whole_box

Frame = Float[np.ndarray, "2 3"]  # moves pixels of an image to those of the aligned square
Pixels = Float[np.ndarray, "s s"]
NEAR_ONE = 0.999  # the tanh that the edge of the square stands for; that of the edge itself would be infinitely far


class AlignAndWarp:
    """The face aligned to FaRL's template and warped, as a square of `size` pixels, as FaRL's parsing sees it.

    A data set whose meta has the crop `whole`, which its authors aligned, is shown whole and without a warp; so does
    FaRL with CelebAMask-HQ. Image, mask, landmarks, vertices and box move together; a box becomes the one around its
    moved corners, depths are scaled as the middle is. A camera cannot follow and is left out; so is `landmarks_scale`,
    since no one scale holds everywhere.

    `frame` (2, 3) and `warp` are added, by which `canvas_points` finds pixels of the original image in the square.

    Source: 2112.03109 and py-blueprint 0.0.1: the square is shifted, turned and zoomed about its middle before it is
    warped; bilinear pixels, black outside of the image.
    Changed: what lies outside of the image is 255 in the mask, FaRL's 0. The square is cut at the size that the encoder
    sees; FaRL cuts 512 pixels and resizes them to 448. An image that shrinks to half or less is first averaged over
    whole pixels.

    Args:
        size: pixels of a side.
        warp: share of half a side that is not linear: 0 for a plain crop, 1 for tanh alone.
        scale, points: of the face, and where its five points are, see `alignment.AlignToTemplate`.
        shift, angle_rad, zoom, normal: random motions, see `augmentations.RandomAffine`.
        keep_mask: whether the mask as it is stored is kept as the bytes of a PNG, `original_mask`.
        meta: of the data set.
    """

    def __init__(
        self,
        *,
        size: int,
        warp: float = 0.8,
        scale: float = 1.0,
        points: tuple[tuple[int, ...], ...] = (),
        shift: float = 0.0,
        angle_rad: float = 0.0,
        zoom: float = 0.0,
        normal: bool = False,
        keep_mask: bool = False,
        meta: Mapping[str, Any],
    ):
        if not 0 <= warp <= 1:
            raise ValueError(f"AlignAndWarp: warp is a share of half a side, from 0 to 1, not {warp}")
        self.size, self.keep_mask, self.whole = size, keep_mask, meta.get("crop") == "whole"
        self.warp = 0.0 if self.whole else warp
        self.align = AlignToTemplate(size=size, scale=scale, points=points, meta=meta)
        self.motion = RandomAffine(size=size, shift=shift, angle_rad=angle_rad, zoom=zoom, normal=normal, whole=True)
        self.reads = () if self.whole else self.align.reads

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if self.keep_mask:
            require(example, "mask", "AlignAndWarp")
        frame = whole_frame(example, self.size) if self.whole else self.align.matrix(example)
        result = warped(example, self.moved(frame, rng), self.warp, self.size)
        if self.keep_mask:
            result[ORIGINAL_MASK] = np.array(png(Image.fromarray(example["mask"])), object)
        return result

    def moved(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame after a random motion about the middle of the square."""
        shift, angle, zoom = self.motion.draw(rng)
        turn = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = (self.size - 1) / 2
        offset = turn @ (frame[:, 2] - middle) + middle + self.size * shift
        return np.column_stack([turn @ frame[:, :2], offset])


def whole_frame(example: Example, size: int) -> Frame:
    """The frame that shows the whole image as a square."""
    x0, y0, x1, y1 = whole_box(example)
    scale = np.array([size / (x1 - x0), size / (y1 - y0)])
    return np.column_stack([np.diag(scale), -scale * (x0, y0) - 0.5])


def warped(example: Example, frame: Frame, warp: float, size: int) -> Example:
    """The example through a frame and a warp, as a square of `size` pixels, see `AlignAndWarp`."""
    result = placed(example, frame[:, :2], frame[:, 2], depth=math.sqrt(abs(np.linalg.det(frame[:, :2]))))
    for name in ("landmarks", "landmarks_3d", "vertices"):
        if name in result:
            result[name][:, :2] = squeezed_points(result[name][:, :2], warp, size)
    if "bbox" in result:
        result["bbox"] = squeezed_points(result["bbox"], warp, size).astype(np.float32)
    x, y = source_points(frame, warp, size)
    result["image"] = shrunk_and_sampled(example["image"], x, y, reduction(frame))
    if "mask" in example:
        result["mask"] = nearest(example["mask"], x, y)
    for name in ("camera", "landmarks_scale"):
        result.pop(name, None)
    return {**result, "frame": frame.astype(np.float32), "warp": np.float32(warp)}


def squeezed(u: Float[np.ndarray, "..."], warp: float) -> Float[np.ndarray, "..."]:
    """Where a place of the aligned face lies in the square; both in half sides from the middle."""
    if warp == 0:
        return u
    linear = 1 - warp
    return np.where(np.abs(u) <= linear, u, np.sign(u) * (linear + warp * np.tanh((np.abs(u) - linear) / warp)))


def stretched(v: Float[np.ndarray, "..."], warp: float) -> Float[np.ndarray, "..."]:
    """The inverse of `squeezed`, which ends where the tanh is `NEAR_ONE`."""
    if warp == 0:
        return v
    linear = 1 - warp
    tanh = np.clip((np.abs(v) - linear) / warp, 0, NEAR_ONE)
    return np.where(np.abs(v) <= linear, v, np.sign(v) * (linear + warp * np.arctanh(tanh)))


def squeezed_points(pixels: Float[np.ndarray, "..."], warp: float, size: int) -> Float[np.ndarray, "..."]:
    """Pixels of the aligned square after the warp. FaRL's middle is at size / 2, half a pixel off the template's."""
    return (squeezed(2 * np.asarray(pixels, np.float64) / size - 1, warp) + 1) * size / 2


def stretched_points(pixels: Float[np.ndarray, "..."], warp: float, size: int) -> Float[np.ndarray, "..."]:
    """The inverse of `squeezed_points`."""
    return (stretched(2 * np.asarray(pixels, np.float64) / size - 1, warp) + 1) * size / 2


def canvas_points(points: Float[np.ndarray, "n 2"], frame: Frame, warp: float, size: int) -> Float[np.ndarray, "n 2"]:
    """Where points of the image lie in its warped square."""
    return squeezed_points(points @ frame[:, :2].T + frame[:, 2], warp, size)


def image_points(points: Float[np.ndarray, "n 2"], frame: Frame, warp: float, size: int) -> Float[np.ndarray, "n 2"]:
    """Where points of the warped square lie in the image."""
    return np.linalg.solve(frame[:, :2], (stretched_points(points, warp, size) - frame[:, 2]).T).T


def source_points(frame: Frame, warp: float, size: int) -> tuple[Pixels, Pixels]:
    """The x and the y, in the image, of each pixel of the square."""
    line = stretched_points(np.arange(float(size)), warp, size)
    across, down = line[None] - frame[0, 2], line[:, None] - frame[1, 2]
    back = np.linalg.inv(frame[:, :2])
    return back[0, 0] * across + back[0, 1] * down, back[1, 0] * across + back[1, 1] * down


def reduction(frame: Frame) -> int:
    """How many pixels of a side are averaged before an image is sampled, since so many fall on one of the square."""
    return max(1, int(1 / np.linalg.svd(frame[:, :2], compute_uv=False).max()))


def shrunk_and_sampled(image: UInt8[np.ndarray, "h w 3"], x: Pixels, y: Pixels, by: int) -> UInt8[np.ndarray, "s s 3"]:
    """An image at points between its pixels, bilinear; black outside of it."""
    if by > 1:
        image = np.asarray(Image.fromarray(image).reduce(by))
        x, y = (x + 0.5) / by - 0.5, (y + 0.5) / by - 0.5
    channels = [
        ndimage.map_coordinates(image[..., c], [y, x], np.float32, order=1, mode="grid-constant") for c in range(3)
    ]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def nearest(
    mask: UInt8[np.ndarray, "h w"], x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."]
) -> UInt8[np.ndarray, "..."]:
    """The class of the pixel that is nearest to each point; 255 outside of the mask."""
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    h, w = mask.shape
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    return np.where(inside, mask[row.clip(0, h - 1), column.clip(0, w - 1)], MISSING_CLASS).astype(np.uint8)
