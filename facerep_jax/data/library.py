"""How a data set is opened: one that was prepared, from its files alone, or one that is drawn as it is read."""

import difflib
import re
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow.parquet
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from facerep_jax.data import bucket, datasets
from facerep_jax.data.bucket import Folder
from facerep_jax.data.features import NAMES, SPLITS
from facerep_jax.data.records import Example, Plan
from facerep_jax.files import object_of

DESCRIPTION = ("dataset_info.json", "features.json", "metadata.json")  # of a set, which TFDS writes beside its records


@runtime_checkable
class Source(Protocol):
    """Records by index. They can be read in part, and sent to other processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any: ...

    def only(self, names: Container[str]) -> "Source":
        """The same records with no other features than these."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data set that is prepared, files alone, whatever code wrote them, or that is drawn."""

    name: str  # FAMILY/NAME
    path: Folder  # of this version
    splits: dict[str, int]  # name -> number of records
    features: tuple[str, ...]  # names, in the order of NAMES; last those that NAMES lacks
    meta: dict[str, Any] = field(repr=False)  # of faces.meta.json, plus names of attributes, identities, ...
    digest: str  # of the raw set
    plan: Plan | None = field(default=None, repr=False)  # of a set that is drawn as it is read, and never prepared

    def source(self, split: str) -> Source:
        """The records of a split.

        A record is a dict: `id`, `image` and `mask` are bytes (the latter two encoded), `caption` a list of bytes, the
        rest float32 and int32 arrays, or a Python number if the shape is ().

        Raises:
            ValueError: there is no such split.
        """
        if split not in self.splits:
            known = ", ".join(f"{name} ({count})" for name, count in self.splits.items())
            raise ValueError(f"data set {self.name!r} has no records in split {split!r}; splits: {known}")
        if self.plan is not None:
            return Drawn(self.plan, split)
        with bucket.answering(self.path):
            builder = tfds.builder_from_directory(self.path)
            raw = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        return Stored(raw, builder.info.features, self.path)

    @property
    def tables(self) -> list[str]:
        """The names of the side tables."""
        return sorted(path.stem for path in self.path.glob("*.parquet")) if self.plan is None else [*self.plan.tables]

    def table(self, name: str) -> dict[str, np.ndarray]:
        """A side table, such as the pairs and folds of a verification benchmark: column -> array of its rows.

        Raises:
            ValueError: there is no such table.
        """
        if name not in self.tables:
            raise ValueError(f"data set {self.name!r} has no table {name!r}; known: {', '.join(self.tables) or 'none'}")
        if self.plan is not None:
            return {column: np.asarray(values) for column, values in self.plan.tables[name].items()}
        with bucket.answering(self.path), (self.path / f"{name}.parquet").open("rb") as file:
            columns = pyarrow.parquet.read_table(file)
        arrays = {column: columns[column].to_numpy() for column in columns.column_names}
        # Arrow gives strings as objects.
        return {column: array.astype(str) if array.dtype == object else array for column, array in arrays.items()}


class Stored(Sequence[Example]):
    """Records as they were written, of which only the wanted features are read: to read all takes ten times as long."""

    def __init__(self, raw: Sequence[bytes], features: tfds.features.FeaturesDict, path: Folder):
        self._raw, self._features, self._path = raw, features, path
        self._encoded = {name: tfds.decode.SkipDecoding() for name in ("image", "mask") if name in features}

    def only(self, names: Container[str]) -> "Stored":
        wanted = {name: feature for name, feature in self._features.items() if name in names}
        return Stored(self._raw, tfds.features.FeaturesDict(wanted), self._path)

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: Any) -> Any:
        with bucket.answering(self._path):
            raw = self._raw[index]
        return self._features.deserialize_example_np(raw, decoders=self._encoded)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))


class Drawn(Sequence[Example]):
    """The records of a split as they would be read back, each made when it is asked for."""

    def __init__(self, plan: Plan, split: str, names: Container[str] | None = None):
        self._plan, self._split, self._names = plan, split, plan.names if names is None else names

    def only(self, names: Container[str]) -> "Drawn":
        return Drawn(self._plan, self._split, [name for name in self._plan.names if name in names])

    def __len__(self) -> int:
        return len(self._plan.records[self._split])

    def __getitem__(self, index: Any) -> Any:
        _, example = self._plan.example(self._plan.records[self._split][index])
        encoded: Example = {name: example[name].encode() for name in ("id", "oracle_caption") if name in example}
        if "caption" in example:
            encoded["caption"] = [caption.encode() for caption in example["caption"]]
        return {name: value for name, value in {**example, **encoded}.items() if name in self._names}


class Kept(list[Example]):
    """Records in memory, such as those of a drawn set that are wanted more than once."""

    def only(self, names: Container[str]) -> "Kept":
        return Kept({name: value for name, value in record.items() if name in names} for record in self)


