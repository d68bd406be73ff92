"""What is known of a published set of faces before its files are at hand, and what its builder has to do with it.

The module of a published set holds a `Benchmark` under that name. `facerep datasets` lists them, docs/data.md is
written from them, and their terms become the meta of what is prepared. Addresses, sizes and terms are recalled but for
those of CelebAMask-HQ, Face Synthetics and FairFace, which were read.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facerep_jax.data import samples
from facerep_jax.data.raw_set import Sample, Samples


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A published set of faces: what it is, where it is had, and on which terms."""

    name: str  # of its module, which `facerep prepare` takes
    title: str
    tasks: tuple[str, ...]
    source: str  # the address to ask or to load it from, and what to take there
    raw: str  # what the folder --manual_dir holds, in words
    counts: Mapping[str, int]  # split -> published number of images; empty if none was published
    licence: str
    agreement: str  # what users sign or keep to
    citation: str
    research_only: bool = True
    may_show_images: bool = False  # whether images may be published, in reports for instance
    subsets: Mapping[str, int] = dataclasses.field(default_factory=dict)  # attribute -> its published ones in `test`
    arguments: str = ""  # what may follow the colon of `facerep prepare NAME:`, in words

    @property
    def terms(self) -> dict[str, Any]:
        """What the meta of a data set says of what may be done with it."""
        return {
            "licence": self.licence,
            "agreement": f"{self.agreement}; cite {self.citation}" if self.agreement else f"cite {self.citation}",
            "research_only": self.research_only,
            "may_show_images": self.may_show_images,
        }

    def folder(self, arg: str | None, manual_dir: Path | None) -> Path:
        """The folder of the raw set, which is there.

        Raises:
            ValueError: --manual_dir is missing, or something follows the colon though nothing may.
            FileNotFoundError: there is no such folder.
        """
        if arg is not None and not self.arguments:
            raise ValueError(f"data set {self.name!r} takes no arguments after the colon, but got {arg!r}")
        if manual_dir is None:
            raise ValueError(f"data set {self.name!r} needs --manual_dir: {self.raw}")
        if not manual_dir.is_dir():
            raise FileNotFoundError(f"no folder {manual_dir}; expected {self.raw}")
        return manual_dir

    def within(self, folder: Path, *spellings: str) -> str:
        """The first of some relative paths at which there is a file or a folder: sets are unpacked in several ways.

        Raises:
            FileNotFoundError: there is none.
        """
        for spelling in spellings:
            if (folder / spelling).exists():
                return spelling
        raise FileNotFoundError(f"no {' or '.join(spellings)} in {folder}; expected {self.raw}")

    def gather(
        self, folder: Path, found: Iterable[Sample], meta: Mapping[str, Any] | None = None, **described: Any
    ) -> Samples:
        """The samples with the set's terms in their meta, and a note for each split or subset of another size.

        Args:
            folder, found, meta, described: those of `samples.gather`.
        """
        raw = samples.gather(folder, found, {**(meta or {}), **self.terms}, **described)
        return dataclasses.replace(raw, notes=(*raw.notes, *self._differences(raw.samples)))

    def _differences(self, found: Sequence[Sample]) -> Iterator[str]:
        """What differs from what was published: only the splits if these do, since subsets then do too."""
        counts = Counter(sample.split for sample in found)
        whole = dict(counts) == dict(self.counts)
        for split in dict.fromkeys([*self.counts, *counts]) if self.counts and not whole else ():
            here, published = counts[split], self.counts.get(split, 0)
            if here != published:
                yield f"warning: {here} images in split {split}, but {self.title} was published with {published}"
        for name, published in self.subsets.items() if whole else ():
            here = sum(s.split == "test" and s.values.get("attributes", {}).get(name) == 1 for s in found)
            if here != published:
                yield f"warning: {here} test images are {name}, but {self.title} was published with {published}"
