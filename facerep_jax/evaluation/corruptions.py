"""The same test images under blur, noise, JPEG, occlusion and low light, at five strengths each.

Source: ImageNet-C (Hendrycks and Dietterich, ICLR 2019, 1903.12261), whose strengths of Gaussian blur, Gaussian noise
and JPEG these are (github.com/hendrycks/robustness, make_imagenet_c.py).
Changed: they corrupt crops of 224 pixels; the blur is in proportion to the side of the image, so that an image of any
size is as blurred to the eye. Noise is in each pixel whatever the size, and so is JPEG. Images are not written as JPEG
of quality 85 afterwards. Each image's noise and place of occlusion are the same at all strengths, so that a curve is
of strength alone. Occlusion and low light are not of ImageNet-C.
"""

import io
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy import ndimage

from facerep_jax.config import pick
from facerep_jax.data.arrays import Lazy, Stack

Pixels = UInt8[np.ndarray, "h w 3"]

STRENGTHS = (1, 2, 3, 4, 5)
PUBLISHED_SIDE = 224  # pixels of the images that the strengths of a blur are given for
BLUR_SIGMAS_PX = (1.0, 2.0, 3.0, 4.0, 6.0)
NOISE_DEVIATIONS = (0.08, 0.12, 0.18, 0.26, 0.38)  # of values from 0 to 1
JPEG_QUALITIES = (25, 18, 15, 10, 7)
COVERED = (0.05, 0.1, 0.2, 0.3, 0.4)  # of the image's area
STOPS = (1, 2, 3, 4, 5)  # of exposure: each halves the light
GREY = 127  # of what covers


def blurred(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """The image under a Gaussian blur; beyond its edges it goes on as its edge is."""
    sigma = BLUR_SIGMAS_PX[strength - 1] * max(image.shape[:2]) / PUBLISHED_SIDE
    return rounded(ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest"))


def noisy(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """The image with Gaussian noise, independent in each pixel and channel."""
    return rounded(image + 255 * NOISE_DEVIATIONS[strength - 1] * rng.standard_normal(image.shape))


def compressed(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """The image after it was a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITIES[strength - 1])
    return np.asarray(Image.open(file).convert("RGB"))


def covered(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """The image with a grey square in it, about one place for all strengths; squares that would stick out are moved."""
    height, width = image.shape[:2]
    side = round(np.sqrt(COVERED[strength - 1] * height * width))
    middle = rng.uniform(size=2) * (height, width)
    top, left = (
        int(np.clip(round(place - side / 2), 0, max(whole - side, 0)))
        for place, whole in zip(middle, (height, width), strict=True)
    )
    found = image.copy()
    found[top : top + side, left : left + side] = GREY
    return found


def darkened(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """The image as if it had been exposed that many stops less, by sRGB's curve, in 8 bits as before.

    Source: IEC 61966-2-1.
    """
    values = np.arange(256) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) / 2.0 ** STOPS[strength - 1]
    table = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return rounded(255 * table)[image]


def rounded(values: np.ndarray) -> np.ndarray:
    """Values as the nearest of 0 to 255."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


KINDS: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "blur": blurred,
    "noise": noisy,
    "jpeg": compressed,
    "occlusion": covered,
    "low_light": darkened,
}
ALL = "all"  # stands for each of them
TITLES = {"blur": "Blur", "noise": "Noise", "jpeg": "JPEG", "occlusion": "Occlusion", "low_light": "Low light"}
COPIES = [(kind, strength) for kind in KINDS for strength in STRENGTHS]


def kinds_of(wanted: Sequence[str]) -> tuple[str, ...]:
    """The kinds of corruption that are wanted, in the order of `KINDS`; ValueError if there is none of a name."""
    for name in wanted:
        pick("corruption", name, {**KINDS, ALL: None})
    return tuple(name for name in KINDS if name in wanted or ALL in wanted)


def corrupted(image: Pixels, name: str, kind: str, strength: int) -> Pixels:
    """An image under a corruption.

    Args:
        name: of the image, which all that is random follows from; its place among others does not matter.
        strength: from 1 to 5.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"a strength is from 1 to {len(STRENGTHS)}, not {strength}")
    return KINDS[kind](image, strength, np.random.default_rng(zlib.crc32(f"{kind} {name}".encode())))


def copies_of(images: Stack, names: Sequence[str], kinds: Sequence[str]) -> Lazy:
    """All images, then all of them under each strength of each kind; made as they are asked for."""
    made = [(kind, strength) for kind in kinds for strength in STRENGTHS]

    def one(row: int) -> Pixels:
        copy, place = divmod(row, len(names))
        image = images[place]
        return corrupted(image, names[place], *made[copy - 1]) if copy else image

    def read(rows: np.ndarray) -> np.ndarray:
        return np.stack([one(row) for row in rows.tolist()])

    return Lazy(read, ((1 + len(made)) * len(names), *images.shape[1:]), images.dtype)