def read_folder(name: str, path: Folder) -> Dataset:
    """The data set in a folder that holds one version.

    Raises:
        Unreachable: it is in a bucket that does not answer.
        ValueError: it is damaged: what describes it cannot be read, or not all of its records are there.
    """
    try:
        with bucket.answering(path):
            for file in DESCRIPTION:
                object_of((path / file).read_bytes(), str(path / file))
            info = tfds.builder_from_directory(path).info
            meta = dict(info.metadata.items())  # TFDS loads lazily, and only in items(), keys() and values()
            if "digest" not in meta:
                raise ValueError(f"{path / 'metadata.json'} has no digest")
            with ThreadPoolExecutor() as pool:
                for split in info.splits.values():
                    shards = [path / Path(each).name for each in split.filepaths]
                    list(pool.map(_check_shard, shards, split.shard_lengths))
    except Exception as error:  # TFDS raises all kinds
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        what = str(error).replace(f"{path}/", "")
        raise ValueError(
            f"data set {name!r} in {path} is damaged ({what}): prepare it again with --overwrite"
        ) from error
    counts = {split: info.splits[split].num_examples for split in info.splits}
    splits = {split: counts[split] for split in sorted(counts, key=[*SPLITS, *sorted(counts)].index)}
    features = sorted(info.features, key=[*NAMES, *sorted(info.features)].index)
    return Dataset(name, path, splits, tuple(features), meta, meta["digest"])


def _check_shard(path: Folder, count: int) -> None:
    """Raises ValueError unless a file holds as many records as `count`, FileNotFoundError if it is not there.

    Only its end is read: that records themselves are whole is seen when they are.
    """
    with path.open("rb"):  # if it cannot be, OSErrors say why, which ArrayRecord does not raise
        try:
            with bucket.answering(path):
                reader = ArrayRecordReader(str(path), options="readahead_buffer_size:0")
                found = reader.num_records()
                reader.close()
        except RuntimeError as error:
            raise ValueError(f"{path} is cut or holds no records") from error
    if found != count:
        raise ValueError(f"{path} holds {found} of {count} records")


def open_dataset(name: str, data_dir: str | Path) -> Dataset:
    """The newest version of a prepared data set, such as `manifest/faces`.

    A name with arguments, such as `generated_faces:size=48,train=64`, is a set that is drawn as it is read, in place of
    a prepared one.

    Args:
        data_dir: a folder, or gs://BUCKET/..., see `data.bucket`.

    Raises:
        FileNotFoundError: the set is not there; the message says which command prepares it.
    """
    family, colon, arg = name.partition(":")
    if colon:
        return _drawn(name, datasets.load(family), arg)
    root = bucket.readable("data_dir", data_dir)
    folder = root / name
    with bucket.answering(root):
        versions = [path for path in folder.glob("*.*.*") if (path / "dataset_info.json").is_file() and _version(path)]
        if not versions:
            raise FileNotFoundError(_how_to_prepare(name, root))
    return read_folder(name, max(versions, key=_version))


def _drawn(name: str, module: datasets.DataSet, arg: str) -> Dataset:
    if module.RAW is not None:
        raise ValueError(
            f"data set {name!r} has a raw form and must be prepared; arguments are for sets that are drawn"
        )
    raw = module.read(arg, None)
    plan = module.plan(raw)
    if not isinstance(plan, Plan):
        raise ValueError(f"data set {name!r} is written in parts and must be prepared")
    splits = {split: len(records) for split, records in plan.records.items()}
    return Dataset(name, Path(), splits, plan.names, dict(plan.meta), raw.digest, plan)


def _version(path: Folder) -> tuple[int, ...]:
    return tuple(map(int, path.name.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", path.name) else ()


def prepared(data_dir: Folder) -> Iterator[str]:
    """The names of the data sets that are there."""
    for path in sorted(data_dir.glob("[!.]*/[!.]*/*/dataset_info.json"), key=str):
        yield path.parent.parent.relative_to(data_dir).as_posix()


def _how_to_prepare(name: str, data_dir: Folder) -> str:
    family, _, own = name.partition("/")
    message = f"data set {name!r} is not prepared in {data_dir}"
    if family in datasets.names():
        module = datasets.load(family)
        command = f"facerep prepare {family}"
        command += f" --name {own}" if own and (own != module.NAME or module.RAW) else ""
        command += " --manual_dir FOLDER" if module.RAW else ""
        message += f"; run: {command} --data_dir {data_dir}"
    else:
        message += "; facerep datasets lists what can be prepared by name, modules can by their dotted path"
    close = difflib.get_close_matches(name, prepared(data_dir), n=1)
    return f"{message}; or did you mean {close[0]!r}?" if close else message
