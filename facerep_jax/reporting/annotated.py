"""Faces with all that is known of them drawn in: the box, the landmarks with some of their numbers, and the mask."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from facerep_jax.data.consistency import eyes_of
from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.meta import five_points
from facerep_jax.data.survey import Survey, is_known
from facerep_jax.data.transforms import captions_of, decode, text_of
from facerep_jax.pictures import CLASS_COLOURS, GAP, beside, sheet

SIDE = 288  # pixels of a picture
FINE = 2  # times as large a picture is drawn, and then shrunk
ROOM = 1.5  # sides of the face that a picture shows at least, where the face is small in its image
SMALL = 0.5  # of the image's shorter side: a face that is smaller is shown larger
BEYOND = 0.25  # of the image's longer side: as far a picture goes beyond the image, to show what lies outside
WIDTH = 1800  # of a sheet
LINES = 7  # of text below a face in a sheet
NUMBERED = 12  # landmarks of which all have their number; of more, some
FEW = 6  # names that are told of a face

GREY, INK, SOFT = (225, 227, 230), (27, 30, 35), (88, 95, 105)
BOX, LEFT, RIGHT, OTHER = (255, 214, 10), (0, 200, 255), (255, 92, 0), (255, 255, 255)
KEY = {
    "box": BOX,
    "eye and corner of the mouth that are named left: they belong on the left of the picture": LEFT,
    "those that are named right": RIGHT,
    "other landmarks; some have their number, from 0": OTHER,
}

Box = tuple[float, float, float, float]


class Face(NamedTuple):
    """A face as it is shown."""

    picture: Image.Image
    lines: tuple[str, ...]  # first its id


def key_of(survey: Survey) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """What each colour means in pictures of a set: (words, RGB)."""
    features, meta = survey.dataset.features, survey.dataset.meta
    sides = bool(eyes_of(meta))
    shown = {"bbox": ["box"], "landmarks": [*KEY][1:] if sides else [*KEY][3:]}
    words = [(word, KEY[word]) for feature, words in shown.items() if feature in features for word in words]
    names = enumerate(meta.get("classes", ())) if "mask" in features else ()
    return (*words, *((name, _colour(index)) for index, name in names))


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = CLASS_COLOURS[index % len(CLASS_COLOURS)].astype(int).tolist()
    return red, green, blue


def faces(survey: Survey, places: Sequence[tuple[str, int]]) -> Iterator[Face]:
    """Some records (split, index) as pictures with their text."""
    sources = {split: survey.dataset.source(split) for split in dict.fromkeys(split for split, _ in places)}
    for split, index in places:
        record = decode(sources[split][index])
        yield Face(picture(record, survey.dataset.meta), tuple(described(record, split, survey)))


def picture(record: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """The face with its box and landmarks; if it has a mask, beside itself under the mask's colours."""
    image = Image.fromarray(record["image"])
    points = record["landmarks"] if "landmarks" in record and is_known("landmarks", record["landmarks"]) else None
    box = record["bbox"] if "bbox" in record and np.isfinite(record["bbox"]).all() else None
    view = _view(image.size, box, points)
    left = _cut(image, view, Image.Resampling.BICUBIC, GREY)
    plain = left.copy()
    _draw(left, view, box, points, meta)
    left = left.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if "mask" not in record:
        return left
    # Outside of the image there are no classes: a number that is none marks it.
    classes = np.asarray(_cut(Image.fromarray(record["mask"].astype(np.int32)), view, Image.Resampling.NEAREST, -1))
    right = Image.fromarray(_blended(np.asarray(plain), classes))
    if points is not None and (eyes := eyes_of(meta)):
        _draw(right, view, None, _only(points, [*eyes[0], *eyes[1]]), meta, numbers=False)
    return beside(left, right.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _only(points: Float32[np.ndarray, "k 2"], kept: Sequence[int]) -> Float32[np.ndarray, "k 2"]:
    some = np.full_like(points, np.nan)
    some[list(kept)] = points[list(kept)]
    return some


def _view(size: tuple[int, int], box: Any, points: Any) -> Box:
    """The square that is shown, in edges of pixels: of the whole image, or of what surrounds a small face."""
    width, height = size
    corners = [np.array(box).reshape(2, 2)] if box is not None else []
    corners += [points[np.isfinite(points).all(1)]] if points is not None else []
    beyond = BEYOND * max(size)
    whole = np.array([[0.0, 0.0], [width, height]])
    limits = whole + np.array([[-beyond], [beyond]])
    if corners:
        face = np.concatenate(corners).astype(np.float64) + 0.5
        face = np.clip(np.stack([face.min(0), face.max(0)]), limits[0], limits[1])
        side = float((face[1] - face[0]).max())
        if 8 <= side < SMALL * min(size):
            x, y = face.mean(0).tolist()
            half = ROOM * side / 2
            return x - half, y - half, x + half, y + half
        whole = np.stack([np.minimum(whole[0], face[0]), np.maximum(whole[1], face[1])])
    (x, y), half = whole.mean(0).tolist(), float((whole[1] - whole[0]).max()) / 2
    return x - half, y - half, x + half, y + half


def _cut(image: Image.Image, view: Box, how: Image.Resampling, ground: Any) -> Image.Image:
    """What a square shows of an image, and ground where there is none."""
    side = SIDE * FINE
    scale = side / (view[2] - view[0])
    inside = (max(view[0], 0), max(view[1], 0), min(view[2], image.width), min(view[3], image.height))
    canvas = Image.new(image.mode, (side, side), ground)
    left, top, right, bottom = (round((inside[i] - view[i % 2]) * scale) for i in range(4))
    if right > left and bottom > top:
        canvas.paste(image.resize((right - left, bottom - top), how, box=inside), (left, top))
    return canvas


def _blended(image: UInt8[np.ndarray, "h w 3"], classes: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """The image under the colours of its classes; where the class is missing, stripes."""
    colours = CLASS_COLOURS[np.clip(classes, 0, None) % len(CLASS_COLOURS)]
    y, x = np.mgrid[0 : len(image), 0 : image.shape[1]]
    stripes = np.where(((x + y) // 8 % 2 == 0)[..., None], 0.35 * image, 0.75 * image)
    shown = np.where((classes == MISSING_CLASS)[..., None], stripes, 0.4 * image + 0.6 * colours)
    return np.where((classes < 0)[..., None], image, shown).astype(np.uint8)


def _draw(
    canvas: Image.Image, view: Box, box: Any, points: Any, meta: Mapping[str, Any], *, numbers: bool = True
) -> None:
    """Draws a box and landmarks, in pixels of the image, into what a square shows of it."""
    pen, scale = ImageDraw.Draw(canvas), canvas.width / (view[2] - view[0])

    def at(x: float, y: float) -> tuple[float, float]:
        return (x + 0.5 - view[0]) * scale, (y + 0.5 - view[1]) * scale

    if box is not None:
        (x0, y0), (x1, y1) = at(*map(float, box[:2])), at(*map(float, box[2:]))
        corners = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        pen.rectangle(corners, outline=(0, 0, 0), width=3 * FINE)
        pen.rectangle(corners, outline=BOX, width=2 * FINE)
    if points is None:
        return
    colours = _colours(meta)
    known = [index for index in range(len(points)) if np.isfinite(points[index]).all()]
    spread = np.ptp(points[known], axis=0).max() * scale if known else 0
    radius = float(np.clip(spread / 60, 1.5, 3.5)) * FINE if len(points) > 5 else 3.5 * FINE
    for index in known:
        x, y = at(*points[index].tolist())
        around = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(around, fill=colours.get(index, OTHER), outline=(0, 0, 0), width=FINE)
    for index in _numbered(len(points), meta) if numbers else ():
        if index in known:
            outwards = points[index] - np.mean(points[known], axis=0)
            outwards = outwards / max(float(np.hypot(*outwards)), 1e-6)
            x, y = (a + (radius + 9 * FINE) * b for a, b in zip(at(*points[index].tolist()), outwards, strict=True))
            ink, font = colours.get(index, OTHER), ImageFont.load_default(12 * FINE)
            pen.text((x, y), str(index), ink, font, "mm", stroke_width=FINE + 1, stroke_fill=(0, 0, 0))


def _colours(meta: Mapping[str, Any]) -> dict[int, tuple[int, int, int]]:
    """The colours of landmarks that are named left or right."""
    five, eyes = five_points(meta), eyes_of(meta)
    sides = ([*eyes[0]], [*eyes[1]]) if eyes else ([], [])
    if five:
        sides = ([*five[0], *five[3]], [*five[1], *five[4]])
    return {index: colour for side, colour in zip(sides, (LEFT, RIGHT), strict=True) for index in side}


def _numbered(count: int, meta: Mapping[str, Any]) -> list[int]:
    """Landmarks that have their number written beside them: one of each part that has a name, and the first."""
    if count <= NUMBERED:
        return [*range(count)]
    groups = five_points(meta) or eyes_of(meta)
    return sorted({0, *([group[0] for group in groups] or range(0, count, count // 8))})


def described(record: Mapping[str, Any], split: str, survey: Survey) -> Iterator[str]:
    """What is known of a face, in lines, the first its id."""
    yield text_of(record["id"])
    height, width = record["image"].shape[:2]
    facts = [split, f"{width} x {height} px"]
    if "identity" in record and record["identity"] >= 0:
        facts.append(f"person {survey.name_of('identities', int(record['identity']))}")
    if "expression" in record and record["expression"] >= 0:
        facts.append(survey.name_of("expressions", int(record["expression"])))
    yield " · ".join(facts)
    named = {name for name in record if np.ndim(record[name]) == 0 and not isinstance(record[name], bytes | str)}
    numbers = [
        f"{name} {float(record[name]):.3g}"
        for name in sorted(named - {"identity", "expression", "session", "frame"})
        if is_known(name, record[name])
    ]
    if numbers:
        yield ", ".join(numbers)
    for caption in [caption for caption in captions_of(record.get("caption", ())) if caption.strip()][:2]:
        yield f"\N{LEFT DOUBLE QUOTATION MARK}{caption[:160]}\N{RIGHT DOUBLE QUOTATION MARK}"
    for name, on in (("attributes", 0.5), ("action_units", 1.0)):
        if name in record and (lines := _on(record[name], survey.dataset.meta.get(name, ()), on)):
            yield lines


def _on(values: Float32[np.ndarray, "k"], names: Sequence[str], on: float) -> str:
    """The names of values that are on, those that are not yes or no with the value."""
    shown = [
        f"{name} {value:g}" if value not in (0, 1) else name
        for name, value in zip(names, np.round(values.astype(np.float64), 1).tolist(), strict=False)
        if value >= on
    ]
    return ", ".join(shown[:FEW]) + (f" and {len(shown) - FEW} more" if len(shown) > FEW else "")


def contact_sheet(shown: Sequence[Face], title: str, key: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """Faces with their text on one sheet, below a title and what the colours mean."""
    # Pillow's own font lacks all but Latin letters.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 12)
    wrapped = [[part for line in face.lines for part in _wrapped(line, font, face.picture.width)] for face in shown]
    wrapped = [[*lines[: LINES - 1], "\N{HORIZONTAL ELLIPSIS}"] if len(lines) > LINES else lines for lines in wrapped]
    high = 16 * max(map(len, wrapped)) + GAP
    tiles = []
    for face, lines in zip(shown, wrapped, strict=True):
        tile = Image.new("RGB", (face.picture.width, face.picture.height + high), "white")
        tile.paste(face.picture, (0, 0))
        pen = ImageDraw.Draw(tile)
        for number, line in enumerate(lines):
            pen.text((0, face.picture.height + 4 + 16 * number), line, INK if not number else SOFT, font)
        tiles.append(tile)
    below = sheet(tiles, columns=len(tiles), width=WIDTH)
    head = _head(title, key, font, below.width)
    whole = Image.new("RGB", (below.width + 2 * GAP, head.height + below.height + 2 * GAP), "white")
    whole.paste(head, (GAP, GAP))
    whole.paste(below, (GAP, GAP + head.height))
    return whole


def _head(title: str, key: Sequence[tuple[str, tuple[int, int, int]]], font: Any, width: int) -> Image.Image:
    """A title, and in lines below it the colours with their words."""
    places, x, y = [], 0, 34
    for word, colour in key:
        wide = 18 + round(font.getlength(word)) + 16
        if x and x + wide > width:
            x, y = 0, y + 20
        places.append((x, y, word, colour))
        x += wide
    head = Image.new("RGB", (width, y + (28 if key else 0)), "white")
    pen = ImageDraw.Draw(head)
    pen.text((0, 0), title, INK, font.font_variant(size=20))
    for x, y, word, colour in places:
        pen.rectangle((x, y + 1, x + 12, y + 13), fill=colour, outline=SOFT)
        pen.text((x + 18, y), word, SOFT, font)
    return head


def _wrapped(text: str, font: Any, width: int) -> Iterator[str]:
    """A text in lines that are no wider than `width` pixels."""
    line = ""
    for word in " ".join(text.split()).split(" "):
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        while font.getlength(word) > width:
            fits = next(n for n in range(len(word), 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            yield word[:fits]
            word = word[fits:]
        line = word
    if line:
        yield line
