"""Annotations of a prepared set held against each other: what only a whole set shows to be wrong.

Each class is shown one face after the other and keeps sums alone. Its `warnings` are what the user should hear: how
many faces, where the first is, and the likely cause. What one face shows is in `plausibility`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.meta import five_points
from facerep_jax.data.plausibility import OFTEN, Counted

ENOUGH = 20  # faces before something is said of all of them
SIDEWAYS = 0.15  # of the landmarks' width, that eyes are apart at least, before their order says anything
STRAIGHT = 0.25  # of the eyes' distance, that the nose is off their middle at most in a face that looks straight ahead
STRAIGHT_FACES = 30  # of these, before their mean is looked at: of fewer, who looks where does not even out
NEAR = 0.08  # by which a mirrored point misses its partner at least, if that is wrong; 1 is the points' mean distance
NEARER = 2.5  # times as near as its partner is another point, if the partner is wrong
NAMED = 6  # things of a kind that a message names
KEPT = 2_000_000  # images that others are compared with, so that memory has a bound

# An eye, but no eyebrow and no glasses.
EYE = re.compile(r"eyes?(?![a-z]*(brow|glass|lash|lid)|[ _-]*(brow|glass|g\b))|pupil|iris")
# Parts of a face -> what classes of a mask are called that are there.
PARTS: Mapping[str, re.Pattern[str]] = {
    "left eye": EYE,
    "right eye": EYE,
    "nose": re.compile("nose"),
    "mouth": re.compile("mouth|lip|teeth|tongue"),
}
SIDE = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])")
OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
REVERSED, CROSSED = "reversed", "crossed"
TWICE, SPLITS = "twice", "in two splits"

Points = Float32[np.ndarray, "k 2"]


def eyes_of(meta: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The landmarks of the left eye and those of the right, as the meta names them; empty if it does not."""
    if five := five_points(meta):
        return five[:2]
    normaliser = meta.get("landmarks", {}).get("normaliser", {})
    sides = [normaliser[side] for side in ("left", "right") if side in normaliser]
    return tuple(tuple(side) if isinstance(side, list) else (side,) for side in sides)


def mirrored_name(name: str) -> str:
    """A name with left in place of right and right in place of left; the same if it has no side."""
    return SIDE.sub(lambda found: OTHER_SIDE[found[1]], name)


class Sides:
    """Whether eyes that are named left are left, and lie as the corners of the mouth do."""

    def __init__(self, meta: Mapping[str, Any]):
        self._eyes, self._five = eyes_of(meta), five_points(meta)
        self._odd, self._faces = Counted(), 0

    def add(self, place: str, points: Points) -> None:
        if not self._eyes:
            return
        width = float(np.ptp(points[np.isfinite(points[:, 0]), 0])) if np.isfinite(points[:, 0]).any() else 0.0
        eyes = _middle(points, self._eyes[1]) - _middle(points, self._eyes[0])
        if not np.hypot(*eyes) > SIDEWAYS * width:  # not known, or a profile
            return
        self._faces += 1
        if eyes[0] < 0:
            self._odd.add(REVERSED, place)
        if self._five:
            mouth = _middle(points, self._five[4]) - _middle(points, self._five[3])
            if np.hypot(*mouth) > SIDEWAYS * width and eyes @ mouth < 0:
                self._odd.add(CROSSED, place)

    def warnings(self) -> Iterator[str]:
        (reversed_, first), (crossed, first_crossed) = (self._odd.get(what, (0, "")) for what in (REVERSED, CROSSED))
        most = reversed_ > self._faces / 2
        if self._faces >= ENOUGH and (most or (reversed_ > OFTEN * self._faces and crossed < reversed_ / 2)):
            cause = "are they the person's own" if most else "are both conventions mixed"
            yield (
                f"in {reversed_} of {self._faces} faces the eye that is named left lies right of the other, the first"
                f" is {first}; left and right are the image's: {cause}?"
            )
        elif crossed:
            yield (
                f"in {crossed} of {self._faces} faces left and right eye are in another order than the corners of the"
                f" mouth, the first is {first_crossed}: are they exchanged?"
            )


