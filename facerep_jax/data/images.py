"""Image and mask files: what is stored as it is, what is re-encoded, what is rejected.

An upright grey or RGB JPEG or 8-bit PNG is stored byte for byte; other images become a PNG of their upright RGB pixels,
masks an 8-bit grey PNG of class ids. Upright means turned as the file's EXIF says, whatever its format.
"""

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageFile, ImageOps

from facerep_jax.data.features import MISSING_CLASS

MAX_PIXELS = 50_000_000  # of an image or a mask
ORIENTATION = 0x0112  # EXIF tag
# Pillow's names of what is read. Others are refused: Pillow runs Ghostscript on EPS.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP")
DEPTHS = (8, 10, 12, 14, 16)  # significant bits that cameras give
NO_CLASS = 256  # more than any class id
END_OF_JPEG = b"\xff\xd9"
# libjpeg's warnings of files whose pixels are all there: bytes that do not belong, or numbers that decoders do not use.
HARMLESS = re.compile("extraneous bytes before marker|unknown JFIF revision|Invalid SOS parameters")
# How Pillow unpacks 16 bits a channel: to the higher byte of each. In the other order of bytes, that is the lower.
OTHER_BYTE = {f"{mode};16{a}": f"{mode};16{b}" for mode in ("RGB", "RGBX", "RGBA") for a, b in ("BL", "LB", "NB")}


@dataclasses.dataclass(frozen=True)
class Look:
    """What the file of an image has turned out to be."""

    size: tuple[int, int]  # (width, height) in pixels, upright
    direct: bool  # whether it is stored as it is
    turned: bool = False  # whether its EXIF turns or mirrors it
    flawed: bool = False  # a JPEG that is whole, but that decoders warn of
    bits: int = 16  # how many of 16 bits a channel its brightest pixel needs; 16 for other images too


def png(image: Image.Image) -> bytes:
    """The PNG file of an image."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) that the header of an image file gives, in pixels."""
    with Image.open(io.BytesIO(data)) as header:
        return header.size


def _too_large(size: tuple[int, int] | None = None) -> str:
    return f"{f'{size[0]} x {size[1]} pixels, ' if size else ''}more than {MAX_PIXELS // 1_000_000} megapixels"


def _opened(data: bytes) -> ImageFile.ImageFile:
    """An image whose header is read; ValueError if the bytes are none, of another format, or too many pixels."""
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise ValueError(_too_large()) from None
    except Image.UnidentifiedImageError:
        raise ValueError("not an image" if data else "the file is empty") from None
    if image.format not in FORMATS:
        raise ValueError(f"{image.format} is not read; save it as PNG or JPEG")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large(image.size))
    return image


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(ORIENTATION) in range(2, 9)  # 2 to 8 turn or mirror the image


def check_image(data: bytes) -> Look:
    """Decodes a whole image file.

    Raises ValueError, or whatever else the decoder raises, if the file is broken.
    """
    with _opened(data) as image:
        turned, flawed = _is_turned(image), ""
        direct = image.mode in ("RGB", "L") and not turned
        if _is_jpeg(image):
            data, flawed = whole_jpeg(data, image)
            direct = direct and not flawed
        else:
            direct = direct and image.format == "PNG" and _depth(data) == 8 and not getattr(image, "is_animated", False)
        if direct:
            image.load()
            return Look(image.size, True)
    upright, bits = _upright_rgb(data)
    return Look(upright.size, False, turned, bool(flawed), bits)


