"""Files written by Pillow or by hand; their pixels compared with those that went in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data import images

GREY = Image.effect_noise((12, 10), 60)
RGB = Image.merge("RGB", [GREY, GREY.rotate(90), GREY.rotate(180)])


def encoded(image=RGB, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def header_of(width, height):
    """A PNG whose header claims a size, and nothing after it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">I", zlib.crc32(head))
        + struct.pack(">I", 0)
        + b"IDAT"
    )


def deep_png():
    """A 2 x 1 RGB PNG of 16 bits a channel; Pillow cannot write one."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = struct.pack(">B6H", 0, 0x0100, 0x8000, 0xFFFF, 0x0000, 0x1234, 0x00FF)
    head = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def mask(ids, mode="L"):
    return encoded(Image.fromarray(np.asarray(ids, np.uint8)).convert(mode), "PNG")


BROKEN = {
    "truncated jpeg": (encoded()[:-30], "Premature end of JPEG"),
    "truncated progressive jpeg": (encoded(progressive=True)[:-30], "Premature end of JPEG"),
    "truncated png": (encoded(kind="PNG")[:-40], "truncated|Truncated|broken PNG"),
    "text": (b"this is no image", "not an image"),
    "empty": (b"", "the file is empty"),
    "60 megapixels": (header_of(10_000, 6_000), "10000 x 6000 pixels, more than 50 megapixels"),
    "600 megapixels": (header_of(30_000, 20_000), "more than 50 megapixels"),
    "float": (encoded(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"), "mode F have no agreed range"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_image_is_an_error(data, reason):
    with pytest.raises((ValueError, OSError, SyntaxError), match=reason):
        images.check_image(data)


def rotated(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


DIRECT = {
    "jpeg": encoded(),
    "progressive": encoded(progressive=True),
    "grey jpeg": encoded(GREY),
    "png": encoded(kind="PNG"),
    "grey png": encoded(GREY, "PNG"),
    "upright": encoded(exif=rotated(1)),
    "odd orientation": encoded(exif=rotated(9)),
    "two pictures": encoded(kind="MPO", save_all=True, append_images=[RGB]),
}


@pytest.mark.parametrize("data", DIRECT.values(), ids=DIRECT)
def test_what_training_reads_passes_untouched(data):
    assert images.check_image(data) == (True, RGB.size)
    assert images.stored_image(data) == data


CONVERTED = {
    "transparent": encoded(RGB.convert("RGBA"), "PNG"),
    "palette": encoded(RGB.quantize(16), "PNG"),
    "palette with transparency": encoded(RGB.quantize(16), "PNG", transparency=bytes(range(16))),
    "one bit": encoded(GREY.convert("1"), "PNG"),
    "cmyk": encoded(RGB.convert("CMYK")),
    "webp": encoded(kind="WEBP", lossless=True),
    "gif": encoded(kind="GIF", save_all=True, append_images=[GREY]),
    "apng": encoded(kind="PNG", save_all=True, append_images=[RGB.rotate(180)]),
    "rotated": encoded(RGB.transpose(Image.Transpose.ROTATE_90), exif=rotated(6)),
}


@pytest.mark.parametrize("data", CONVERTED.values(), ids=CONVERTED)
def test_other_images_are_stored_as_png_of_their_rgb_pixels(data):
    assert images.check_image(data) == (False, RGB.size)
    stored = Image.open(io.BytesIO(images.stored_image(data)))
    assert (stored.format, stored.mode, stored.size) == ("PNG", "RGB", RGB.size)
    assert images.check_image(images.stored_image(data))[0]


def test_conversion_keeps_the_pixels():
    def stored(data):
        return np.asarray(Image.open(io.BytesIO(images.stored_image(data))))

    np.testing.assert_array_equal(stored(CONVERTED["transparent"]), np.asarray(RGB))
    np.testing.assert_array_equal(stored(CONVERTED["webp"]), np.asarray(RGB))
    np.testing.assert_array_equal(stored(CONVERTED["apng"]), np.asarray(RGB))
    turned = np.asarray(Image.open(io.BytesIO(CONVERTED["rotated"])))
    np.testing.assert_array_equal(stored(CONVERTED["rotated"]), np.rot90(turned, -1))
    np.testing.assert_array_equal(stored(deep_png()), [[[1, 128, 255], [0, 18, 0]]])
    deep_grey = Image.fromarray(np.array([[0x0100, 0xFFFF, 0x8000]], np.uint16))
    np.testing.assert_array_equal(stored(encoded(deep_grey, "PNG"))[..., 0], [[1, 255, 128]])


MASKS = {
    "size": (mask(np.zeros((9, 12))), "is 12 x 9 pixels, but the image 12 x 10"),
    "class": (mask(np.full((10, 12), 2)), "holds class id 2; must be below 2, or 255"),
    "rgb": (mask(np.zeros((10, 12)), "RGB"), "must be a PNG with one 8-bit channel of class ids, not PNG RGB"),
    "jpeg": (encoded(GREY), "must be a PNG with one 8-bit channel of class ids, not JPEG L"),
    "truncated": (mask(np.eye(10, 12))[:-30], "cannot be decoded"),
    "text": (b"no image", "cannot be decoded"),
}


@pytest.mark.parametrize(("data", "message"), MASKS.values(), ids=MASKS)
def test_a_bad_mask_is_an_error(data, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        images.check_mask(data, RGB.size, classes=2)


def test_a_good_mask_is_none():
    images.check_mask(mask(np.eye(10, 12)), RGB.size, classes=2)
    images.check_mask(mask(np.full((9, 9), 255)), None, classes=2)  # the image is broken, so its size is not known


def test_a_mask_is_stored_as_grey_png_of_the_same_ids():
    ids = np.array([[0, 1, 255], [7, 1, 0]], np.uint8)
    plain = mask(ids)
    assert images.stored_mask(plain) == plain
    coloured = Image.fromarray(ids)
    coloured.putpalette([*range(255, -1, -1)] * 3)
    assert coloured.mode == "P"
    stored = Image.open(io.BytesIO(images.stored_mask(encoded(coloured, "PNG"))))
    assert stored.mode == "L"
    np.testing.assert_array_equal(np.asarray(stored), ids)
