"""The features that a record may have, what a builder is given to write, and how a prepared data set is opened.

A feature exists in a data set if any of its records has it; where a record has not, it holds the missing value: NaN,
-1, an empty list or text, or 255 in a mask. Pixel coordinates: x right, y down, (0, 0) is the centre of the first
pixel.
"""

import difflib
import io
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, Int32
from PIL import Image
from tqdm import tqdm

from facerep_jax.data import datasets
from facerep_jax.files import local_path

MISSING_CLASS = 255  # in masks
SPLITS = ("train", "validation", "test")

# dtype and shape of the features that are numbers; a word in a shape stands for a size of the data set
NUMBERS: Mapping[str, tuple[type, tuple[int | str, ...]]] = {
    "bbox": (np.float32, (4,)),  # x0 y0 x1 y1; a width is x1 - x0
    "landmarks": (np.float32, ("landmarks", 2)),  # x y in pixels
    "visible": (np.int32, ("landmarks",)),  # 0 or 1
    "landmarks_3d": (np.float32, ("landmarks", 3)),  # x y in pixels, z on their scale
    "identity": (np.int32, ()),  # index into meta["identities"]
    "session": (np.int32, ()),  # which of the identity's sessions: pictures of one occasion
    "frame": (np.int32, ()),  # place in the session, in order of time
    "attributes": (np.float32, ("attributes",)),  # in the order of meta["attributes"]
    "action_units": (np.float32, ("action_units",)),  # 0 to 5, in the order of meta["action_units"]
    "expression": (np.int32, ()),  # index into meta["expressions"]
    "valence": (np.float32, ()),  # -1 to 1
    "arousal": (np.float32, ()),  # -1 to 1
    "vertices": (np.float32, ("vertices", 3)),  # x y in pixels, z on their scale
    "camera": (np.float32, (3, 4)),  # from the vertices' world to pixels
}
NAMES = ("id", "image", "caption", "oracle_caption", "mask", *NUMBERS)

Example = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """All that a builder writes, as the module of its data set planned it."""

    records: Mapping[str, Sequence[Any]]  # split -> the arguments of `example`, all picklable; no split is empty
    example: Callable[[Any], tuple[str, Example]]  # one of those -> key, example; at module level, Beam pickles it
    names: tuple[str, ...]  # of the features
    sizes: Mapping[str, int]  # of the words in NUMBERS' shapes
    meta: Mapping[str, Any]  # JSON: names of classes, flips, ...; what a reader needs beside the records
    lines: int = 0  # how many records were looked at
    rejected: tuple[Mapping[str, Any], ...] = ()  # those left out: line, id, image, reason
    notes: tuple[str, ...] = ()  # what else the user should hear


def features_dict(names: Iterable[str], sizes: Mapping[str, int]) -> tfds.features.FeaturesDict:
    """The TFDS features of these names. Images and masks are encoded bytes, which pass through untouched."""
    special = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, 3)),  # without encoding_format: PNG and JPEG alike
        "caption": tfds.features.Sequence(tfds.features.Text()),
        "oracle_caption": tfds.features.Text(),  # one that tells all there is to tell
        "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
    }
    return tfds.features.FeaturesDict(
        {
            name: special.get(name) or tfds.features.Tensor(shape=_shape(name, sizes), dtype=NUMBERS[name][0])
            for name in names
        }
    )


def _shape(name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[n] if isinstance(n, str) else n for n in NUMBERS[name][1])


def missing(name: str, sizes: Mapping[str, int]) -> Float32[np.ndarray, "..."] | Int32[np.ndarray, "..."]:
    """The missing value of a feature that is numbers."""
    dtype = NUMBERS[name][0]
    return np.full(_shape(name, sizes), np.nan if dtype is np.float32 else -1, dtype)


def complete(values: Mapping[str, Any], names: Iterable[str], sizes: Mapping[str, int]) -> Example:
    """An example with every feature of the data set: what `values` lacks is the missing value.

    `values` must hold `id` and `image` (encoded bytes); `mask`, where there is one, is the bytes of a grey 8-bit PNG.
    """
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
            example[name] = np.asarray(values[name], NUMBERS[name][0])
        else:
            example[name] = missing(name, sizes)
    return example


def _blank_mask(image: bytes) -> bytes:
    with Image.open(io.BytesIO(image)) as header:
        size = header.size
    return png(Image.new("L", size, MISSING_CLASS))


def png(image: Image.Image) -> bytes:
    """An image's PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing: TFDS's own looks for our sets in its bucket and leaves an empty folder in /tmp each time."""


def info(builder: tfds.core.GeneratorBasedBuilder, plan: Plan) -> tfds.core.DatasetInfo:
    """What a builder's `_info` returns. The set's metadata comes back from `builder_from_directory(...).info`."""
    return _Info(
        builder=builder, features=features_dict(plan.names, plan.sizes), metadata=tfds.core.MetadataDict(plan.meta)
    )


def generate(plan: Plan, records: Sequence[Any], *, beam: bool, mapped: Callable[..., Iterable[Any]] = map) -> Any:
    """What a builder's `_generate_examples` returns: an iterator of (key, example), or that as a Beam transform.

    `mapped` is called like `map` and may use other processes, in the order of the records.
    """
    if not beam:
        return tqdm(mapped(plan.example, records), "writing", len(records), unit=" faces", leave=False, disable=None)
    import apache_beam  # an extra, and 2 s to import

    # Reshuffle, or the runner fuses the two steps and one worker makes every example.
    return apache_beam.Create(list(records)) | apache_beam.Reshuffle() | apache_beam.Map(plan.example)