class Mirror:
    """Whether the mean face, mirrored, is the mean face whose points are permuted as `landmarks.flip` says.

    Of faces whose eyes and nose are known, those count that look straight ahead: a set may look to one side.
    """

    def __init__(self, meta: Mapping[str, Any]):
        flip = meta.get("landmarks", {}).get("flip")
        self._five = five_points(meta)
        self._flip = np.array(flip) if flip else None
        self._sum: Float[np.ndarray, "k 2"] | None = None
        self._faces = 0

    def add(self, points: Points) -> None:
        if self._flip is None or len(points) != len(self._flip) or not np.isfinite(points).all():
            return
        if self._five:
            left, right, nose = (_middle(points, group) for group in self._five[:3])
            eyes = right - left
            if abs((nose - (left + right) / 2) @ eyes) > STRAIGHT * (eyes @ eyes):
                return
        centred = points - points.mean(0, keepdims=True, dtype=np.float64)
        if not (size := float(np.sqrt((centred**2).sum(1).mean()))) > 0:
            return
        self._sum = centred / size if self._sum is None else self._sum + centred / size
        self._faces += 1

    def warnings(self) -> Iterator[str]:
        if self._flip is None or self._sum is None or self._faces < STRAIGHT_FACES:
            return
        mean = self._sum / self._faces
        mirror = mean * [[-1.0, 1.0]]
        # The median, since a few wrong pairs must not move the others.
        mirror = mirror + np.median(mean - mirror[self._flip], axis=0, keepdims=True)
        distances = np.hypot(*(mean[:, None] - mirror[None]).transpose(2, 0, 1))
        told, nearest = distances[np.arange(len(mean)), self._flip], distances.min(1)
        wrong = np.flatnonzero((told > NEAR) & (told > NEARER * nearest))
        if len(wrong):
            first = wrong[0]
            examples = ", ".join(map(str, wrong[:NAMED])) + (", ..." if len(wrong) > NAMED else "")
            yield (
                f"landmarks.flip does not mirror the mean of {self._faces} straight faces at {len(wrong)} of"
                f" {len(mean)} points ({examples}): mirrored, point {first} is near to {distances[first].argmin()}, not"
                f" to {self._flip[first]}; is it of another markup?"
            )


class Masks:
    """Pixels of classes: which never occur, which lie on the wrong side, and what lies under the landmarks."""

    def __init__(self, meta: Mapping[str, Any]):
        self.names = tuple(meta.get("classes", ()))
        self.pixels: Int64[np.ndarray, "256"] = np.zeros(256, np.int64)
        self.images: Int64[np.ndarray, "256"] = np.zeros(256, np.int64)  # in which a class has a pixel
        self.count = 0
        five = five_points(meta)
        groups = (five[0], five[1], five[2], (*five[3], *five[4])) if five else ()
        self._groups = dict(zip(PARTS, groups, strict=False))
        self._under = {part: np.zeros(256, np.int64) for part in self._groups}
        self._pairs = [
            (index, self.names.index(mirrored_name(name)))
            for index, name in enumerate(self.names)
            if (found := SIDE.search(name)) and found[1][0] == "l" and mirrored_name(name) in self.names
        ]
        self._order = {pair: [0, 0] for pair in self._pairs}  # masks with both, and those with the left one right

    def add(self, mask: UInt8[np.ndarray, "h w"], points: Points | None) -> None:
        self.count += 1
        found = np.bincount(mask.ravel(), minlength=256)
        self.pixels += found
        self.images += found > 0
        columns = np.arange(mask.shape[1])
        for left, right in self._pairs:
            if found[left] and found[right]:
                x = [float(((mask == index).sum(0) @ columns) / found[index]) for index in (left, right)]
                self._order[left, right][0] += 1
                self._order[left, right][1] += x[0] > x[1]
        if points is None:
            return
        for part, group in self._groups.items():
            middle = _middle(points, group)
            if np.isfinite(middle).all():
                x, y = np.round(middle).astype(int)
                if 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]:
                    self._under[part][mask[y, x]] += 1

    def warnings(self) -> Iterator[str]:
        if self.count < ENOUGH:
            return
        unnamed = [int(index) for index in np.flatnonzero(self.images[:MISSING_CLASS]) if index >= len(self.names)]
        if unnamed:
            yield f"masks hold {_listed(unnamed)}, but only 0 to {len(self.names) - 1} have names"
        never = [repr(name) for index, name in enumerate(self.names) if not self.images[index]]
        if never:
            yield f"class {_listed(never)} has no pixel in any of {self.count} masks"
        beneath, shifted = self._beneath()
        order = [
            f"{self.names[left]!r} lies right of {self.names[right]!r} in {reversed_} of {both}"
            for (left, right), (both, reversed_) in self._order.items()
            if both >= ENOUGH and reversed_ > both / 2
        ]
        if order and not shifted:
            yield f"masks: {_listed(order)}; left and right are the image's: are they the person's own?"
        yield from beneath

    def _beneath(self) -> tuple[list[str], bool]:
        """What lies under the landmarks and has the name of something else; whether all of it is as far off."""
        wrong, shifts = [], []
        for part, votes in self._under.items():
            expected = [
                i for i, name in enumerate(self.names) if PARTS[part].search(name.lower()) and _is_of(part, name)
            ]
            total, most = int(votes[:MISSING_CLASS].sum()), int(votes[:MISSING_CLASS].argmax())
            if total < ENOUGH or not expected or most in expected or most >= len(self.names):
                continue
            wrong.append(f"{self.names[most]!r} under the {part} (in {votes[most]} of {total})")
            shifts.append(most - expected[0] if len(expected) == 1 else None)
        if not wrong:
            return [], False
        shifted = len(shifts) > 1 and len(set(shifts)) == 1 and shifts[0] is not None
        cause = f"are all classes shifted by {shifts[0]:+d}" if shifted else "are the classes in another order"
        text = f"where the landmarks are, masks mostly have the class {', '.join(wrong)}: {cause}, or is each of"
        return [f"{text} another image?"], shifted


