"""Boxes and points held against the size of their image: what cannot be right, and what it probably is instead.

`fault` says what makes the annotation of one face useless. `Tally` counts what is only odd of a whole set, and guesses
at conventions that a single face does not show. Sizes are (width, height) in pixels.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

Size = tuple[int, int]
Box = tuple[float, float, float, float]

UNIT = 1.5  # coordinates of which none is larger are shares of the image: detectors go a little beyond 0 and 1
SMALLEST = 8  # pixels of a side, below which coordinates of an image may all be as small as that
LARGEST = 10.0  # times the image's longer side: no box is as wide or high
PIXELS = "pixels are expected, so multiply x by the image's width and y by its height"
NULL = "write null for a point that is not known"

# What four numbers of a box may be in place of [x0, y0, x1, y1].
READINGS: Mapping[str, Callable[[float, float, float, float], Box]] = {
    "[x, y, width, height]": lambda x, y, w, h: (x, y, x + w, y + h),
    "[centre x, centre y, width, height]": lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
    "[y0, x0, y1, x1] (or their landmarks are [y, x])": lambda y0, x0, y1, x1: (x0, y0, x1, y1),
}
# What faces may have that is odd -> what it probably is where more than a tenth of them have it.
LANDMARKS_OUTSIDE = "landmarks outside of their image"
MARKED = "a landmark at exactly (0, 0) or (-1, -1)"
BOX_OUTSIDE = "a bbox of which less than half lies in the image"
APART = "most of their landmarks outside of their bbox"
OTHERWISE = "a bbox that fits their landmarks better as "
CAUSES = {
    LANDMARKS_OUTSIDE: "were they made on another size of the image, or are they [y, x]?",
    MARKED: NULL,
    BOX_OUTSIDE: "was it made on another size of the image?",
    APART: "are box and landmarks of one face, and in pixels of one image?",
}
OFTEN = 0.1
FITS_BETTER = 0.1  # intersection over union with the box around the landmarks, by which a reading must be better
ENOUGH = 8  # boxes without landmarks before a convention is guessed from them
SPREAD = 0.04  # variance of the logarithm of width / height: faces differ by less


def fault(values: Mapping[str, Any], size: Size) -> str:
    """What cannot be right of a face's box, landmarks or vertices, and its likely cause; empty if nothing."""
    if "bbox" in values and (found := _box_fault(values["bbox"], size)):
        return f"bbox {found}"
    for name in ("landmarks", "landmarks_3d", "vertices"):
        if name in values and (found := _points_fault(values[name], size, far=name != "vertices")):
            return f"{name} {found}"
    return ""


def _box_fault(box: Float32[np.ndarray, "4"], size: Size) -> str:
    x0, y0, x1, y1 = map(float, box)
    if np.abs(box).max() <= UNIT and min(size) >= SMALLEST:
        return f"seems to be relative to the image's size: no number is above {UNIT}; {PIXELS}"
    if not (x1 > x0 and y1 > y0):
        return (
            "must be [x0, y0, x1, y1] with x1 > x0 and y1 > y0; "
            "if it is [x, y, width, height], write [x, y, x + width, y + height]"
        )
    if x1 - x0 < 1 or y1 - y0 < 1:
        return "is less than a pixel wide or high; coordinates in pixels are expected"
    if max(x1 - x0, y1 - y0) > LARGEST * max(size):
        return f"is more than {LARGEST:g} times as large as the image; was it made on another size of the image?"
    if _common((x0, y0, x1, y1), _whole(size)) <= 0:
        return "lies outside of the image; was it made on another size of the image, or is it not [x0, y0, x1, y1]?"
    return ""


def _points_fault(points: Float32[np.ndarray, "k d"], size: Size, far: bool) -> str:
    if (hull := _hull(points)) is None:
        return ""
    x0, y0, x1, y1 = hull
    if len(points) > 1 and x0 == x1 and y0 == y1:
        return f"are all at ({x0:g}, {y0:g}); {NULL}"
    if max(map(abs, hull)) <= UNIT and min(size) >= SMALLEST:
        return f"seem to be relative to the image's size: no number is above {UNIT}; {PIXELS}"
    left, top, right, bottom = _whole(size)
    if x1 < left or y1 < top or x0 > right or y0 > bottom:
        return "lie outside of the image, all of them; were they made on another size of the image?"
    side = max(size)
    if far and (x0 < left - side or y0 < top - side or x1 > right + side or y1 > bottom + side):
        return f"have a point that is farther from the image than the image is large; {NULL}"
    return ""


class Counted(dict[str, tuple[int, str]]):
    """What is true of some faces -> (of how many, where the first is)."""

    def add(self, what: str, place: str) -> None:
        count, first = self.get(what, (0, place))
        self[what] = count + 1, first


