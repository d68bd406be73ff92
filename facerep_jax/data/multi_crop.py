"""Several random crops of an image, at two resolutions, and what self-supervised methods do to their colours.

See `data.transforms` for the form. `image` is uint8 RGB (h, w, 3); crops are images without annotations.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from facerep_jax.data.transforms import Example, RandomResizedCrop, Transform, resample


class MultiCrop:
    """`image`, the first large crop; `image_large`, the others, and `image_small`, small ones: (crops, size, size, 3).

    Each crop is a random box of the image, resized by an antialiased bilinear filter, and then augmented on its own. A
    box of fewer pixels than the crop is enlarged. What else the example has is left out, but for labels of the whole
    image, which no crop changes.

    Source: 2006.09882, section 3.3 and appendix A: areas as shares of the image, RandomResizedCrop's aspect ratios.

    Args:
        size, count, scale: of the large crops: pixels of a side, how many, least and largest area.
        small_size, small_count, small_scale: of the small ones.
        augmentations: transforms of every crop, in order.
        second: transforms of the large crops but the first, if others.
        of_small: transforms of the small crops, if others.
    """

    reads = ()
    labels = ("identity", "attributes", "expression", "valence", "arousal")

    def __init__(
        self,
        *,
        size: int = 224,
        count: int = 2,
        scale: tuple[float, ...] = (0.14, 1.0),
        small_size: int = 96,
        small_count: int = 6,
        small_scale: tuple[float, ...] = (0.05, 0.14),
        augmentations: Sequence[Transform] = (),
        second: Sequence[Transform] | None = None,
        of_small: Sequence[Transform] | None = None,
    ):
        if count < 1 or small_count < 0:
            raise ValueError(f"MultiCrop gives at least one large crop, not {count}, and not {small_count} small ones")
        if small_count and small_size > size:
            raise ValueError(f"MultiCrop's small crops of {small_size} pixels are larger than the large ones of {size}")
        for least, largest in (scale, small_scale):
            if not 0 < least <= largest <= 1:
                raise ValueError(
                    f"MultiCrop's crops have areas above 0 and at most the image's, 1, not from {least} to {largest}"
                )
        self.large, self.small = RandomResizedCrop(size=size, scale=scale), None
        if small_count:
            self.small = RandomResizedCrop(size=small_size, scale=small_scale)
        self.count, self.small_count = count, small_count
        self.first = tuple(augmentations)
        self.second = self.first if second is None else tuple(second)
        self.of_small = self.first if of_small is None else tuple(of_small)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        large = [
            augmented(cropped(image, self.large, rng), self.second if index else self.first, rng)
            for index in range(self.count)
        ]
        crops = {"image": large[0]}
        if self.count > 1:
            crops["image_large"] = np.stack(large[1:])
        if self.small is not None:
            crops["image_small"] = np.stack(
                [augmented(cropped(image, self.small, rng), self.of_small, rng) for _ in range(self.small_count)]
            )
        return {name: example[name] for name in ("id", *self.labels) if name in example} | crops


def cropped(
    image: UInt8[np.ndarray, "h w 3"], crop: RandomResizedCrop, rng: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """A random box of an image as a square."""
    box = crop.box(image.shape[0], image.shape[1], rng)
    return resample(image, box, crop.size, Image.Resampling.BILINEAR, 0)


def augmented(
    image: UInt8[np.ndarray, "h w 3"], transforms: Sequence[Transform], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """An image after transforms that look at nothing else."""
    example: Example = {"image": image}
    for transform in transforms:
        example = transform(example, rng)
    return example["image"]


class Mirror:
    """In a share of the examples, the image in a mirror; nothing else moves: for crops, see `transforms.Flip`."""

    reads = ()

    def __init__(self, *, probability: float = 0.5):
        self.probability = probability

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        return {**example, "image": np.ascontiguousarray(example["image"][:, ::-1])}


class ColourJitter:
    """In a share of the examples, other brightness, contrast, saturation and hue, in random order.

    Factors are uniform within `brightness`, `contrast` and `saturation` of 1, and not negative. Brightness blends with
    black, contrast with the grey of the mean luma, saturation with the image's own luma. The hue is turned by a uniform
    share of the circle, at most `hue`.

    Source: torchvision.transforms.ColorJitter of PIL images; SwAV and FRL (2103.16554) have 0.8, 0.8, 0.8 and 0.2.
    """

    reads = ()

    def __init__(
        self,
        *,
        probability: float = 0.8,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
    ):
        self.probability, self.hue = probability, hue
        self.strengths = (brightness, contrast, saturation)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        image = Image.fromarray(example["image"])
        factors = [rng.uniform(max(0, 1 - strength), 1 + strength) for strength in self.strengths]
        turn = rng.uniform(-self.hue, self.hue)
        for which in rng.permutation(4):
            match int(which):
                case 0:
                    image = ImageEnhance.Brightness(image).enhance(factors[0])
                case 1:
                    image = ImageEnhance.Contrast(image).enhance(factors[1])
                case 2:
                    image = ImageEnhance.Color(image).enhance(factors[2])
                case _ if self.hue:
                    image = turned(image, turn)
        return {**example, "image": np.array(image)}


def turned(image: Image.Image, turn: float) -> Image.Image:
    """The image with its hue turned by a share of the circle."""
    hue, saturation, value = image.convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int32) + int(turn * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(shifted.astype(np.uint8)), saturation, value)).convert("RGB")


class GaussianBlur:
    """In a share of the examples, the image smoothed by a Gaussian of uniform deviation, in pixels.

    Source: 2002.05709, appendix A; SwAV draws the radius of Pillow's filter from 0.1 to 2.
    """

    reads = ()

    def __init__(self, *, probability: float = 0.5, least: float = 0.1, most: float = 2.0):
        self.probability, self.least, self.most = probability, least, most

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        blurred = Image.fromarray(example["image"]).filter(ImageFilter.GaussianBlur(rng.uniform(self.least, self.most)))
        return {**example, "image": np.array(blurred)}


class Solarise:
    """In a share of the examples, the image with all values of 128 and more inverted. Source: BYOL (2006.07733)."""

    reads = ()

    def __init__(self, *, probability: float = 0.2):
        self.probability = probability

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        return {**example, "image": np.array(ImageOps.solarize(Image.fromarray(example["image"]), 128))}
