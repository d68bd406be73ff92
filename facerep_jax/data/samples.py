"""From the faces of a raw set to the records that are written: what every data set with files of its own shares.

A data set's module says which samples there are, by `gather`; `plan` looks at their files and does the rest. A value
that is wrong is an error (ValueError, FileNotFoundError) of one line that names the sample, the value and what would be
right. A broken image is not: large sets have some. The sample is left out, and listed.

An image that is rotated by its EXIF is turned upright; landmarks, boxes and masks are those of the upright image.
"""

import dataclasses
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from facerep_jax.data.features import NAMES, NO_MORE, SPLITS, Numbers, check_more
from facerep_jax.data.images import check_image, check_mask, stored_image, stored_mask
from facerep_jax.data.meta import IBUG, IBUG_FLIP, at, check_flip, check_keys, check_points, checked_meta
from facerep_jax.data.records import Example, Plan, Table, complete
from facerep_jax.data.values import PATHS, kinds_with, split, text
from facerep_jax.suggestions import nearest

LABELS = {"identity": "identities", "expression": "expressions"}  # values that are names -> where meta lists them
FLIPS = {"attributes": "attribute_flip", "action_units": "action_unit_flip"}  # values by name -> flip of the names


@dataclasses.dataclass(frozen=True)
class Sample:
    """One face of a raw set."""

    values: Mapping[str, Any]  # by feature, as a line of faces.jsonl has them; paths are relative to the set's folder
    id: str = ""  # empty for the image's path
    split: str = "train"
    line: int = 0  # of the listing, from 1; 0 if there is no listing


@dataclasses.dataclass(frozen=True)
class Samples:
    """All faces of a raw set, their values checked; files are not looked at yet. Made by `gather`."""

    folder: Path
    samples: tuple[Sample, ...]
    meta: Mapping[str, Any]  # as given, and names of attributes, action units, identities and expressions
    sizes: Mapping[str, int]  # landmarks, attributes, action_units
    listing: str = ""  # file whose lines the samples are
    meta_file: str = ""  # file that `meta` comes from
    described_by: tuple[str, ...] = ()  # files that say all that `samples` and `meta` hold
    more: Numbers = dataclasses.field(default_factory=lambda: NO_MORE)
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over all that is known of the samples, and every file that they name with its path."""
        total = hashlib.sha256()
        if not self.described_by:
            more = {name: (dtype.__name__, shape) for name, (dtype, shape) in self.more.items()}
            total.update(_canonical([self.meta, self.sizes, more, self.tables]))
            for sample in self.samples:
                total.update(_canonical([sample.id, sample.split, sample.values]))
        named = (sample.values[key] for sample in self.samples for key in PATHS if key in sample.values)
        paths = list(dict.fromkeys([*self.described_by, *named]))
        for path, digest in zip(paths, _threaded(self._digest_of, paths, "hashing"), strict=True):
            total.update(f"{digest} {path}\n".encode())
        return total.hexdigest()

    def _digest_of(self, path: str) -> str:
        with open(self.folder / path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def place(self, sample: Sample) -> str:
        """Where a sample comes from, in front of what is wrong with it."""
        if self.listing:
            return f"{self.folder / self.listing} line {sample.line}, "
        return f"{self.folder}, {sample.id or sample.values.get('image')}: "

    @property
    def place_of_meta(self) -> str:
        """Where `meta` comes from, in front of what is wrong with it."""
        return f"{self.folder / self.meta_file}, " if self.meta_file else f"{self.folder}, meta: "


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=lambda array: array.tolist()).encode() + b"\n"


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A sample left out because its image is broken."""

    line: int
    id: str
    image: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Checked:
    """What looking at every file of the samples has shown."""

    samples: tuple[Sample, ...]  # those that are not rejected
    rejected: tuple[Rejection, ...]
    converted: int  # images that `stored_image` turns into PNG
    vertices: int | None  # points per mesh, None without meshes


def gather(folder: Path, samples: Iterable[Sample], meta: Mapping[str, Any], **described: Any) -> Samples:
    """The samples of a raw set with their values checked, and with all of its meta that follows from them.

    Args:
        folder: of the raw set.
        samples: in the order of the listing, or in another that does not change.
        meta: see `meta.checked_meta`; tuples may stand for lists.
        described: fields of `Samples`: `listing`, `meta_file` and `described_by`, for errors and digest; `more`,
            features that the vocabulary lacks; `tables`, which may name samples that are left out later.

    Raises:
        ValueError, FileNotFoundError: the first thing that is wrong.
    """
    raw = Samples(folder, (), json.loads(json.dumps(dict(meta))), {}, **described)
    check_more(raw.more)
    with at(raw.place_of_meta):
        checked_meta(raw.meta)
    kinds, root = kinds_with(raw.more), folder.resolve()
    points: tuple[int, str] | None = None  # how many landmarks, and what says so
    if flip := raw.meta.get("landmarks", {}).get("flip"):
        points = len(flip), f"landmarks.flip of {raw.meta_file or 'meta'}"
    found: dict[str, Sample] = {}
    for given in samples:
        place = raw.place(given)
        with at(place):
            values = _checked_values(given.values, kinds, root, raw)
            sample = Sample(values, text(given.id or values["image"]), split(given.split), given.line)
            if other := found.get(sample.id):
                place = f"that of line {other.line} too" if raw.listing else "that of another sample"
                raise ValueError(f"id: {sample.id!r} is {place}; ids must be unique")
            points = _check_counts(sample, points)
        found[sample.id] = sample
    if not found:
        raise ValueError(f"{folder / raw.listing} is empty; at least one sample is expected")
    return _completed(dataclasses.replace(raw, samples=tuple(found.values())), points)


