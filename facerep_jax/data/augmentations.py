"""What is done to a training example at random, beside crops; see `data.transforms` for the form.

Source: FaRL's augmentations of landmarks and parsing (2112.03109; py-blueprint 0.0.1, ml/augmenters).
`image` is uint8 RGB (h, w, 3) throughout.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.transforms import SIDES, Example, Flip, box_of, crop, placed, sampled, whole_box

LEAST_ZOOM = 0.1  # a normal draw has no least value


class RandomAffine:
    """The example's box, enlarged by a margin, shifted, turned and zoomed at random, as a square of `size` pixels.

    All is about the centre of the enlarged box, after it was brought to a square; what was next to the box comes into
    sight. Image, mask, landmarks, box, vertices and camera move together; a box becomes that of its turned corners.
    `landmarks_scale` is that of the zoomed crop, which is exact if nothing is turned or the crop is isotropic.

    Changed: what lies outside of the image is 255 in the mask, FaRL's 0; the image is smoothed where it shrinks.

    Args:
        size: pixels of a side.
        margin: share of the box's width and height that is added on each side.
        shift: largest shift in x and y, as a share of the side; uniform.
        angle_rad: largest angle, uniform; with `normal` its standard deviation.
        zoom: largest difference of the factor from 1, uniform; with `normal` its standard deviation.
        normal: whether angle and factor are normally distributed.
        whole: whether the box is the whole image, without a margin, in place of the example's `bbox`.
    """

    def __init__(
        self,
        *,
        size: int,
        margin: float = 0.0,
        shift: float = 0.0,
        angle_rad: float = 0.0,
        zoom: float = 0.0,
        normal: bool = False,
        whole: bool = False,
    ):
        self.size, self.shift, self.angle_rad, self.zoom = size, shift, angle_rad, zoom
        self.normal, self.whole, self.margin = normal, whole, 0.0 if whole else margin
        self.reads = () if whole else ("bbox",)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        x0, y0, x1, y1 = whole_box(example) if self.whole else box_of(example, "RandomAffine")
        shift, angle, zoom = self.draw(rng)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        # The square around all that will be seen, at the resolution of the result: a rigid motion is left.
        reach = np.abs(turn).sum(1).max() + 2 * np.abs(turn.T @ shift).max()
        side = math.ceil(self.size * reach) + 2
        grow = (1 + 2 * self.margin) * side / (self.size * zoom)
        x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, grow * (x1 - x0), grow * (y1 - y0)
        square = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        around = crop({name: value for name, value in example.items() if name != "mask"}, square, side)
        offset = (self.size - 1) / 2 + self.size * shift - turn @ np.full(2, (side - 1) / 2)
        result = placed(around, turn, offset)
        result["image"] = sampled(around["image"], turn.T, -turn.T @ offset, self.size, Image.Resampling.BICUBIC, 0)
        if "mask" in example:  # straight from its source: sampled twice, nearest pixels would be a pixel off
            scale = np.array([w, h]) / side
            start = scale * (0.5 - turn.T @ offset) + square[:2]
            result["mask"] = sampled(
                example["mask"], scale[:, None] * turn.T, start, self.size, Image.Resampling.NEAREST, MISSING_CLASS
            )
        return result

    def draw(self, rng: np.random.Generator) -> tuple[Float[np.ndarray, "2"], float, float]:
        """Shift as a share of the side, angle, factor of zoom."""
        shift = rng.uniform(-self.shift, self.shift, 2)
        angle, zoom = rng.normal(size=2) if self.normal else rng.uniform(-1, 1, 2)
        return shift, self.angle_rad * angle, max(1 + self.zoom * zoom, LEAST_ZOOM)


class BlackRectangle:
    """A black rectangle somewhere in the image.

    Its height is half of h times the image's, with h uniform in [0.2, 0.8], and its width half of w times the image's,
    with w uniform within 0.2 of h. Its place is uniform, such that all of it is inside (the source's is not recorded).
    """

    reads = ()

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = example["image"].copy()
        share = rng.uniform(0.2, 0.8)
        shares = share / 2, rng.uniform(share - 0.2, share + 0.2) / 2
        h, w = (round(s * side) for s, side in zip(shares, image.shape[:2], strict=True))
        top, left = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
        image[top : top + h, left : left + w] = 0
        return {**example, "image": image}


class UniformNoise:
    """In a share of the examples, a blend of the image with uniform noise of up to `most`, drawn uniformly."""

    reads = ()

    def __init__(self, *, probability: float = 0.5, most: float = 0.5):
        self.probability, self.most = probability, most

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        share = rng.uniform(0, self.most)
        noise = rng.uniform(0, 255, example["image"].shape)
        return {**example, "image": np.rint((1 - share) * example["image"] + share * noise).astype(np.uint8)}


class Grey:
    """In a share of the examples, the image's luma (ITU-R 601) in all three channels."""

    reads = ()

    def __init__(self, *, probability: float = 0.1):
        self.probability = probability

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        luma = np.asarray(Image.fromarray(example["image"]).convert("L"))
        return {**example, "image": np.repeat(luma[..., None], 3, axis=2)}


class Gamma:
    """The image in [0, 1] to the power of one of `exponents`, all equally likely."""

    reads = ()

    def __init__(self, *, exponents: tuple[float, ...] = (0.5, 1.0, 2.0)):
        self.exponents = tuple(exponents)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        exponent = self.exponents[rng.integers(len(self.exponents))]
        table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
        return {**example, "image": table[example["image"]]}


class BoxBlur:
    """The image averaged over squares of k pixels, k = floor(u * side), u uniform in [0, `most`]; untouched if k < 2.

    Changed: an even square is centred, by half weights at its edges.
    """

    reads = ()

    def __init__(self, *, most: float = 0.01):
        self.most = most

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        k = int(rng.uniform(0, self.most) * max(example["image"].shape[:2]))
        if k < 2:
            return example
        blurred = Image.fromarray(example["image"]).filter(ImageFilter.BoxBlur((k - 1) / 2))
        return {**example, "image": np.array(blurred)}


class FlipWithLabels:
    """The example in a mirror, with a probability, if its labels can be mirrored, see `transforms.Flip`.

    Landmarks, masks and vertices are mirrored by the permutations in the data set's meta: where there is none, no
    example is mirrored. Attributes and action units without a permutation are taken for their own mirror images, unless
    one of their names speaks of a side, such as left; then no example is mirrored either.

    Args:
        labels: features that a task reads.
        meta: of the data set.
    """

    reads = ()

    def __init__(self, *, labels: tuple[str, ...], probability: float = 0.5, meta: Mapping[str, Any]):
        self.flip = Flip(probability=probability, captions=(), meta=meta)
        known = self.flip.permutations
        for name in ("attributes", "action_units"):
            if known[name] is None and not any(SIDES.search(each) for each in meta.get(name, ())):
                del known[name]
        self.possible = all(known.get(name, ()) is not None for name in labels)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return self.flip(example, rng) if self.possible else example
