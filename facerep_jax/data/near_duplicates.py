"""Images to train on that look like images held out for evaluation, by perceptual hashes.

Blocks of images are compared by processes or, with options for it, by Apache Beam.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt16, UInt64
from tqdm import tqdm

from facerep_jax.data import beam, processes
from facerep_jax.data.bucket import Folder
from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.perceptual_hash import grey_of, nearest_views, views_of
from facerep_jax.data.transforms import text_of

BLOCK = 256  # images that a process compares at a time
FEW = 8  # blocks from which on processes pay
TRAIN = "train"
UNKNOWN = -1  # whose image it is


class Alike(NamedTuple):
    """An image to train on, and one that is held out, which look alike."""

    record: int  # number in the split to train on
    id: str
    row: int  # of the one that is held out
    bits: int  # in which their hashes differ


@dataclass(frozen=True)
class Held:
    """The images of sets to evaluate on, one set after the other."""

    names: tuple[str, ...]  # SET SPLIT ID
    sets: Int32[np.ndarray, "n"]  # which of the sets
    people: Int32[np.ndarray, "n"]  # their number in the set
    views: UInt64[np.ndarray, "2 n v 4"]  # fine hashes of the images, and of their mirror images

    def bits(self, row: int, others: np.ndarray) -> UInt16[np.ndarray, "_"]:
        """In how many bits an image differs from others, or from their mirror images, at least."""
        return least_bits(self.views[0, row][None], self.views[:, others])[0]

    def of_one_person(self, rows: np.ndarray, others: np.ndarray) -> Bool[np.ndarray, "r n"]:
        """Which pairs are known to show the same person: rows against others."""
        same = self.people[rows][:, None] == self.people[others][None]
        same &= self.sets[rows][:, None] == self.sets[others][None]
        return same & (self.people[rows] != UNKNOWN)[:, None]


def splits_held(dataset: Dataset) -> list[str]:
    """The splits of a set to evaluate on: all but the one to train on, or all where there is no other."""
    return [split for split in dataset.splits if split != TRAIN] or [*dataset.splits]


def held_out(datasets: Sequence[Dataset]) -> Held:
    """The images of sets to evaluate on."""
    names, sets, people, views = list[str](), list[int](), list[int](), list[np.ndarray]()
    for number, dataset in enumerate(datasets):
        for split in splits_held(dataset):
            hashes = functools.partial(_both_ways, dataset=dataset, split=split)
            todo = blocks(dataset.splits[split])
            for ids, labels, found in _shown(processes.mapped(hashes, todo, few=FEW, chunk=1), todo, dataset.name):
                names += [f"{dataset.name} {split} {name}" for name in ids]
                sets += [number] * len(ids)
                people += labels
                views.append(found)
    return Held(tuple(names), np.array(sets, np.int32), np.array(people, np.int32), np.concatenate(views, axis=1))


def near_duplicates(train: Dataset, held: Held, bits: int, folder: Path, beam_options: Any = None) -> Iterator[Alike]:
    """All pairs whose hashes differ in so many bits at most, in the order of the images to train on.

    Args:
        folder: that all workers see; the hashes of what is held out are kept there meanwhile.
        beam_options: of Apache Beam; None for processes of this machine.
    """
    kept = folder / "held_out.npy"
    np.save(kept, held.views)
    todo = blocks(train.splits.get(TRAIN, 0))
    compare = functools.partial(_alike, train=train, held=kept, bits=bits)
    if beam_options is None:
        compared = processes.mapped(compare, todo, few=FEW, chunk=1)
    else:
        compared = beam.mapped(compare, todo, beam_options, folder)
    for lines in _shown(compared, todo, "comparing"):
        yield from (Alike(*line) for line in lines)


def blocks(count: int, size: int = BLOCK) -> list[range]:
    """The numbers of images, some at a time."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def least_bits(one: UInt64[np.ndarray, "n v 4"], other: UInt64[np.ndarray, "2 m v 4"]) -> UInt16[np.ndarray, "n m"]:
    """In how many bits images differ from others, or from their mirror images, at least."""
    return np.minimum(nearest_views(one, other[0]), nearest_views(one, other[1]))


def records_of(dataset: Dataset, split: str, names: tuple[str, ...]) -> Any:
    """Records with these features, opened once in a process."""
    if dataset.plan is not None:  # it is drawn
        return dataset.source(split).only(names)
    return _opened(dataset.name, dataset.path, dataset.digest, split, names)


@functools.lru_cache(maxsize=2)
def _opened(name: str, path: Folder, digest: str, split: str, names: tuple[str, ...]) -> Any:
    # The digest is there for sets that were prepared anew since.
    return open_dataset(name, str(path.parents[2])).source(split).only(names)


@functools.lru_cache(maxsize=1)
def _hashes(path: Path) -> UInt64[np.ndarray, "2 n v 4"]:
    return np.load(path, mmap_mode="r")


def _alike(block: range, *, train: Dataset, held: Path, bits: int) -> list[list[Any]]:
    """What of a block is alike to what is held out, as `Alike` has it."""
    records, hashes = records_of(train, TRAIN, ("id", "image")), _hashes(held)
    examples = [records[index] for index in block]
    views = np.array([views_of(grey_of(each["image"])) for each in examples])
    found = []
    for some in blocks(hashes.shape[1]):
        least = least_bits(views, np.asarray(hashes[:, some.start : some.stop]))
        for i, j in np.argwhere(least <= bits).tolist():
            found.append([block[i], text_of(examples[i]["id"]), some[j], int(least[i, j])])
    return sorted(found)


def _both_ways(
    block: range, *, dataset: Dataset, split: str
) -> tuple[list[str], list[int], UInt64[np.ndarray, "2 n v 4"]]:
    """Of records: ids, numbers of the people, and hashes of the images and of their mirror images."""
    records = records_of(dataset, split, ("id", "image", "identity"))
    ids, people, views = list[str](), list[int](), list[Any]()
    for index in block:
        record = records[index]
        grey = grey_of(record["image"])
        views.append((views_of(grey), views_of(np.ascontiguousarray(grey[:, ::-1]))))
        ids.append(text_of(record["id"]))
        people.append(int(record.get("identity", UNKNOWN)))
    return ids, people, np.array(views).swapaxes(0, 1)


def _shown(results: Iterator[Any], todo: Sequence[range], what: str) -> Iterator[Any]:
    yield from tqdm(results, what, len(todo), unit=f" x {BLOCK} images", leave=False, disable=None)
