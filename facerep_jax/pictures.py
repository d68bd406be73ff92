"""Contact sheets: pictures side by side on white, and training images with their masked patches."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facerep_jax.files import write

FACES = 8  # in a sheet
COLUMNS = 4  # of a sheet
WIDTH = 1200  # of a sheet in pixels, at most, where a tile is no wider
GAP = 8  # between tiles
TEXT = 16  # pixels of the letters of a tile's name
HIDDEN, STRIPES = (150, 150, 150), (95, 95, 95)  # of a masked patch
CLASS_COLOURS = np.array(  # colours of the classes of a mask
    [
        *((30, 30, 30), (230, 180, 150), (120, 80, 200), (80, 120, 220), (40, 190, 220), (40, 220, 160)),
        *((250, 210, 60), (240, 110, 110), (150, 20, 60), (220, 60, 120), (130, 90, 50)),
        *((170, 220, 60), (255, 140, 0), (200, 140, 255), (0, 120, 90), (170, 170, 190), (255, 190, 220)),
        *((90, 60, 120), (120, 150, 60), (0, 70, 160), (215, 215, 120)),
    ],
    np.float32,
)


def save(workdir: Path, sheets: Mapping[str, Image.Image]) -> None:
    """Write sheets as PNG into a workdir."""
    for name, image in sheets.items():
        write(workdir / f"{name}.png", partial(image.save, format="PNG"))


def masked(examples: Sequence[Mapping[str, Any]]) -> dict[str, Image.Image]:
    """`masked`: training images, each beside itself with the patches striped over that the encoder does not see.

    Examples hold `image` (h, w, 3) and `masked` (n,), the patches of a grid as wide as high as the image's sides tell.
    Nothing where they hold no such thing.
    """
    tiles = []
    for example in examples:
        image, hidden = example.get("image"), example.get("masked")
        if image is None or hidden is None or image.dtype != np.uint8:
            return {}
        rows = round(math.sqrt(hidden.size * image.shape[0] / image.shape[1]))
        if rows * (hidden.size // rows) != hidden.size:
            return {}
        side = (WIDTH // COLUMNS - GAP) // 2
        whole = Image.fromarray(image).resize(
            (side, round(side * image.shape[0] / image.shape[1])), Image.Resampling.BICUBIC
        )
        tiles.append(beside(whole, striped(whole, hidden.reshape(rows, -1))))
    return {"masked": sheet(tiles)} if tiles else {}


def striped(image: Image.Image, hidden: np.ndarray) -> Image.Image:
    """The image with some cells of a grid hidden under stripes."""
    y, x = np.mgrid[0 : image.height, 0 : image.width]
    row, column = y * hidden.shape[0] // image.height, x * hidden.shape[1] // image.width
    cover = np.where(((x + y) // 4 % 3 == 0)[..., None], np.array(STRIPES), np.array(HIDDEN))
    return Image.fromarray(np.where(hidden[row, column][..., None], cover, np.asarray(image)).astype(np.uint8))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two images of one height as one."""
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def spaced(count: int) -> list[int]:
    """The indices of some of `count` things, evenly spaced."""
    return [int(i) for i in np.linspace(0, count - 1, min(FACES, count))]


def sheet(
    tiles: Sequence[Image.Image], names: Sequence[str] = (), columns: int = COLUMNS, width: int = WIDTH
) -> Image.Image:
    """Tiles of one size on white, at most `columns` in a line, with a name below each where names are given."""
    columns = min(len(tiles), columns, max(1, (width + GAP) // (tiles[0].width + GAP)))
    lines = -(-len(tiles) // columns)
    below = TEXT + GAP if names else 0
    w, h = tiles[0].width + GAP, tiles[0].height + below + GAP
    whole = Image.new("RGB", (columns * w - GAP, lines * h - GAP), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(TEXT)
    for index, tile in enumerate(tiles):
        x, y = index % columns * w, index // columns * h
        whole.paste(tile, (x, y))
        if names:
            pen.text((x, y + tile.height + GAP // 2), fitting(names[index], font, tile.width), "black", font)
    return whole


def fitting(text: str, font: Any, width: int) -> str:
    """The text, or as much of its two ends as is no wider than `width` pixels: an id tells most at its end."""
    left, right, whole = len(text) // 2, len(text) // 2, text
    while left and font.getlength(text) > width:
        left, right = left - 1, right + 1
        text = whole[:left] + "\N{HORIZONTAL ELLIPSIS}" + whole[right:]
    return text
