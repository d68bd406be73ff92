"""Image and mask files: what is stored as it is, what is re-encoded, what is rejected.

An upright grey or RGB JPEG or 8-bit PNG is stored byte for byte; other images become a PNG of their upright RGB pixels,
masks an 8-bit grey PNG of class ids.
"""

import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from facerep_jax.data.features import MISSING_CLASS

MAX_PIXELS = 50_000_000  # of an image
ORIENTATION = 0x0112  # EXIF tag


def png(image: Image.Image) -> bytes:
    """The PNG file of an image."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _too_large(size: tuple[int, int] | None = None) -> str:
    return f"{f'{size[0]} x {size[1]} pixels, ' if size else ''}more than {MAX_PIXELS // 1_000_000} megapixels"


def _opened(data: bytes) -> Image.Image:
    """An image whose header is read; ValueError if the bytes are none, or too many pixels."""
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise ValueError(_too_large()) from None
    except Image.UnidentifiedImageError:
        raise ValueError("not an image" if data else "the file is empty") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large(image.size))
    return image


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it


def _is_direct(image: Image.Image, data: bytes) -> bool:
    """Whether training reads the file as it is: an upright JPEG or 8-bit PNG, grey or RGB."""
    if image.mode not in ("RGB", "L"):
        return False
    if _is_jpeg(image):
        return image.getexif().get(ORIENTATION) not in range(2, 9)  # 2 to 8 turn or mirror the image
    return image.format == "PNG" and data[24] == 8 and not getattr(image, "is_animated", False)  # byte 24: bit depth


def check_image(data: bytes) -> tuple[bool, tuple[int, int]]:
    """Decodes a whole image file: (whether it is stored as it is, (width, height) as stored).

    Raises ValueError, or whatever else the decoder raises, if the file is broken.
    """
    with _opened(data) as image:
        if not _is_direct(image, data):
            return False, _upright_rgb(image).size
        if _is_jpeg(image):
            simplejpeg.decode_jpeg(data, strict=True)  # strict: a truncated file is an error, not grey
        else:
            image.load()
        return True, image.size


def stored_image(data: bytes) -> bytes:
    """What a record holds for an image file that `check_image` accepts: its bytes, or a PNG of its RGB pixels.

    The latter for what is not a grey or RGB, 8-bit, upright JPEG or PNG: transparency is dropped, 16 bits become 8, of
    several pictures the first is taken.
    """
    with _opened(data) as image:
        return data if _is_direct(image, data) else png(_upright_rgb(image))


def _upright_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of Pillow's mode {image.mode} have no agreed range")
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return ImageOps.exif_transpose(image).convert("RGB")


def _class_ids(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        if image.format != "PNG" or image.mode not in ("L", "P", "1"):
            raise ValueError(f"must be a PNG with one 8-bit channel of class ids, not {image.format} {image.mode}")
        # Indices of a palette are the class ids; converting would give the brightness of their colours.
        return Image.fromarray(np.asarray(image).astype(np.uint8))


def check_mask(data: bytes, size: tuple[int, int] | None, classes: int) -> None:
    """Checks the file of a mask.

    Args:
        data: the file.
        size: (width, height) of the image, if it is known.
        classes: how many there are.

    Raises:
        ValueError: the file is no PNG of class ids, or of another size than the image.
    """
    try:
        mask = _class_ids(data)
    except (OSError, SyntaxError) as error:  # what Pillow raises on broken files
        raise ValueError(f"cannot be decoded: {error}") from None
    if size and mask.size != size:
        raise ValueError(f"is {mask.width} x {mask.height} pixels, but the image {size[0]} x {size[1]}")
    ids = np.unique(np.asarray(mask))
    if wrong := [int(i) for i in ids if i >= classes and i != MISSING_CLASS]:
        raise ValueError(f"holds class id {wrong[0]}; must be below {classes}, or {MISSING_CLASS} where it is missing")


def stored_mask(data: bytes) -> bytes:
    """What a record holds for a mask's file: an 8-bit grey PNG of class ids."""
    with Image.open(io.BytesIO(data)) as image:
        return data if image.mode == "L" and data[24] == 8 else png(_class_ids(data))