class Tally:
    """Counts over a set of faces what is odd, though not impossible, of their boxes and landmarks."""

    def __init__(self) -> None:
        self._odd = Counted()
        self._faces = self._with_both = 0
        self._boxes = np.zeros(6)  # count, those inside as [x, y, w, h], sum and square of log aspects in two readings
        self._reach: dict[str, tuple[int, float, int]] = {}  # key -> (count, largest coordinate, shortest side)

    def add(self, place: str, values: Mapping[str, Any], size: Size) -> None:
        """Counts a face without `fault`; `place` is where it is found, such as `line 3`."""
        box = tuple(map(float, values["bbox"])) if "bbox" in values else None
        hull = _hull(values["landmarks"]) if "landmarks" in values else None
        self._faces += box is not None or hull is not None
        self._with_both += box is not None and hull is not None
        for what in _oddities(box, hull, values.get("landmarks"), size):
            self._odd.add(what, place)
        for key, found in (("bbox", box), ("landmarks", hull)):
            if found is not None:
                count, largest, side = self._reach.get(key, (0, 0.0, min(size)))
                self._reach[key] = count + 1, max(largest, *map(abs, found)), min(side, *size)
        if box is not None:
            x0, y0, x1, y1 = box
            inside = x0 + x1 <= size[0] and y0 + y1 <= size[1]
            aspects = math.log((x1 - x0) / (y1 - y0)), math.log(max(x1, 1e-3) / max(y1, 1e-3))
            self._boxes += (1, inside, aspects[0], aspects[0] ** 2, aspects[1], aspects[1] ** 2)

    def warnings(self) -> Iterator[str]:
        """What the user should hear: how many faces, where the first is, and the likely cause."""
        mistaken = [what for what in self._odd if what.startswith(OTHERWISE)]
        otherwise = [what for what in mistaken if self._odd[what][0] > self._with_both / 2]
        for what, (count, first) in self._odd.items():
            # Boxes that are read wrongly lie beside the landmarks for that reason.
            if what in otherwise or what not in (*mistaken, *([APART] if otherwise else ())):
                cause = f"; {CAUSES[what]}" if what in CAUSES and count > OFTEN * self._faces else ""
                yield f"{count} of {self._faces} faces have {what}, the first is {first}{cause}"
        for key, (count, largest, side) in self._reach.items():
            if count >= ENOUGH and largest <= 100 and side >= 200:
                yield f"{key} of {count} faces has no number above 100, in images of {side} pixels or more: percent?"
        boxes, inside, *sums = self._boxes.tolist()
        if boxes >= ENOUGH and self._with_both < boxes / 2 and inside >= 0.95 * boxes:
            as_corners, as_sides = (square / boxes - (total / boxes) ** 2 for total, square in (sums[:2], sums[2:]))
            # Faces are much of a shape, and so are their boxes if they are read right.
            if as_sides < as_corners / 4 and as_corners > SPREAD:
                yield f"bbox of {boxes:.0f} faces seems to be [x, y, width, height]; [x0, y0, x1, y1] is expected"


def _oddities(
    box: tuple[float, ...] | None, hull: Box | None, points: Float32[np.ndarray, "k 2"] | None, size: Size
) -> Iterator[str]:
    """What is odd of a face, in words that follow `faces have`."""
    if box is not None and _common(box, _whole(size)) < _area(box) / 2:
        yield BOX_OUTSIDE
    if points is None or hull is None:
        return
    x, y = points[np.isfinite(points).all(1)].T
    if (((x == 0) & (y == 0)) | ((x == -1) & (y == -1))).any():
        yield MARKED
    x0, y0, x1, y1 = _whole(size)
    if ((x < x0) | (y < y0) | (x > x1) | (y > y1)).any():
        yield LANDMARKS_OUTSIDE
    if box is None:
        return
    fits = {reading: _overlap(corners(*box), hull) for reading, corners in READINGS.items()}
    best = max(fits, key=fits.__getitem__)
    if fits[best] > _overlap(box, hull) + FITS_BETTER:
        yield OTHERWISE + best
    if 2 * ((x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])).sum() < len(x):
        yield APART


def _hull(points: Float32[np.ndarray, "k d"]) -> Box | None:
    """The box around the points that are known; None if none is."""
    known = points[np.isfinite(points).all(1), :2]
    if not len(known):
        return None
    (x0, y0), (x1, y1) = known.min(0).tolist(), known.max(0).tolist()
    return x0, y0, x1, y1


def _whole(size: Size) -> Box:
    return -0.5, -0.5, size[0] - 0.5, size[1] - 0.5


def _area(box: tuple[float, ...]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _common(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes share."""
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    common = _common(a, b)
    return common / max(_area(a) + _area(b) - common, 1e-9)
