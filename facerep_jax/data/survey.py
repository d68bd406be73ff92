"""What the records of a set hold, counted: images, captions, boxes, points, masks, labels, people.

Memory has a bound, however many records are read: sums, and `SHOWN` values of each kind at most.
"""

import hashlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from facerep_jax.data.consistency import ENOUGH, Duplicates, Labels, Masks, Mirror, Sides, of_names
from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.library import Dataset
from facerep_jax.data.plausibility import Counted, Tally, fault
from facerep_jax.data.transforms import captions_of, cleaned, decode_image, text_of, tokens

READ = 20_000  # records that are read of a prepared set, at most
DRAWN = 300  # of a set that is drawn as it is read, which takes a hundred times as long
PIXELS = 2_000  # masks whose pixels are counted, at most
LEAST = 20  # part of `READ` that a small split has at least: one of so many
SHOWN = 50_000  # values of a kind that quantiles are taken from; different words and captions
FAULTS = 5  # kinds of them that are told
WORD = re.compile(r"[^\W\d_]{3,}")  # of three letters and more: the others say little
STOP = frozenset(("the", "and", "with", "for", "his", "her", "from", "that", "this", "are", "was", "has", "its", "not"))
ALIKE = 0.5  # of the captions, from which on one that is repeated is warned of
PLACE = re.compile(r"\(record (\d+) of ([^()\s]+)\)")


def place_of(record_id: str, split: str, index: int) -> str:
    """How a warning names a record, so that `places_in` finds it again."""
    return f"{record_id} (record {index} of {split})"


def places_in(warning: str) -> Iterator[tuple[str, int]]:
    """The records (split, index) that a warning names."""
    return ((split, int(index)) for index, split in PLACE.findall(warning))


class Spread:
    """Least, mean and greatest of values, and quantiles of up to `SHOWN` of them, drawn at random."""

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._rng = np.random.default_rng(0)
        self.count, self._sum = 0, 0.0
        self.least, self.greatest = np.inf, -np.inf

    def add(self, value: float | int) -> None:
        value = float(value)
        self.count, self._sum = self.count + 1, self._sum + value
        self.least, self.greatest = min(self.least, value), max(self.greatest, value)
        if len(self._kept) < SHOWN:
            self._kept.append(value)
        elif (place := int(self._rng.integers(self.count))) < SHOWN:
            self._kept[place] = value

    @property
    def mean(self) -> float:
        return self._sum / self.count if self.count else float("nan")

    def quantiles(self, *shares: float) -> list[float]:
        """The values below which such shares of them lie."""
        values: Float[np.ndarray, "n"] = np.array(self._kept)
        return np.quantile(values, shares).tolist() if self._kept else [float("nan")] * len(shares)

    def share_above(self, limit: float | int) -> float:
        """The share of values above a limit."""
        return float(np.mean(np.array(self._kept) > limit)) if self._kept else float("nan")


class Common(Counter[str]):
    """A counter of texts that forgets the rarest when there are too many."""

    def add(self, texts: list[str]) -> None:
        self.update(texts)
        if len(self) > 2 * SHOWN:
            common = self.most_common(SHOWN)
            self.clear()
            self.update(dict(common))