def upright_pixels(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file: those that are read of it once it is stored in a record.

    Raises ValueError, or whatever else the decoder raises, if the file is broken.
    """
    with _opened(data) as image:
        if _is_jpeg(image):
            if image.mode in ("RGB", "L") and not _is_turned(image):  # most files by far, which are decoded once
                with contextlib.suppress(ValueError):
                    return simplejpeg.decode_jpeg(data, "RGB", strict=True)
            data = whole_jpeg(data, image)[0]
    return np.asarray(_upright_rgb(data)[0])


def stored_image(data: bytes, direct: bool) -> bytes:
    """What a record holds for an image file: its bytes if it is `direct`, or a PNG of its RGB pixels.

    Transparency is dropped, of several pictures the first is taken, and 16 bits a channel become 8: the highest 8 of
    the 8, 10, 12, 14 or 16 that the brightest pixel needs, since cameras of 10 bits write files of 16.
    """
    if direct:
        return data
    with _opened(data) as image:
        whole = whole_jpeg(data, image)[0] if _is_jpeg(image) else data
    return png(_upright_rgb(whole)[0])


def whole_jpeg(data: bytes, image: Image.Image) -> tuple[bytes, str]:
    """A JPEG that has all of its pixels: (the bytes, with an end marker if they lack one, what decoders warn of).

    Args:
        data: the file. Bytes that do not belong there are harmless, and so is an end marker that is missing.
        image: the file as Pillow opens it.

    Raises:
        ValueError: pixels are missing or damaged.
    """
    first = _libjpeg_says(data, image)
    problem = first
    # Of a progressive file, whole scans may be missing too.
    if first.startswith("Premature end") and not image.info.get("progressive"):
        data += END_OF_JPEG
        problem = _libjpeg_says(data, image)
    if problem and not HARMLESS.search(problem):
        raise ValueError(first)
    return data, first


def _libjpeg_says(data: bytes, image: Image.Image) -> str:
    """The first warning or error of decoding a JPEG, a truncated file's among them; empty if there is none."""
    try:
        simplejpeg.decode_jpeg(data, "CMYK" if image.mode == "CMYK" else "RGB", strict=True)
    except ValueError as error:
        return str(error)
    return ""


def _upright_rgb(data: bytes) -> tuple[Image.Image, int]:
    """The pixels of an image, and how many of 16 bits a channel they use, see `Look`."""
    with _opened(data) as image:
        if image.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {image.mode} have no agreed range; save it as a PNG of 8 or 16 bits")
        if (deep := _deep_pixels(data, image)) is not None:
            bits = next(bits for bits in DEPTHS if int(deep.max()) < 1 << bits)
            return Image.fromarray((deep >> (bits - 8)).astype(np.uint8)).convert("RGB"), bits
        upright = ImageOps.exif_transpose(image)
        if "transparency" in upright.info:
            upright = upright.convert("RGBA")
        return upright.convert("RGB"), 16


def _deep_pixels(data: bytes, image: ImageFile.ImageFile) -> UInt16[np.ndarray, "..."] | None:
    """The upright pixels, grey (h, w) or RGB (h, w, 3), of an image of 16 bits a channel; None if it has less."""
    if image.mode.startswith("I;16"):
        return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
    unpacking = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args}
    if unpacking == {"LA;16B"}:  # as if these were four channels of a byte: grey's higher and lower, alpha's
        both = _unpacked(data, {"LA;16B": "RGBA"})
        return both[..., 0].astype(np.uint16) << 8 | both[..., 1]
    if not unpacking or not unpacking <= set(OTHER_BYTE):
        return None
    high, low = (_unpacked(data, other)[..., :3].astype(np.uint16) for other in ({}, OTHER_BYTE))
    return high << 8 | low


def _unpacked(data: bytes, other: dict[str, str]) -> UInt8[np.ndarray, "..."]:
    """The upright pixels of an image that is unpacked in other ways than Pillow would choose."""
    with _opened(data) as image:
        for number, tile in enumerate(image.tile):
            if isinstance(tile.args, str):
                args: Any = other.get(tile.args, tile.args)
            else:
                first, *rest = tile.args or ("",)
                args = (other.get(first, first), *rest)
            image.tile[number] = tile._replace(args=args)
        return np.asarray(ImageOps.exif_transpose(image))


