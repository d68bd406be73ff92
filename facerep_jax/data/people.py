"""Sets of recognition: images in one folder per person, and pairs of images that may be of one person."""

import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from facerep_jax.data.records import Table

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folders(root: Path, within: str = "") -> Iterator[tuple[str, str]]:
    """(person, path of an image relative to `root`) of each image in one folder per person, in the order of names.

    Args:
        root: of the set.
        within: the folder of the folders, relative to it.

    Raises:
        ValueError: an image lies beside the folders, or no folder has one.
    """
    found = False
    for person in sorted(os.scandir(root / within), key=lambda entry: entry.name):
        if person.is_dir():
            for image in sorted(os.listdir(person.path)):
                if image.lower().endswith(SUFFIXES):
                    found = True
                    yield person.name, f"{within}/{person.name}/{image}".lstrip("/")
        elif person.name.lower().endswith(SUFFIXES):
            raise ValueError(f"{person.path} lies beside the folders of people; one folder per person is expected")
    if not found:
        raise ValueError(f"no folder with images in {root / within}; one folder per person is expected")


@dataclasses.dataclass
class Pairs:
    """Pairs of images with the fold that each is scored in, gathered line by line."""

    known: Collection[str]  # ids of the images
    first: list[str] = dataclasses.field(default_factory=list)
    second: list[str] = dataclasses.field(default_factory=list)
    same: list[bool] = dataclasses.field(default_factory=list)
    fold: list[int] = dataclasses.field(default_factory=list)

    def add(self, first: str, second: str, *, same: bool, fold: int, place: str = "") -> None:
        """Adds a pair of ids; ValueError that begins with `place` if there is no such image."""
        for name in (first, second):
            if name not in self.known:
                raise ValueError(f"{place}no image {name!r} in the set")
        self.first.append(first)
        self.second.append(second)
        self.same.append(same)
        self.fold.append(fold)

    @property
    def table(self) -> Table:
        """The side table `pairs`: first, second, same, fold."""
        return {"first": self.first, "second": self.second, "same": np.array(self.same, bool), "fold": self.fold}
