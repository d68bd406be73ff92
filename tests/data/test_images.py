"""Files written by Pillow or by hand; their pixels compared with those that went in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from facerep_jax.data import images
from facerep_jax.data.images import Look
from facerep_jax.data.transforms import decode_image

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


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(rows, width, depth, colour_type, before=b"", after=b""):
    """A PNG of packed rows, as its specification lays it out; `before` and `after` are chunks around the pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = chunk(b"IHDR", head) + before + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_png(pixels):
    """A PNG of 16 bits a channel, grey, grey and alpha, RGB or RGBA; Pillow writes grey only."""
    w, channels = pixels.shape[1:]
    return raw_png([row.astype(">u2").tobytes() for row in pixels], w, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels])


def packed_png(ids, depth, palette=b""):
    """A grey or palette PNG of 1, 2 or 4 bits a pixel."""
    bits = np.unpackbits(ids[..., None].astype(np.uint8), axis=-1)[..., -depth:]
    rows = [row.tobytes() for row in np.packbits(bits.reshape(len(ids), -1), axis=-1)]
    return raw_png(rows, ids.shape[1], depth, 3 if palette else 0, chunk(b"PLTE", palette) if palette else b"")


def deep_tiff(pixels, order="<", compressed=False):
    """A TIFF of 16 bits in each of three channels, by its specification."""
    h, w, _ = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    bits_at = 8 + 2 + 9 * 12 + 4
    tags = [(256, 3, 1, w), (257, 3, 1, h), (258, 3, 3, bits_at), (259, 3, 1, 8 if compressed else 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, bits_at + 6), (277, 3, 1, 3), (278, 4, 1, h), (279, 4, 1, len(data))]
    entries = b"".join(
        struct.pack(f"{order}HHIHH", *tag, 0) if tag[1:3] == (3, 1) else struct.pack(f"{order}HHII", *tag)
        for tag in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + struct.pack(f"{order}I3H", 0, 16, 16, 16) + data


def mask(ids, mode="L"):
    return encoded(Image.fromarray(np.asarray(ids, np.uint8)).convert(mode), "PNG")


SOUND = encoded(RGB.resize((60, 50)))

BROKEN = {
    "truncated jpeg": (encoded()[:-30], "Premature end of JPEG"),
    "truncated progressive jpeg": (encoded(progressive=True)[:-30], "Premature end of JPEG"),
    "truncated png": (encoded(kind="PNG")[:-40], "truncated|Truncated|broken PNG"),
    "text": (b"this is no image", "not an image"),
    "empty": (b"", "the file is empty"),
    "60 megapixels": (header_of(10_000, 6_000), "10000 x 6000 pixels, more than 50 megapixels"),
    "600 megapixels": (header_of(30_000, 20_000), "more than 50 megapixels"),
    "progressive jpeg without its end": (encoded(progressive=True)[:-2], "Premature end of JPEG"),
    "jpeg of lost bytes": (SOUND[:-300] + SOUND[-2:], "Corrupt JPEG data: premature end of data segment"),
    "eps": (encoded(kind="EPS"), "EPS is not read; save it as PNG or JPEG"),
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
    assert images.check_image(data) == Look(RGB.size, direct=True)
    assert images.stored_image(data, direct=True) == data


CONVERTED = {
    "transparent": encoded(RGB.convert("RGBA"), "PNG"),
    "palette": encoded(RGB.quantize(16), "PNG"),
    "palette with transparency": encoded(RGB.quantize(16), "PNG", transparency=bytes(range(16))),
    "one bit": encoded(GREY.convert("1"), "PNG"),
    "cmyk": encoded(RGB.convert("CMYK")),
    "webp": encoded(kind="WEBP", lossless=True),
    "gif": encoded(kind="GIF", save_all=True, append_images=[GREY]),
    "apng": encoded(kind="PNG", save_all=True, append_images=[RGB.rotate(180)]),
}


@pytest.mark.parametrize("data", CONVERTED.values(), ids=CONVERTED)
def test_other_images_are_stored_as_png_of_their_rgb_pixels(data):
    assert images.check_image(data) == Look(RGB.size, direct=False)
    stored = images.stored_image(data, direct=False)
    image = Image.open(io.BytesIO(stored))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", RGB.size)
    assert images.check_image(stored).direct


def pixels_of(data):
    """What is stored for an image that is not stored as it is."""
    assert not images.check_image(data).direct
    return np.asarray(Image.open(io.BytesIO(images.stored_image(data, direct=False))))


def test_conversion_keeps_the_pixels():
    for name in ("transparent", "webp", "apng"):
        np.testing.assert_array_equal(pixels_of(CONVERTED[name]), np.asarray(RGB))


@pytest.mark.skipif(not features.check("webp"), reason="a Pillow without WebP")
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_turns_every_format_alike(orientation):
    """tried: PNG taken as it lies; 16 bits turned before their EXIF was lost; chunks behind the pixels not read."""
    exif, grey = rotated(orientation), np.asarray(GREY).astype(np.uint16) * 257
    chunks = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rows = [row.tobytes() for row in np.asarray(RGB)]
    files = {
        "jpeg": encoded(exif=exif, quality=100, subsampling=0),
        "png": encoded(kind="PNG", exif=exif),
        "png, exif behind": raw_png(rows, 12, 8, 2, after=chunks),
        "png, palette": encoded(RGB.quantize(), "PNG", exif=exif),
        "png, 16 bits": raw_png([row.astype(">u2").tobytes() for row in grey], 12, 16, 0, chunks),
        "webp": encoded(kind="WEBP", lossless=True, exif=exif),
        "tiff": encoded(kind="TIFF", exif=exif),
        "tiff, 16 bits": encoded(Image.fromarray(grey), "TIFF", exif=exif),
    }
    for name, data in files.items():
        whole = ImageOps.exif_transpose(Image.open(io.BytesIO(files["png"])))
        if "16 bits" in name:
            lying = Image.merge("RGB", [GREY] * 3)
            lying.getexif()[0x0112] = orientation
            whole = ImageOps.exif_transpose(lying)
        look = images.check_image(data)
        assert (look.turned, look.direct, look.size) == (True, False, whole.size), name
        difference = np.abs(pixels_of(data).astype(int) - np.asarray(whole.convert("RGB")))
        assert difference.mean() < {"jpeg": 3, "png, palette": 12}.get(name, 1e-9), name


def test_sixteen_bits_become_eight_of_those_that_are_used():
    """tried: the higher byte, whatever is used; the most that a set uses; bytes of TIFF in the other order."""
    shades = np.linspace(0, 255, 120).astype(np.uint16).reshape(10, 12, 1)
    colours = np.concatenate([shades, shades[::-1], shades[:, ::-1]], axis=2)
    alpha = np.full_like(shades, 255)
    for bits, scale in ((8, 1), (10, 4), (12, 16), (14, 64), (16, 257)):
        for name, data, expected in (
            ("grey", deep_png(shades * scale), shades),
            ("grey and alpha", deep_png(np.concatenate([shades * scale, alpha * 257], axis=2)), shades),
            ("rgb", deep_png(colours * scale), colours),
            ("rgba", deep_png(np.concatenate([colours * scale, alpha * 257], axis=2)), colours),
            ("grey tiff", encoded(Image.fromarray(shades[..., 0] * scale), "TIFF"), shades),
            *((f"tiff {order}", deep_tiff(colours * scale, order), colours) for order in "<>"),
            ("compressed tiff", deep_tiff(colours * scale, compressed=True), colours),
        ):
            assert images.check_image(data).bits == bits, name
            np.testing.assert_array_equal(pixels_of(data), np.broadcast_to(expected, (10, 12, 3)), name)


SCAN = SOUND.index(b"\xff\xda")
STRAY = {
    "before the end": SOUND[:-2] + bytes(11) + SOUND[-2:],
    "before the scan": SOUND[:SCAN] + b"\0\1\2" + SOUND[SCAN:],
    "no end marker": SOUND[:-2],
    "zeros for an end marker": SOUND[:-2] + bytes(40),
    "another version": SOUND.replace(b"JFIF\0\1", b"JFIF\0\2"),
}


@pytest.mark.parametrize("data", STRAY.values(), ids=STRAY)
def test_a_jpeg_that_decoders_only_warn_of_is_read(data):
    look = images.check_image(data)
    assert (look.flawed, look.direct, look.size) == (True, False, (60, 50))
    np.testing.assert_array_equal(pixels_of(data), np.asarray(Image.open(io.BytesIO(SOUND))))


@pytest.mark.parametrize("tail", [b"\0" * 11, b"<html>ad</html>", SOUND])
def test_what_stands_behind_a_jpeg_does_not_matter(tail):
    assert images.check_image(SOUND + tail).direct


def test_a_turned_or_cmyk_jpeg_with_stray_bytes_is_read_too():
    for data in (encoded(exif=rotated(3)), encoded(RGB.convert("CMYK"))):
        look = images.check_image(data[:-2] + bytes(11) + data[-2:])
        assert look.flawed
        assert not look.direct


MASKS = {
    "proportions": (mask(np.zeros((8, 12))), "is 12 x 8 pixels, but the image 12 x 10$"),
    "on its side": (
        mask(np.zeros((12, 10))),
        "is 10 x 12 pixels, .* 12 x 10, which its EXIF may have turned",
    ),
    "class": (mask(np.full((10, 12), 2)), "holds class id 2; must be below 2, or 255 .*; name .* as `mask_values` if"),
    "smoothed": (
        encoded(Image.fromarray(np.eye(10, 12, dtype=np.uint8) * 255).resize((40, 40)).resize((12, 10)), "PNG"),
        "holds class id .*, and [0-9]+ more that are none: was the mask smoothed, or a JPEG",
    ),
    "16 bits": (deep_png(np.full((10, 12, 1), 300)), "holds class id 300"),
    "colours": (encoded(RGB, "PNG"), r"must be a PNG with one channel of class ids, not of colours \(PNG RGB\)"),
    "transparent": (encoded(Image.new("LA", (12, 10), (1, 128)), "PNG"), "must be a PNG with one channel of class ids"),
    "jpeg": (encoded(GREY), "must be a PNG with one channel of class ids, not JPEG L"),
    "truncated": (mask(np.eye(10, 12))[:-30], "cannot be decoded"),
    "text": (b"no image", "cannot be decoded"),
    "a header of 60 megapixels": (header_of(10_000, 6_000), "10000 x 6000 pixels, more than 50 megapixels"),
    "a header of 600 megapixels": (header_of(30_000, 20_000), "cannot be decoded"),
}


@pytest.mark.parametrize(("data", "message"), MASKS.values(), ids=MASKS)
def test_a_bad_mask_is_an_error(data, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        images.class_ids(data, 2, size=RGB.size)


IDS = np.random.default_rng(0).integers(0, 4, (10, 12), np.uint8)
SAME = {
    "8 bits": mask(IDS),
    "4 bits": packed_png(IDS, 4),
    "2 bits": packed_png(IDS, 2),
    "16 bits": deep_png(IDS[..., None]),
    "palette": packed_png(IDS, 8, bytes(range(48))),
    "palette of 4 bits": packed_png(IDS, 4, bytes(range(48))),
    "palette of 2 bits": packed_png(IDS, 2, bytes(range(12))),
    "grey in colours": mask(IDS, "RGB"),
    "grey and alpha": mask(IDS, "LA"),
    "rgba": mask(IDS, "RGBA"),
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME)
def test_class_ids_are_the_pixels_whatever_the_depth(data):
    """tried: Pillow's scaled pixels of 4 and 2 bits, which make 17 and 85 of a 1."""
    ids, resized = images.class_ids(data, 19, size=RGB.size)
    np.testing.assert_array_equal(ids, IDS)
    assert not resized
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(images.stored_mask(data, 19)))), IDS)