class Survey:
    """What is counted of the records of a data set, one after the other."""

    def __init__(self, dataset: Dataset):
        self.dataset, meta = dataset, dataset.meta
        self.read: Counter[str] = Counter()  # split -> records
        self.decoded: Counter[str] = Counter()  # split -> records whose masks were
        self.known: dict[str, Counter[str]] = {name: Counter() for name in dataset.features if name != "id"}
        self.formats: Counter[str] = Counter()
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.spreads: dict[str, Spread] = {}
        self.words, self.captions = Common(), Common()
        self.captions_of_record: Counter[int] = Counter()
        self.masks = Masks(meta)
        self.labels = {
            "attributes": Labels("attribute", meta.get("attributes", ())),
            "action_units": Labels("action unit", meta.get("action_units", ()), on=1.0),
        }
        self.people: Counter[int] = Counter()
        self.splits_of: Counter[int] = Counter()  # person -> sum of 2 ** (place of the split), each once
        self.expressions: Counter[int] = Counter()
        self._faults, self._tally = Counted(), Tally()
        self._sides, self._mirror, self._duplicates = Sides(meta), Mirror(meta), Duplicates()

    def add(self, split: str, index: int, record: Mapping[str, Any], *, pixels: bool) -> None:
        """Counts a record; the pixels of its mask only if asked to."""
        self.read[split] += 1
        place = place_of(text_of(record["id"]), split, index)
        known = {name for name in self.known if name in record and is_known(name, record[name])}
        for name in known - {"mask"}:
            self.known[name][split] += 1
        right = self._add_face(place, split, record, known)
        if "mask" in record and pixels:
            mask = decode_image(record["mask"], "L")
            self.decoded[split] += 1
            if (mask != MISSING_CLASS).any():
                self.known["mask"][split] += 1
                self.masks.add(mask, record["landmarks"] if "landmarks" in known and right else None)
        self._add_words(record)
        self._add_labels(split, record, known)

    def _add_face(self, place: str, split: str, record: Mapping[str, Any], known: set[str]) -> bool:
        """The image's size and format, and the face in it; false if its box or landmarks cannot be right."""
        with Image.open(io.BytesIO(record["image"])) as image:
            size = image.size
            self.formats[str(image.format) + (" grey" if image.mode == "L" else "")] += 1
        if len(self.sizes) < SHOWN or size in self.sizes:
            self.sizes[size] += 1
        for name, value in (("image width", size[0]), ("image height", size[1]), ("shorter side", min(size))):
            self._spread(name, value)
        self._spread("kB of the file", len(record["image"]) / 1000)
        values: dict[str, Any] = {name: record[name] for name in ("bbox", "landmarks") if name in known}
        if "bbox" in values:
            height = float(values["bbox"][3] - values["bbox"][1])
            self._spread("face height", height)
            self._spread("face height, share of the image's", height / size[1])
        digests = (record["image"], b"".join(values[name].tobytes() for name in sorted(values)))
        self._duplicates.add(place, split, *(_digest(data) for data in digests))
        if wrong := fault(values, size):
            self._faults.add(wrong, place)
            return False
        self._tally.add(place, values, size)
        if "landmarks" in values:
            points = values["landmarks"]
            self._sides.add(place, points)
            if (np.abs(points - (np.array(size) - 1) / 2) <= np.array(size) / 2).all():  # all of them in the image
                self._mirror.add(points)
        return True

    def _add_words(self, record: Mapping[str, Any]) -> None:
        if "caption" not in record:
            return
        captions = [caption for caption in captions_of(record["caption"]) if caption.strip()]
        self.captions_of_record[len(captions)] += 1
        for caption in captions:
            self._spread("caption, letters", len(caption))
            found = tokens(caption, 4096)[0]
            self._spread("caption, tokens of CLIP", int(np.count_nonzero(found)))
            words = cleaned(caption[:10_000]).lower()
            self.captions.add([words[:300]])
            self.words.add([word for word in dict.fromkeys(WORD.findall(words)) if word not in STOP])

    def _add_labels(self, split: str, record: Mapping[str, Any], known: set[str]) -> None:
        for name, labels in self.labels.items():
            if name in known:
                labels.add(record[name])
        if "identity" in known:
            person = int(record["identity"])
            self.people[person] += 1
            self.splits_of[person] |= 1 << [*self.dataset.splits].index(split)
        if "expression" in known:
            self.expressions[int(record["expression"])] += 1
        for name in known - {"identity", "expression", "session", "frame"}:
            if np.ndim(record[name]) == 0 and not isinstance(record[name], bytes | str):
                self._spread(name, float(record[name]))

    def _spread(self, name: str, value: float | int) -> None:
        self.spreads.setdefault(name, Spread()).add(value)

    @property
    def in_two_splits(self) -> int:
        """People who stand in more than one split."""
        return sum(splits.bit_count() > 1 for splits in self.splits_of.values())

    @property
    def count(self) -> int:
        """Records that were read."""
        return self.read.total()

    def warnings(self) -> list[str]:
        """What is odd, in words: how many faces, the first of them, and the likely cause."""
        faults = sorted(self._faults.items(), key=lambda item: -item[1][0])
        found = [f"{count} of {self.count} faces: {what}; the first is {first}" for what, (count, first) in faults]
        sources = (
            *(found[:FAULTS], self._tally.warnings(), self._sides.warnings(), self._mirror.warnings()),
            *(self.masks.warnings(), of_names(self.dataset.meta), self._duplicates.warnings()),
            *(labels.warnings() for labels in self.labels.values()),
            self._of_captions(),
            self._of_expressions(),
        )
        return [*itertools.chain.from_iterable(sources)]

    def _of_captions(self) -> Iterator[str]:
        total = self.spreads["caption, letters"].count if "caption, letters" in self.spreads else 0
        if total >= ENOUGH:
            caption, count = self.captions.most_common(1)[0]
            if count > ALIKE * total:
                yield f"{count} of {total} captions are the same: {caption[:60]!r}"

    def _of_expressions(self) -> Iterator[str]:
        if self.expressions.total() >= ENOUGH and len(self.expressions) == 1:
            label, count = self.expressions.most_common(1)[0]
            yield f"expression never changes: it is {self.name_of('expressions', label)!r} in {count}"

    def name_of(self, names_key: str, label: int) -> str:
        """The name of an identity or expression, or its number where it has none."""
        names = self.dataset.meta.get(names_key, ())
        return str(names[label]) if 0 <= label < len(names) else str(label)


