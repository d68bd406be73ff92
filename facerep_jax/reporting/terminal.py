"""Charts and pictures as text, in the signs that a terminal has."""

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from facerep_jax.reporting.watched import Watched, plain_number

MARGIN = 2  # columns before each line of a run
LONGEST_NAME = 28  # signs of a scalar's name
FROM_ZERO = {"images_per_second": 0.0, "input_wait": 1.0}  # scalars drawn from 0, at least to this
PICTURE_ROWS = 24


BLOCKS = " ▁▂▃▄▅▆▇█"  # cells of a chart that are filled from below, the empty one first
ASCII = " .:|"
SHADES = " .:-=+*#%@"  # cells of a picture, dark first


def levels_of(encoding: str | None) -> str:
    """Blocks where an encoding has them."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def columns(x: np.ndarray, y: np.ndarray, width: int) -> np.ndarray:
    """A curve as `width` values at equal distances: means of what falls together, lines between what is apart."""
    finite = np.isfinite(y)
    if not finite.any():
        return np.full(width, np.nan)
    edges = np.linspace(x[0], x[-1], width + 1)
    place = np.clip(np.searchsorted(edges, x, "right") - 1, 0, width - 1)
    counts = np.bincount(place[finite], minlength=width)
    sums = np.bincount(place[finite], y[finite], minlength=width)
    drawn = np.interp((edges[:-1] + edges[1:]) / 2, x[finite], y[finite])
    drawn = np.where(counts > 0, sums / np.maximum(counts, 1), drawn)
    lost = np.bincount(place[~finite], minlength=width) > 0
    return np.where(lost & (counts == 0), np.nan, drawn)


def block_chart(values: np.ndarray, height: int, levels: str, ends: tuple[float, float] | None = None) -> list[str]:
    """Values as rows of text, the highest on top; the lowest value still fills a first level.

    Args:
        ends: values at the bottom and at the top; the lowest and the highest if None.
    """
    fine = len(levels) - 1
    known = values[np.isfinite(values)]
    low, high = ends or ((known.min(), known.max()) if known.size else (0.0, 0.0))
    share = (np.nan_to_num(values) - low) / (high - low) if high > low else np.full(len(values), 0.5)
    filled = 1 + np.round(np.clip(share, 0, 1) * (height * fine - 1)).astype(int)
    rows = []
    for row in reversed(range(height)):
        cells = np.clip(filled - row * fine, 0, fine)
        text = [levels[cell] for cell in cells]
        rows.append("".join(t if np.isfinite(v) else " " for t, v in zip(text, values, strict=True)))
    return rows


def chart(name: str, x: np.ndarray, y: np.ndarray, width: int, height: int, levels: str) -> list[str]:
    """A scalar against steps, with its name and last value above, and the ends of both axes beside."""
    room = max(width - 10, 8)
    drawn = columns(x, y, room)
    known = drawn[np.isfinite(drawn)]
    ends = (known.max(), known.min()) if known.size else (np.nan, np.nan)
    beside = [plain_number(ends[0]), *[""] * (height - 2), plain_number(ends[1])] if height > 1 else [""]
    rows = [f"{label:>9} {row}" for label, row in zip(beside, block_chart(drawn, height, levels), strict=True)]
    first, last = f"{x[0]:,}", f"{x[-1]:,}"
    below = first + last.rjust(room - len(first)) if len(x) > 1 else first
    return [f"{name} {plain_number(y[-1])}", *rows, " " * 10 + below]


def sparkline(name: str, x: np.ndarray, y: np.ndarray, width: int, levels: str) -> str:
    """A scalar on one line: its name, its last value, its curve."""
    label = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]}.."
    room = max(width - LONGEST_NAME - 11, 8)
    drawn = columns(x, y, room)
    ends = (0.0, float(np.nanmax([*drawn, FROM_ZERO[name]]))) if name in FROM_ZERO else None
    (curve,) = block_chart(drawn, 1, levels, ends)
    return f"{label:<{LONGEST_NAME}} {plain_number(y[-1]):>9} {curve}"


def picture(path: Path, width: int, *, colours: bool = False) -> list[str]:
    """The upper left of a picture as rows of text, a face of a sheet some 20 columns wide; nothing if it is none.

    Args:
        colours: two pixels to a cell, by codes of 24-bit colours.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return []
    whole = image.width
    image = image.crop((0, 0, max(whole // 2, 1), min(image.height, max(whole // 4, 1))))
    rows = max(1, min(PICTURE_ROWS, round(width * image.height / image.width / 2)))
    across = min(width, max(1, round(2 * rows * image.width / image.height)))
    if colours:
        pixels = np.asarray(image.resize((across, 2 * rows), Image.Resampling.BOX))
        return [
            "".join(
                f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀" for a, b in zip(*pair, strict=True)
            )
            + "\x1b[0m"
            for pair in zip(pixels[::2], pixels[1::2], strict=True)
        ]
    grey = np.asarray(image.convert("L").resize((across, rows), Image.Resampling.BOX)).astype(int)
    return ["".join(SHADES[g * len(SHADES) // 256] for g in row) for row in grey]


def frame(run: Watched, width: int, height: int, levels: str, *, colours: bool = False) -> list[str]:
    """A run as lines of text.

    Args:
        height: rows of the chart of the loss; 0 for a line for each curve, without pictures.
    """
    inner = width - MARGIN
    facts = " | ".join(value if what == "state" else f"{what} {value}" for what, value in run.facts())
    lines = textwrap.wrap(facts, inner, break_long_words=False)
    scalars = run.scalars
    terms = [name for name in sorted(scalars) if name.endswith("/loss")]
    scores = [name for name in sorted(scalars) if name.startswith("evaluate/")]
    if "loss" in scalars and height > 1:
        lines += chart("loss", *scalars["loss"], inner, height, levels)
    rest = ([] if height > 1 else ["loss"]) + [*terms, *scores, "images_per_second", "input_wait", "learning_rate"]
    lines += [sparkline(name, *scalars[name], inner, levels) for name in rest if name in scalars]
    for path in run.pictures[:1] if height > 1 else []:
        if drawn := picture(path, inner, colours=colours):
            lines += [f"{path.name}, upper left", *drawn]
    if run.note:
        lines.append(f"! {run.note}")
    return [str(run.folder), *(" " * MARGIN + line for line in lines), ""]