def test_one_bit_is_two_classes():
    np.testing.assert_array_equal(images.class_ids(mask(IDS // 2 * 255, "1"), 2)[0], IDS // 2)


def test_greys_stand_for_classes_where_that_is_said():
    greys = (0, 85, 170, 255)
    for data in (mask(IDS * 85), packed_png(IDS, 2), packed_png(IDS * 5, 4), mask(IDS * 85, "RGB")):
        np.testing.assert_array_equal(images.class_ids(data, 4, greys)[0], IDS)
    np.testing.assert_array_equal(images.class_ids(mask(IDS // 2 * 255), 2, (0, 255))[0], IDS // 2)
    np.testing.assert_array_equal(images.class_ids(mask(IDS // 2 * 255, "1"), 2, (0, 255))[0], IDS // 2)
    np.testing.assert_array_equal(images.class_ids(mask([[7, 255]]), 1, (7,))[0], [[0, 255]])
    with pytest.raises(ValueError, match="holds class id 3; mask_values are 0, 255, or 255 where it is missing"):
        images.class_ids(mask(IDS // 3 * 3), 2, (0, 255))


def test_a_mask_of_the_images_proportions_takes_its_size():
    """Half and twice as large, by the nearest pixel; a pixel more or less comes of rounding."""
    ids, resized = images.class_ids(mask(IDS), 4, size=(24, 20))
    assert resized
    np.testing.assert_array_equal(ids, IDS.repeat(2, 0).repeat(2, 1))
    ids, _ = images.class_ids(mask(IDS.repeat(2, 0).repeat(2, 1)), 4, size=(12, 10))
    np.testing.assert_array_equal(ids, IDS)
    assert images.class_ids(mask(np.zeros((4, 5))), 4, size=(12, 10))[0].shape == (10, 12)
    assert np.asarray(Image.open(io.BytesIO(images.stored_mask(mask(IDS), 4, size=(24, 20))))).shape == (20, 24)


def test_a_mask_is_turned_by_its_exif_as_an_image_is():
    turned = encoded(Image.fromarray(IDS), "PNG", exif=rotated(6))
    np.testing.assert_array_equal(images.class_ids(turned, 4)[0], np.rot90(IDS, -1))


def test_a_mask_is_stored_as_grey_png_of_the_same_ids():
    ids = np.array([[0, 1, 255], [7, 1, 0]], np.uint8)
    plain = mask(ids)
    assert images.stored_mask(plain, 8) == plain
    coloured = Image.fromarray(ids)
    coloured.putpalette([*range(255, -1, -1)] * 3)
    assert coloured.mode == "P"
    stored = Image.open(io.BytesIO(images.stored_mask(encoded(coloured, "PNG"), 8)))
    assert stored.mode == "L"
    np.testing.assert_array_equal(np.asarray(stored), ids)


def turned(image, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        encoded(),
        encoded(GREY),
        encoded(RGB, "PNG"),
        encoded(RGB.convert("CMYK")),
        encoded(RGB.convert("P"), "PNG"),
        encoded(RGB.convert("RGBA"), "PNG"),
        encoded(RGB, "WEBP", lossless=True),
        turned(RGB, 6, "JPEG"),
        turned(RGB, 3, "PNG"),
        encoded()[:-2],  # without its end marker
        deep_png(np.arange(0, 65_520, 546, dtype=np.uint16).reshape(10, 12, 1)),
    ],
    ids=["rgb", "grey", "png", "cmyk", "palette", "alpha", "webp", "turned", "turned_png", "endless", "deep"],
)
def test_the_pixels_of_a_file_are_those_of_its_record(data):
    stored = images.stored_image(data, images.check_image(data).direct)
    np.testing.assert_array_equal(images.upright_pixels(data), decode_image(stored))


def test_pixels_of_a_broken_file_are_refused():
    large = Image.effect_noise((90, 80), 60)
    for data in (b"", b"text", encoded(large)[:900], encoded(large, "PNG")[:900]):
        with pytest.raises((ValueError, OSError)):
            images.upright_pixels(data)