def is_known(name: str, value: Any) -> bool:
    """Whether a record has a feature, not its missing value; masks, which would have to be decoded, count as known."""
    if name == "caption":
        return any(caption.strip() for caption in captions_of(value))
    if isinstance(value, bytes | str):
        return bool(value)
    return _any(value)


def _any(value: Any) -> bool:
    """Whether a number is there that is neither NaN nor, among integers, -1: those are the missing values."""
    array = np.asarray(value)
    return bool(np.isfinite(array).any() if array.dtype.kind == "f" else (array != -1).any())


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def chosen(dataset: Dataset, splits: tuple[str, ...], seed: int, every: bool) -> dict[str, np.ndarray]:
    """Which records of each split are read, in order: all, or as many as is cheap, drawn at random."""
    most = READ if dataset.plan is None else DRAWN
    counts = {split: dataset.splits[split] for split in splits}
    total = sum(counts.values())
    if every or total <= most:
        return {split: np.arange(count) for split, count in counts.items()}
    rng = np.random.default_rng(seed)
    shares = {split: min(count, max(most * count // total, most // LEAST)) for split, count in counts.items()}
    return {split: np.sort(rng.choice(counts[split], share, replace=False)) for split, share in shares.items()}


def survey(dataset: Dataset, records: Mapping[str, np.ndarray], progress: Any = iter) -> Survey:
    """Reads records, and counts.

    Args:
        records: indices by split.
        progress: called on an iterable of (split, index), which it gives back, such as a progress bar.
    """
    found = Survey(dataset)
    sources = {split: dataset.source(split) for split in records}
    places = [(split, index) for split, indices in records.items() for index in indices.tolist()]
    decoded = set(np.linspace(0, len(places) - 1, min(len(places), PIXELS)).astype(int).tolist())
    for number, (split, index) in enumerate(progress(places)):
        found.add(split, index, sources[split][index], pixels=number in decoded)
    return found
