"""What is written for a data set: its plan, its records, and the one TFDS builder that writes them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from facerep_jax.data.features import MISSING_CLASS, NO_MORE, NUMBERS, Numbers, check_more, features_dict, missing
from facerep_jax.data.images import png, size_of

Example = dict[str, Any]
Table = Mapping[str, Sequence[Any] | np.ndarray]  # column -> as many strings or numbers as every other column has


@dataclass(frozen=True)
class Plan:
    """All that is written for a data set, as its module planned it."""

    records: Mapping[str, Sequence[Any]]  # split -> the arguments of `example`, all picklable; no split is empty
    example: Callable[[Any], tuple[str, Example]]  # one of those -> key, example; at module level, Beam pickles it
    names: tuple[str, ...]  # of the features, those of `more` included
    sizes: Mapping[str, int]  # of the words in features' shapes
    meta: Mapping[str, Any]  # JSON: names of classes, flips, licence, ...; what a reader needs beside the records
    lines: int = 0  # how many records were looked at
    rejected: tuple[Mapping[str, Any], ...] = ()  # those left out: id, image, reason, and line if there is a listing
    notes: tuple[str, ...] = ()  # what else the user should hear
    mapped: Callable[..., Iterable[Any]] = map  # called like `map`, in the order of records; may use other processes
    more: Numbers = field(default_factory=lambda: NO_MORE)  # features that the vocabulary lacks
    tables: Mapping[str, Table] = field(default_factory=dict)  # name -> side table, such as pairs of ids with folds

    def __post_init__(self) -> None:
        check_more(self.more)
        for name, columns in self.tables.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"a table's name is of a to z, 0 to 9 and _, not {name!r}")
            if len({len(column) for column in columns.values()}) != 1:
                lengths = ", ".join(f"{column} {len(values)}" for column, values in columns.items()) or "none"
                raise ValueError(f"table {name!r} must have columns of one length, not {lengths}")


def complete(
    values: Mapping[str, Any], names: Iterable[str], sizes: Mapping[str, int], more: Numbers = NO_MORE
) -> Example:
    """An example with every feature of the data set, those that `values` lacks as their missing values.

    Args:
        values: holds `id` and `image` (encoded bytes). `mask`, if any, is the bytes of a grey 8-bit PNG.
        names, sizes, more: those of the plan.
    """
    numbers = {**NUMBERS, **more}
    example: Example = {}
    for name in names:
        if name in ("id", "image"):
            example[name] = values[name]
        elif name == "caption":
            example[name] = list(values.get(name, ()))
        elif name == "oracle_caption":
            example[name] = values.get(name, "")
        elif name == "mask":
            example[name] = values.get(name) or _blank_mask(values["image"])
        elif name in values:
            example[name] = np.asarray(values[name], numbers[name][0])
        else:
            example[name] = missing(name, sizes, more)
    return example


def _blank_mask(image: bytes) -> bytes:
    return png(Image.new("L", size_of(image), MISSING_CLASS))


def write_tables(plan: Plan, folder: Path) -> None:
    """Writes each side table as NAME.parquet."""
    for name, columns in plan.tables.items():
        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), folder / f"{name}.parquet", compression="zstd")


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing: TFDS's own looks for our sets in its bucket and leaves an empty folder in /tmp each time."""


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes what a plan holds, for every data set alike.

    Args:
        family: the data set's name, of the folder that its prepared copies lie in.
        version: such as "1.0.0".
        beam: whether examples are made in an Apache Beam pipeline.
        keywords: of TFDS's builder: data_dir, file_format, ...
    """

    name = "builder"  # TFDS wants one of the class; that of the object is the family
    url_infos: ClassVar[dict[str, Any]] = {}  # none; TFDS's own look-up needs a package that it does not name

    def __init__(self, plan: Plan, *, family: str, name: str, version: str, beam: bool = False, **keywords: Any):
        self.plan, self.beam, self.name = plan, beam, family
        self.VERSION = tfds.core.Version(version)
        config = tfds.core.BuilderConfig(name=name, version=version)
        super().__init__(config=config, file_format="array_record", **keywords)

    def _info(self) -> tfds.core.DatasetInfo:
        """Features and metadata, which come back from `tfds.builder_from_directory(...).info`."""
        features = features_dict(self.plan.names, self.plan.sizes, self.plan.more)
        return _Info(builder=self, features=features, metadata=tfds.core.MetadataDict(self.plan.meta))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(records) for split, records in self.plan.records.items()}

    def _generate_examples(self, records: Sequence[Any]) -> Any:
        """An iterator of (key, example), or that as a Beam transform."""
        if not self.beam:
            made = self.plan.mapped(self.plan.example, records)
            return tqdm(made, "writing", len(records), unit=" faces", leave=False, disable=None)
        import apache_beam  # an extra, and 2 s to import

        # Reshuffle, or the runner fuses the two steps and one worker makes every example.
        return apache_beam.Create(list(records)) | apache_beam.Reshuffle() | apache_beam.Map(self.plan.example)
