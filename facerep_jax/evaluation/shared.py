"""What evaluations in one process share, so that a suite reads, encodes and fits nothing twice."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from facerep_jax.data.arrays import Indices, Lazy, Stack

T = TypeVar("T")
ENCODERS, FEATURES = "encoders", "features"  # kinds that are forgotten with an encoder


class Shared:
    """What was made once, by its kind and key, and the features that encoders gave of images.

    Features are kept by the image, so that a larger subset of the labels encodes only what a smaller one did not.

    Attributes:
        encoded: images that encoders saw for `features`.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}
        self._seen: dict[Hashable, list[_Part]] = {}
        self.encoded = 0
        self._subject: object = None

    def turn_to(self, encoder: object) -> None:
        """Let go of all of the last encoder, its compiled programs too, if the next to be judged is another one."""
        if encoder != self._subject:
            self.forget(ENCODERS)
            jax.clear_caches()
            self._subject = encoder

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave when it was first called with a key; keys of an error are forgotten."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def forget(self, kind: str) -> None:
        """Let go of what was made with keys that are tuples of this kind, and of features with that of encoders."""
        self._made = {key: made for key, made in self._made.items() if not (isinstance(key, tuple) and key[0] == kind)}
        if kind == ENCODERS:
            self._seen = {}

    def features(
        self,
        encoder: object,
        images: str,
        rows: Indices,
        names: Iterable[str],
        encode: Callable[[Indices], Mapping[str, Stack]],
    ) -> dict[str, Lazy]:
        """Features of some images by an encoder.

        Args:
            encoder: is kept, and known by its identity.
            images: what the images are of: data set, split and transforms.
            rows: of the images, by their records' indices.
            names: of the features.
            encode: places in `rows` -> features of the images there, of these names and perhaps others.
        """
        wanted = frozenset(names)
        parts = self._seen.setdefault((id(encoder), images), [])
        usable = [part for part in parts if wanted <= part.arrays.keys()]
        known = {row for part in usable for row in part.places}
        if len(missing := np.flatnonzero([row not in known for row in rows.tolist()])):
            self.encoded += len(missing)
            made = encode(missing)
            places = {row: place for place, row in enumerate(rows[missing].tolist())}
            parts.append(_Part(encoder, places, made))
            usable.append(parts[-1])
        where = np.array([_place(row, usable) for row in rows.tolist()]).reshape(-1, 2)
        return {name: _gathered([part.arrays[name] for part in usable], where) for name in sorted(wanted)}


class _Part(NamedTuple):
    """Features that one pass gave."""

    encoder: object  # held, so that no other object has its identity
    places: Mapping[int, int]  # record -> place in the arrays
    arrays: Mapping[str, Stack]


def _place(row: int, parts: list[_Part]) -> tuple[int, int]:
    """The number of the part that has a record, and its place there."""
    return next((number, part.places[row]) for number, part in enumerate(parts) if row in part.places)


def _gathered(arrays: list[Stack], where: np.ndarray) -> Lazy:
    """Rows of several arrays as one, which reads them as they are needed."""

    def read(rows: Indices) -> np.ndarray:
        found = np.empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
        for number, array in enumerate(arrays):
            (here,) = np.nonzero(where[rows, 0] == number)
            if len(here):
                found[here] = array[where[rows[here], 1]]
        return found

    return Lazy(read, (len(where), *arrays[0].shape[1:]), arrays[0].dtype)
