"""Pictures with what was predicted on them: points, classes and axes in their places, all else in a panel beside."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.pose import rotations
from facerep_jax.evaluation.drawing import PREDICTION
from facerep_jax.evaluation.tasks.action_units import STRONGEST
from facerep_jax.inference.model import Seen
from facerep_jax.pictures import CLASS_COLOURS, fitting

LARGEST, LEAST = 1024, 640  # pixels of the longer side of an overlay
FINER = 2  # times as fine lines are drawn at first, so that their edges are smooth
COVER = 0.5  # of colours of classes over the picture
PANEL, LINE, TEXT, MARGIN = 320, 26, 16, 16  # pixels: width of the panel, height of its lines, letters, its margin
ROWS = 24  # numbers of a face in the panel, at most: the largest
GROUND, LETTERS, QUIET, FRAME = (24, 24, 24), (238, 238, 238), (70, 70, 70), (245, 245, 245)
AXES = ((235, 70, 70), (60, 200, 90), (70, 130, 245))  # right, down, forwards
IN_PLACE = ("landmarks", "mask")  # features that have no lines in the panel

Points = Float[np.ndarray, "k 2"]


class Small(NamedTuple):
    """A picture as it is drawn on."""

    image: UInt8[np.ndarray, "h w 3"]
    scale: float  # its pixels for one of the picture


def small(pixels: UInt8[np.ndarray, "h w 3"]) -> Small:
    """The picture, no larger than `LARGEST`; a small one is enlarged, by a whole number, to `LEAST` or nearly."""
    longest = max(pixels.shape[:2])
    scale = min(LARGEST / longest, 1.0) if longest > LEAST else float(max(1, round(LEAST / longest)))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return Small(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)), scale)


def drawn(group: Sequence[Seen], told: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> Image.Image:
    """The picture that all faces of a group are of, with what is told of each."""
    image, scale = group[0].kept
    for values in told:
        if "mask" in values:
            image = coloured(image, values["mask"])
    picture = lined(image, scale, group, told)
    lines = [line for number, values in enumerate(told) for line in panel_lines(values, number, len(told))]
    if classes := sorted({int(x) for values in told if "mask" in values for x in np.unique(values["mask"])}):
        names = meta.get("classes", ())
        lines += [Line(names[x], colour=colour_of(x)) for x in classes if 0 < x < len(names)]
    return with_panel(picture, lines) if lines else picture


def coloured(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image under the colours of its classes, but the first, which is the ground, with a light line round each."""
    size = (image.shape[1], image.shape[0])
    classes = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    seen = ((classes > 0) & (classes != MISSING_CLASS))[..., None]
    found = np.where(seen, (1 - COVER) * image + COVER * CLASS_COLOURS[classes % len(CLASS_COLOURS)], image)
    edge = np.zeros(classes.shape, bool)
    known = classes != MISSING_CLASS
    edge[:, 1:] |= (classes[:, 1:] != classes[:, :-1]) & known[:, 1:] & known[:, :-1]
    edge[1:] |= (classes[1:] != classes[:-1]) & known[1:] & known[:-1]
    return np.where(edge[..., None], 0.4 * found + 0.6 * np.array(FRAME), found).astype(np.uint8)


def lined(
    image: UInt8[np.ndarray, "h w 3"], scale: float, group: Sequence[Seen], told: Sequence[Mapping[str, Any]]
) -> Image.Image:
    """The image with boxes, points and axes."""
    size = (image.shape[1], image.shape[0])
    picture = Image.fromarray(image).resize((size[0] * FINER, size[1] * FINER), Image.Resampling.BICUBIC)
    pen, by = ImageDraw.Draw(picture), scale * FINER
    for number, (each, values) in enumerate(zip(group, told, strict=True)):
        corners = (each.crop.outline + 0.5) * by
        if each.box is not None:
            x0, y0, x1, y1 = ((np.asarray(each.box, np.float64) + 0.5) * by).tolist()
            pen.rectangle((x0, y0, x1, y1), outline=FRAME, width=FINER)
            if len(group) > 1:
                pen.text((x0 + 2 * FINER, y0 + FINER), str(number + 1), FRAME, ImageFont.load_default(TEXT * FINER))
        if "landmarks" in values:
            points = (np.asarray(values["landmarks"], np.float64) + 0.5) * by
            dots(pen, points, radius=max(1.8 * FINER, 0.006 * float(np.linalg.norm(corners[1] - corners[0]))))
        if "head_pose" in values:
            axes(pen, [*values["head_pose"].values()], corners)
    return picture.resize(size, Image.Resampling.BOX)