@dataclass(frozen=True)
class Dataset:
    """A prepared data set; files alone, whatever code wrote them."""

    name: str  # FAMILY/NAME
    path: Path  # the folder of this version
    splits: dict[str, int]  # name -> number of records
    features: tuple[str, ...]  # names, in the order of NAMES
    meta: dict[str, Any] = field(repr=False)  # of faces.meta.json, plus names of attributes, identities, ...
    digest: str  # of the raw set
    plan: Plan | None = field(default=None, repr=False)  # of a set that is drawn as it is read, and never prepared

    def source(self, split: str) -> Sequence[Any]:
        """The records of a split, by index; can be pickled for the workers of grain, and read in part (`only`).

        A record is a dict: `id`, `image` and `mask` are bytes (the latter two encoded), `caption` a list of bytes, the
        rest float32 and int32 arrays, or a Python number where the shape is (). ValueError on an unknown split.
        """
        if split not in self.splits:
            known = ", ".join(f"{name} ({count})" for name, count in self.splits.items())
            raise ValueError(f"data set {self.name!r} has no records in split {split!r}; splits: {known}")
        if self.plan is not None:
            return Drawn(self.plan, split)
        builder = tfds.builder_from_directory(self.path)
        raw = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        return Stored(raw, builder.info.features)


class Stored(Sequence[Example]):
    """Records as they were written, of which only the wanted features are read: to read all takes ten times as long."""

    def __init__(self, raw: Sequence[bytes], features: tfds.features.FeaturesDict):
        self._raw, self._features = raw, features
        self._encoded = {name: tfds.decode.SkipDecoding() for name in ("image", "mask") if name in features}

    def only(self, names: Container[str]) -> "Stored":
        """The same records with no other features than these."""
        wanted = {name: feature for name, feature in self._features.items() if name in names}
        return Stored(self._raw, tfds.features.FeaturesDict(wanted))

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: Any) -> Any:
        return self._features.deserialize_example_np(self._raw[index], decoders=self._encoded)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))


class Drawn(Sequence[Example]):
    """The records of a split as they would be read back, each made when it is asked for."""

    def __init__(self, plan: Plan, split: str):
        self._example, self._records = plan.example, plan.records[split]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        _, example = self._example(self._records[index])
        texts = {name: example[name].encode() for name in ("id", "oracle_caption") if name in example}
        return {**example, **texts, "caption": [c.encode() for c in example.get("caption", ())]}


def read_folder(name: str, path: Path) -> Dataset:
    """The data set in a folder that holds one version."""
    info = tfds.builder_from_directory(path).info
    meta = dict(info.metadata.items())  # TFDS loads lazily, and only in items(), keys() and values()
    counts = {split: info.splits[split].num_examples for split in info.splits}
    splits = {split: counts[split] for split in sorted(counts, key=[*SPLITS, *sorted(counts)].index)}
    return Dataset(name, path, splits, tuple(n for n in NAMES if n in info.features), meta, meta["digest"])


def open_dataset(name: str, data_dir: str | Path) -> Dataset:
    """The newest version of a prepared data set, such as `manifest/faces`.

    A name with arguments, such as `generated_faces:size=48,train=64`, is a set that is drawn as it is read, in place of
    a prepared one. FileNotFoundError where a set is not there; the message says which command prepares it.
    """
    family, colon, arg = name.partition(":")
    if colon:
        return _drawn(name, datasets.load(family), arg)
    folder = local_path("data_dir", data_dir) / name
    versions = [path for path in folder.glob("*.*.*") if (path / "dataset_info.json").is_file() and _version(path)]
    if not versions:
        raise FileNotFoundError(_how_to_prepare(name, Path(data_dir)))
    return read_folder(name, max(versions, key=_version))


def _drawn(name: str, module: Any, arg: str) -> Dataset:
    if module.RAW is not None:
        raise ValueError(
            f"data set {name!r} has a raw form and must be prepared; arguments are for sets that are drawn"
        )
    raw = module.read(arg, None)
    plan = module.plan(raw)
    splits = {split: len(records) for split, records in plan.records.items()}
    return Dataset(name, Path(), splits, plan.names, dict(plan.meta), raw.digest, plan)


def _version(path: Path) -> tuple[int, ...]:
    return tuple(map(int, path.name.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", path.name) else ()


def prepared(data_dir: Path) -> Iterator[str]:
    """The names of the data sets that are there."""
    for path in sorted(data_dir.glob("[!.]*/[!.]*/*/dataset_info.json")):
        yield path.parent.parent.relative_to(data_dir).as_posix()


def _how_to_prepare(name: str, data_dir: Path) -> str:
    family, _, own = name.partition("/")
    message = f"data set {name!r} is not prepared in {data_dir}"
    if family in datasets.names():
        module = datasets.load(family)
        command = f"facerep prepare {family}"
        command += f" --name {own}" if own and (own != module.NAME or module.RAW) else ""
        command += " --manual_dir FOLDER" if module.RAW else ""
        message += f"; run: {command} --data_dir {data_dir}"
    else:
        message += f"; facerep prepare knows {', '.join(datasets.names())}"
    close = difflib.get_close_matches(name, prepared(data_dir), n=1)
    return f"{message}; or did you mean {close[0]!r}?" if close else message
