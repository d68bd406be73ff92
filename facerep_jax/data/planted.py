"""Copies of an image as they are met on the web, made to try out whether they are found."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageOps

Copy = Callable[[Image.Image, np.random.Generator], Image.Image]


def resized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With sides of 0.6 and 0.7 times their length."""
    return image.resize((max(1, round(0.6 * image.width)), max(1, round(0.7 * image.height))))


def encoded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """As a JPEG of quality 40."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


def mirrored(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """In a mirror."""
    return ImageOps.mirror(image)


def cropped_by(share: float, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Without this share of its width and height, wherever that lies."""
    width, height = (max(1, round((1 - share) * side)) for side in image.size)
    x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Without colours."""
    return image.convert("L").convert("RGB")


def rotated(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by ten degrees, with black corners."""
    return image.rotate(10, Image.Resampling.BICUBIC)


def framed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """In a white frame of a tenth of its longer side."""
    return ImageOps.expand(image, round(0.1 * max(image.size)), "white")


KINDS: Mapping[str, Copy] = {
    "resized": resized,
    "encoded anew": encoded,
    "mirrored": mirrored,
    "cropped by 10 %": lambda image, rng: cropped_by(0.1, image, rng),
    "cropped by 25 %": lambda image, rng: cropped_by(0.25, image, rng),
    "grey": grey,
    "rotated by 10 degrees": rotated,
    "framed": framed,
}
SLIGHT = tuple(KINDS)[:4]  # which any encoder of use should see through
