"""Numbers that look-alike images share: how near-duplicates are found, in one set or between two.

A hash says of each cell of a grid of 8 x 8 whether it is darker than its right neighbour. It hardly changes when an
image is resized or encoded anew; images are alike if the distance of their hashes, the bits that differ, is small.

Source: difference hash (dHash), N. Krawetz, "Kind of like that" (2013). Of our own, because the packages for it need
SciPy, PyWavelets and an image object for what is a line of NumPy here.
"""

import io
from collections.abc import Iterator

import numpy as np
import simplejpeg
from jaxtyping import Bool, Float32, UInt16, UInt64
from PIL import Image

SIDE = 8  # cells of the grid
FARTHEST = 3  # distance that the search for alike images of one set finds all pairs of
BAND = 16  # bits: of two hashes that differ in three bits, one of four bands is equal
FINE, CROP = 16, 0.9  # cells of a side of the grid of a fine hash, and how much of a side its crops show
ALIKE = 40  # bits of 256 in which fine hashes of near-duplicates differ at most, see `audit`
PIXELS = 64  # of a side of what a hash is computed from


def grey_of(data: bytes, pixels: int = PIXELS) -> Float32[np.ndarray, "h w"]:
    """The image as a square of grey pixels, 0 to 255, its sides shrunk each by its own factor.

    JPEGs are decoded no larger than is needed, which takes a tenth of the time.

    Raises:
        ValueError, OSError: it cannot be decoded.
    """
    if simplejpeg.is_jpeg(data):
        image = Image.fromarray(
            simplejpeg.decode_jpeg(data, "GRAY", min_height=2 * pixels, min_width=2 * pixels)[..., 0]
        )
    else:
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("L")
    return squared(image, pixels)


def squared(image: Image.Image, pixels: int = PIXELS) -> Float32[np.ndarray, "h w"]:
    """A grey image as `grey_of` gives it."""
    return np.asarray(image.resize((pixels, pixels), Image.Resampling.BOX), np.float32)


def hash_of(grey: Float32[np.ndarray, "h w"]) -> int:
    """The hash of an image, 64 bits."""
    cells = np.asarray(Image.fromarray(grey).resize((SIDE + 1, SIDE), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes())


def first_of_alike(hashes: UInt64[np.ndarray, "n"], distance: int) -> Bool[np.ndarray, "n"]:
    """Which images are left when each that is alike to an earlier one of these is left out.

    Args:
        distance: bits, at most `FARTHEST`.
    """
    values, first = np.unique(hashes, return_index=True)
    order = np.argsort(first)
    values, first = values[order], first[order]
    left = np.ones(len(values), bool)
    if distance:
        earlier: dict[int, list[int]] = {}
        for i, j in _pairs(values, distance):
            earlier.setdefault(j, []).append(i)
        for j in sorted(earlier):
            left[j] = not left[earlier[j]].any()
    kept = np.zeros(len(hashes), bool)
    kept[first[left]] = True
    return kept


def _pairs(values: UInt64[np.ndarray, "n"], distance: int) -> Iterator[tuple[int, int]]:
    """Pairs i < j of hashes that differ in as many bits at most; some of them more than once."""
    for shift in range(0, 64, BAND):
        band = values >> np.uint64(shift) & np.uint64((1 << BAND) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order[:1]] + np.uint64(1)))
        for group in np.split(order, starts[1:]):
            for place, i in enumerate(group[:-1]):
                others = group[place + 1 :]
                for j in others[np.bitwise_count(values[others] ^ values[i]) <= distance]:
                    yield int(i), int(j)


def views_of(grey: Float32[np.ndarray, "h w"]) -> UInt64[np.ndarray, "v 4"]:
    """Fine hashes of 256 bits: of the whole image, and of its crops of nine tenths in a grid of 5 x 5 places."""
    n = len(grey)
    corners = [(n * (1 - CROP) * x / 4, n * (1 - CROP) * y / 4) for y in range(5) for x in range(5)]
    boxes = [(0.0, 0.0, float(n), float(n)), *((x, y, x + n * CROP, y + n * CROP) for x, y in corners)]
    image = Image.fromarray(grey)
    cells = np.array([image.resize((FINE + 1, FINE), Image.Resampling.BOX, box) for box in boxes])
    return np.packbits((cells[..., 1:] > cells[..., :-1]).reshape(len(boxes), -1), axis=1).view(np.uint64)


def nearest_views(one: UInt64[np.ndarray, "n v 4"], other: UInt64[np.ndarray, "m u 4"]) -> UInt16[np.ndarray, "n m"]:
    """The least distance of two images: of the whole of one and any view of the other."""
    least = np.full((len(one), len(other)), 4 * 64, np.uint16)
    for here, there in ((one[:, :1], other), (one, other[:, :1])):
        for a in here.swapaxes(0, 1):
            for b in there.swapaxes(0, 1):
                bits = np.bitwise_count(a[:, None] ^ b[None, :]).sum(-1, dtype=np.uint16)
                np.minimum(least, bits, out=least)
    return least