def _is_of(part: str, name: str) -> bool:
    """Whether a class is of the same side as a part, if both have one."""
    side = SIDE.search(name)
    return side is None or not part.startswith(("left", "right")) or side[1][0] == part[0]


class Labels:
    """Numbers by name, such as attributes: how many are known, how many are on, and the least and greatest.

    Args:
        what: such as "attribute".
        names: in the order of the values.
        on: from which value on a label counts as being there.
    """

    def __init__(self, what: str, names: Sequence[str], on: float = 0.5):
        self.what, self.names, self._on = what, tuple(names), on
        self.known, self.on = (np.zeros(len(names), np.int64) for _ in range(2))
        self.sum: Float[np.ndarray, "k"] = np.zeros(len(names))
        self.least: Float[np.ndarray, "k"] = np.full(len(names), np.inf)
        self.greatest: Float[np.ndarray, "k"] = np.full(len(names), -np.inf)

    def add(self, values: Float32[np.ndarray, "k"]) -> None:
        if len(values) != len(self.names):
            return
        known = np.isfinite(values)
        filled = np.where(known, values, 0).astype(np.float64)
        self.known += known
        self.on += known & (values >= self._on)
        self.sum += filled
        self.least = np.where(known, np.minimum(self.least, filled), self.least)
        self.greatest = np.where(known, np.maximum(self.greatest, filled), self.greatest)

    def warnings(self) -> Iterator[str]:
        enough = self.known >= ENOUGH
        constant = [
            f"{name!r} ({self.least[i]:g} in {self.known[i]})"
            for i, name in enumerate(self.names)
            if enough[i] and self.least[i] == self.greatest[i]
        ]
        if constant:
            yield f"never changes: {self.what} {_listed(constant)}"
        if (below := np.flatnonzero(enough & (self.least < 0))).size:
            names = _listed([repr(self.names[i]) for i in below])
            least = self.least[below].min()
            yield f"below 0, down to {least:g}: {self.what} {names}; 0 means no, and what is unknown is left out"


class Duplicates:
    """Images that stand in a set more than once, byte for byte.

    An image with several faces is none: its records differ in their box or landmarks. In two splits it is, whatever is
    annotated.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, str, set[int]]] = {}  # digest -> place, split, digests of annotations
        self._odd, self._images = Counted(), 0
        self._like: dict[str, str] = {}

    def add(self, place: str, split: str, image: int, annotation: int) -> None:
        """Compares an image with those before it, by digests of its bytes and of the face's box and landmarks."""
        self._images += 1
        before = self._seen.get(image)
        if before is None:
            if len(self._seen) < KEPT:
                self._seen[image] = place, split, {annotation}
            return
        what = SPLITS if before[1] != split else TWICE if annotation in before[2] else ""
        before[2].add(annotation)
        if what:
            self._odd.add(what, place)
            self._like.setdefault(what, before[0])

    def warnings(self) -> Iterator[str]:
        for what, words in ((SPLITS, "stand in another split too"), (TWICE, "stand there twice")):
            if what in self._odd:
                count, first = self._odd[what]
                yield (
                    f"{count} of {self._images} images {words}, byte for byte; the first is {first}, which is"
                    f" {self._like[what]} too"
                )


def of_names(meta: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with flips by the names that they permute: those with a side must change places."""
    flips = {"mask_flip": "classes", "attribute_flip": "attributes", "action_unit_flip": "action_units"}
    for key, names_key in flips.items():
        names, flip = list(meta.get(names_key, ())), meta.get(key)
        if not flip or len(flip) != len(names):
            continue
        for index, name in enumerate(names):
            other = mirrored_name(name)
            if other in names and names[flip[index]] != other:
                yield f"{key} turns {name!r} into {names[flip[index]]!r}, not into {other!r}"
                break


def _middle(points: Points, group: Sequence[int]) -> Float[np.ndarray, "2"]:
    """The mean of some points; NaN unless all are known."""
    return points[list(group)].mean(0, dtype=np.float64)


def _listed(items: Iterable[Any]) -> str:
    some = [str(item) for item in items]
    return ", ".join(some[:NAMED]) + (f" and {len(some) - NAMED} more" if len(some) > NAMED else "")