def dots(pen: ImageDraw.ImageDraw, points: Points, radius: float) -> None:
    """A dot with a light rim at each point."""
    for x, y in points.tolist():
        if np.isfinite((x, y)).all():
            pen.circle((x, y), 1.5 * radius, fill=FRAME)
            pen.circle((x, y), radius, fill=PREDICTION)


def axes(pen: ImageDraw.ImageDraw, angles_deg: Sequence[float], corners: Points) -> None:
    """The axes of a head in the middle of what was seen of it: right, down, and forwards, thick."""
    middle, reach = corners.mean(0), 0.3 * float(np.linalg.norm(corners[1] - corners[0]))
    turned = rotations(np.array(angles_deg, np.float64))
    turned[:, 2] *= -1
    for axis, colour in zip(turned[:2].T, AXES, strict=True):
        width = max(2, round(reach / (20 if colour == AXES[-1] else 40)))
        pen.line((*middle.tolist(), *(middle + reach * axis).tolist()), fill=colour, width=width)


class Line(NamedTuple):
    """A line of the panel."""

    name: str
    value: str = ""
    share: float | None = None  # of the width that its bar takes
    colour: tuple[int, int, int] | None = None  # of a chip before its name
    heading: bool = False


def panel_lines(values: Mapping[str, Any], number: int, count: int) -> list[Line]:
    """What is told of a face beside the picture."""
    lines = []
    for name, value in values.items():
        if name in IN_PLACE:
            continue
        if not isinstance(value, Mapping):
            lines.append(Line(name.replace("_", " "), written(value)))
            continue
        largest = sorted(value, key=lambda key: -value[key])[:ROWS] if len(value) > ROWS else list(value)
        most = max((abs(value[key]) for key in largest), default=0)
        limit = None if name == "head_pose" else 1.0 if most <= 1 else STRONGEST
        lines.append(Line(name.replace("_", " "), heading=True))
        for key in largest:
            share = None if limit is None else float(np.clip(value[key] / limit, 0, 1))
            lines.append(Line(key.replace("_", " "), written(value[key]), share))
    return [Line(f"face {number + 1}", heading=True), *lines] if lines and count > 1 else lines


def written(value: Any) -> str:
    """A value in a few letters."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def with_panel(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """The picture, and lines on a dark panel to its right."""
    height = max(picture.height, len(lines) * LINE + 2 * MARGIN)
    whole = Image.new("RGB", (picture.width + PANEL, height), GROUND)
    whole.paste(picture, (0, 0))
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(TEXT)
    left, right = picture.width + MARGIN, picture.width + PANEL - MARGIN
    for place, line in enumerate(lines):
        y = MARGIN + place * LINE
        if line.share:
            pen.rectangle((left - 4, y - 2, left - 4 + line.share * (right - left + 8), y + LINE - 6), fill=QUIET)
        start = left
        if line.colour is not None:
            pen.rectangle((left, y + 2, left + TEXT - 2, y + TEXT), fill=line.colour)
            start += TEXT + 8
        room = right - start - int(font.getlength(line.value)) - 8
        pen.text((start, y), fitting(line.name, font, room), (160, 160, 160) if line.heading else LETTERS, font)
        pen.text((right, y), line.value, LETTERS, font, anchor="ra")
    return whole


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of a class."""
    red, green, blue = CLASS_COLOURS[number % len(CLASS_COLOURS)].astype(int).tolist()
    return red, green, blue