def _depth(png_file: bytes) -> int:
    """The bits of a channel, or of an index into the palette: 1, 2, 4, 8 or 16."""
    return png_file[24]


def class_ids(
    data: bytes, classes: int, values: Sequence[int] = (), size: tuple[int, int] | None = None
) -> tuple[UInt8[np.ndarray, "h w"], bool]:
    """The class of each pixel of a mask's file, 255 where it is missing: (classes, whether they were resized).

    Args:
        data: the file, a PNG. Its pixels are the class ids, whatever their number of bits; those of a palette count as
            they are, not as their colours.
        classes: how many there are.
        values: the grey of each class, if ids are not the pixels themselves, such as (0, 255) for black and white.
        size: (width, height) of the image, if it is known. A mask of its proportions is resized to it.

    Raises:
        ValueError: the file is no PNG of class ids, or its proportions are not those of the image.
    """
    try:
        pixels = _mask_pixels(data, grey=bool(values))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise ValueError(f"cannot be decoded: {error}") from None
    known = np.full(1 << 16, NO_CLASS, np.uint16)  # pixel -> class
    known[MISSING_CLASS] = MISSING_CLASS
    known[list(values or range(classes))] = range(classes)
    ids = known[pixels]
    if len(wrong := np.unique(pixels[ids == NO_CLASS])):
        expected = f"mask_values are {', '.join(map(str, values))}" if values else f"must be below {classes}"
        cure = "" if values else "; name the classes' greys as `mask_values` if they are not 0, 1, ..."
        if len(wrong) > max(classes, 8):
            cure = f", and {len(wrong) - 1} more that are none: was the mask smoothed, or a JPEG?"
        raise ValueError(f"holds class id {wrong[0]}; {expected}, or {MISSING_CLASS} where it is missing{cure}")
    ids = ids.astype(np.uint8)
    height, width = ids.shape
    if size is None or size == (width, height):
        return ids, False
    if abs(width * size[1] - height * size[0]) >= max(size):  # more than a pixel off
        told = ", which its EXIF may have turned" if (height, width) == size else ""
        raise ValueError(f"is {width} x {height} pixels, but the image {size[0]} x {size[1]}{told}")
    return np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST)), True


def _mask_pixels(data: bytes, grey: bool) -> UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]:
    """The numbers that a mask's file holds, upright; those of less than 8 bits are scaled to 255 if they are `grey`."""
    with Image.open(io.BytesIO(data)) as image:
        kind, mode = image.format, image.mode
        if kind != "PNG":
            raise ValueError(f"must be a PNG with one channel of class ids, not {kind} {mode}")
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(_too_large(image.size))
        pixels = np.asarray(ImageOps.exif_transpose(image))
    if pixels.ndim == 3:
        colours = pixels[..., : 1 if mode == "LA" else 3]
        transparent = mode in ("LA", "RGBA") and pixels[..., -1].min() < 255
        if transparent or _depth(data) > 8 or (colours != colours[..., :1]).any():
            raise ValueError(f"must be a PNG with one channel of class ids, not of colours (PNG {mode})")
        return colours[..., 0]
    if mode == "1":
        return pixels.astype(np.uint8) * (255 if grey else 1)
    if mode == "L" and _depth(data) < 8 and not grey:
        return pixels // (255 // ((1 << _depth(data)) - 1))  # Pillow has scaled them
    return pixels


def stored_mask(data: bytes, classes: int, values: Sequence[int] = (), size: tuple[int, int] | None = None) -> bytes:
    """What a record holds for a mask's file: an 8-bit grey PNG of class ids; the arguments are those of `class_ids`."""
    ids, _ = class_ids(data, classes, values, size)
    with Image.open(io.BytesIO(data)) as image:
        direct = image.mode == "L" and _depth(data) == 8 and np.array_equal(np.asarray(image), ids)
    return data if direct else png(Image.fromarray(ids))
