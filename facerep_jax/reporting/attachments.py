"""Images of workdirs as data URIs, small enough that all of them fit on one page."""

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

BUDGET = 3_000_000  # bytes of all images of a page
TRIES = ((1200, 84), (1200, 70), (1000, 60), (800, 50), (600, 40))  # widest side in pixels and quality, until it fits


def bytes_each(count: int) -> int:
    """How many bytes each of `count` images may have, encoded."""
    return BUDGET * 3 // 4 // max(count, 1)  # base64 makes four bytes of three


def data_uri(path: Path, allowed: int) -> str:
    """An image file as a data URI of WebP of at most `allowed` bytes, or the smallest of `TRIES` if all are larger.

    Raises:
        ValueError: the file is not an image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not an image: {error}") from None
    return uri_of(image, allowed)


def uri_of(image: Image.Image, allowed: int) -> str:
    """The same of an image that is no file."""
    for width, quality in TRIES:
        smaller = image.copy()
        smaller.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
        packed = io.BytesIO()
        smaller.save(packed, "WEBP", quality=quality, method=4)
        if packed.tell() <= allowed:
            break
    return f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}"