def _checked_values(
    given: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]], root: Path, raw: Samples
) -> dict[str, Any]:
    """The values of a sample as they are kept, without those that are None."""
    meta_file = raw.meta_file or "meta"
    values = {}
    for key, value in given.items():
        check_keys((key,), kinds)
        if value is None:
            continue
        with at(f"{key}: "):
            values[key] = kinds[key](value)
            if key in PATHS:
                _check_path(root, value, raw.listing)
            elif key in FLIPS and key in raw.meta:
                _check_names(value, raw.meta[key], f"{key} of {meta_file}")
            elif key == "expression" and "expressions" in raw.meta:
                _check_names([value], raw.meta["expressions"], f"expressions of {meta_file}")
    if "image" not in values:
        raise ValueError(f"key 'image' is missing: the image's path, relative to {raw.listing or root}")
    if "mask" in values and "classes" not in raw.meta:
        raise ValueError(f"mask: {meta_file} must name the mask's `classes` in order")
    return values


def _check_names(names: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not among the {where}; {nearest(name, known)}")


def _check_path(root: Path, path: str, listing: str) -> None:
    if os.path.isabs(path) or ".." in Path(path).parts:
        raise ValueError(f"{path!r} must be relative to {listing or root} and inside its folder")
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(root):
        raise ValueError(f"{path!r} is a link to {real}, outside of the folder")
    if not os.path.isfile(real):  # unlike Path's, it takes a name that is too long for that of no file
        raise FileNotFoundError(f"no file {path!r} in {root}")


def _check_counts(sample: Sample, points: tuple[int, str] | None) -> tuple[int, str] | None:
    """Landmarks, landmarks_3d and visible have one count in all samples: (count, what says so)."""
    for key in ("landmarks", "landmarks_3d", "visible"):
        if key in sample.values:
            found = len(sample.values[key])
            points = points or (found, f"line {sample.line}" if sample.line else sample.id)
            if found != points[0]:
                raise ValueError(f"{key}: {found} points, but {points[1]} has {points[0]}")
    return points


def _completed(raw: Samples, points: tuple[int, str] | None) -> Samples:
    """The samples with everything in their meta that follows from them."""
    meta, sizes = dict(raw.meta), {}
    if points:
        sizes["landmarks"] = points[0]
        if points[0] == len(IBUG_FLIP):
            meta.setdefault("landmarks", IBUG)
        with at(f"{raw.place_of_meta}landmarks: "):
            check_points(meta.get("landmarks", {}), points[0])
    for key, flip in FLIPS.items():
        used = {name for sample in raw.samples for name in sample.values.get(key, ())}
        if used:
            names = meta.setdefault(key, sorted(used))
            sizes[key] = len(names)
            if flip in meta:
                with at(f"{raw.place_of_meta}{flip}: "):
                    check_flip(meta[flip], len(names))
    for key, names_key in LABELS.items():
        used = {sample.values[key] for sample in raw.samples if key in sample.values}
        if used:
            meta.setdefault(names_key, sorted(used))
    return dataclasses.replace(raw, meta=meta, sizes=sizes)


def plan(raw: Samples) -> Plan:
    """Looks at every file of the samples: those with a broken image are rejected, the others will be written."""
    checked = check(raw)
    found = {"id", "image"}.union(*(sample.values for sample in checked.samples))
    names = tuple(name for name in (*NAMES, *raw.more) if name in found)
    sizes = dict(raw.sizes) | ({"vertices": checked.vertices} if checked.vertices else {})
    labels = {
        key: {name: label for label, name in enumerate(raw.meta.get(names_key, ()))}
        for key, names_key in LABELS.items()
    }
    splits: dict[str, list[Sample]] = {}
    for sample in checked.samples:
        values = _numbered(sample.values, labels, raw.meta)
        splits.setdefault(sample.split, []).append(dataclasses.replace(sample, values=values))
    made = f"{checked.converted} images stored as PNG: not an upright 8-bit RGB or grey JPEG or PNG"
    rejected = [dataclasses.asdict(rejection) for rejection in checked.rejected]
    return Plan(
        records={split: splits[split] for split in SPLITS if split in splits},
        example=functools.partial(example, folder=raw.folder.resolve(), names=names, sizes=sizes, more=raw.more),
        names=names,
        sizes=sizes,
        meta=raw.meta,
        lines=len(raw.samples),
        rejected=tuple({key: value for key, value in line.items() if key != "line" or value} for line in rejected),
        notes=(made,) if checked.converted else (),
        more=raw.more,
        tables=raw.tables,
    )


def _numbered(
    values: Mapping[str, Any], labels: Mapping[str, Mapping[str, int]], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a sample, numbers in place of names."""
    numbered = dict(values)
    for key, label in labels.items():
        if key in values:
            numbered[key] = label[values[key]]
    for key in FLIPS:
        if key in values:
            numbered[key] = np.array([values[key].get(name, np.nan) for name in meta[key]], np.float32)
    return numbered


def example(
    sample: Sample, *, folder: Path, names: Sequence[str], sizes: Mapping[str, int], more: Numbers
) -> tuple[str, Example]:
    """The key of a sample and what is written for it: its numbers, and the contents of its files."""
    values = dict(sample.values, id=sample.id)
    values["image"] = stored_image((folder / values["image"]).read_bytes())
    if "mask" in values:
        values["mask"] = stored_mask((folder / values["mask"]).read_bytes())
    if "vertices" in values:
        values["vertices"] = read_vertices(folder / values["vertices"])
    return sample.id, complete(values, names, sizes, more)


def check(raw: Samples) -> Checked:
    """Looks at every file of the samples, in threads and with a progress bar.

    Images that cannot be decoded, or are too large, are rejections.

    Raises:
        ValueError: a mask or mesh is wrong.
    """
    look = functools.partial(_check_files, raw)
    kept, rejected, converted = [], [], 0
    vertices: dict[int, Sample] = {}  # points of a mesh -> first sample with that many
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about oddities in files; what matters to us is checked
        seen = _threaded(look, raw.samples, "checking")
        for sample, (reason, direct, points) in zip(raw.samples, seen, strict=True):
            if reason:
                rejected.append(Rejection(sample.line, sample.id, sample.values["image"], reason))
            else:
                kept.append(sample)
                converted += not direct
            if points:
                vertices.setdefault(points, sample)
    if len(vertices) > 1:
        (points, first), (other, sample), *_ = vertices.items()
        known = f"line {first.line}" if raw.listing else first.id
        raise ValueError(f"{raw.place(sample)}vertices: {other} points, but {known} has {points}")
    flip = len(raw.meta.get("vertex_flip", ()))
    if vertices and flip not in (0, *vertices):
        raise ValueError(f"{raw.place_of_meta}vertex_flip: has {flip} indices for {min(vertices)} vertices")
    return Checked(tuple(kept), tuple(rejected), converted, next(iter(vertices), None))


def _threaded(function: Callable[[Any], Any], items: Sequence[Any], what: str) -> Iterator[Any]:
    """`map` in threads and in order, with a progress bar. In chunks, because a future per image weighs a kilobyte."""
    chunks = [items[start : start + 64] for start in range(0, len(items), 64)]
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc=what, total=len(items), unit=" files", leave=False, disable=None) as bar,
    ):
        try:
            for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
                bar.update(len(results))
                yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def _check_files(raw: Samples, sample: Sample) -> tuple[str, bool, int]:
    """(reason of rejection or "", whether the image is stored as it is, points of the mesh or 0) of a sample."""
    folder, values = raw.folder, sample.values
    reason, direct, size, points = "", True, None, 0
    try:
        direct, size = check_image((folder / values["image"]).read_bytes())
    except Exception as error:  # decoders raise all kinds; each is counted, written down and shown
        reason = " ".join(str(error).split()) or type(error).__name__
    with at(raw.place(sample)):
        if "mask" in values:
            with at(f"mask: {values['mask']} "):
                check_mask((folder / values["mask"]).read_bytes(), size, len(raw.meta["classes"]))
        if "vertices" in values:
            with at(f"vertices: {values['vertices']} "):
                points = len(read_vertices(folder / values["vertices"]))
    return reason, direct, points


def read_vertices(path: Path) -> Float32[np.ndarray, "v 3"]:
    """The mesh in an .npy file; ValueError if the file holds anything else."""
    try:
        vertices = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"is not a readable .npy file: {error}") from None
    if not isinstance(vertices, np.ndarray):
        raise ValueError("is an .npz file; one array in .npy format is expected")
    if vertices.dtype != np.float32 or vertices.ndim != 2 or vertices.shape[1:] != (3,) or not len(vertices):
        raise ValueError(f"must be float32 of shape (V, 3), not {vertices.dtype} of shape {vertices.shape}")
    if not np.isfinite(vertices).all():
        raise ValueError("holds a number that is not finite")
    return vertices
