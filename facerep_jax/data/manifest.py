"""A user's own faces: `faces.jsonl`, one JSON object per line, and optionally `faces.meta.json`; read strictly.

Bad lines are errors (ValueError, FileNotFoundError) of one line that names file, line, key and what would be right.
Broken images are not: large sets have some. `check` decodes every image and returns those as rejections.

An image that is rotated by its EXIF is turned upright; landmarks, boxes and masks are those of the upright image.
"""

import dataclasses
import functools
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facerep_jax.config import nearest
from facerep_jax.data.features import SPLITS
from facerep_jax.data.images import check_image, check_mask
from facerep_jax.data.meta import (
    IBUG,
    IBUG_FLIP,
    at,
    check_flip,
    check_keys,
    check_normaliser,
    read_meta,
    shown,
    strict_json,
)

RECORDS, META = "faces.jsonl", "faces.meta.json"
FILES = ("image", "mask", "vertices")  # keys that are paths
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Record:
    """One line, its values checked: paths and strings as they are, numbers as arrays, missing keys absent."""

    line: int  # from 1
    id: str
    split: str
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest whose lines are valid; its images are not looked at yet."""

    folder: Path
    records: tuple[Record, ...]
    meta: Mapping[str, Any]  # of the file, completed by the names of attributes, action units, identities, expressions
    sizes: Mapping[str, int]  # landmarks, attributes, action_units

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the two files and every file they name, each with its path, in order of first mention."""
        paths = [name for name in (RECORDS, META) if (self.folder / name).is_file()]
        paths += [record.values[key] for record in self.records for key in FILES if key in record.values]
        paths = list(dict.fromkeys(paths))
        total = hashlib.sha256()
        for path, digest in zip(paths, _threaded(self._digest_of, paths, "hashing"), strict=True):
            total.update(f"{digest} {path}\n".encode())
        return total.hexdigest()

    def _digest_of(self, path: str) -> str:
        with open(self.folder / path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A record left out because its image is broken."""

    line: int
    id: str
    image: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Checked:
    """What looking at every file of a manifest has shown."""

    records: tuple[Record, ...]  # those that are not rejected
    rejected: tuple[Rejection, ...]
    converted: int  # images that `stored_image` turns into PNG
    vertices: int | None  # points per mesh, None without meshes


def read(folder: Path) -> Manifest:
    """The manifest of a folder; ValueError or FileNotFoundError for the first thing that is wrong with it."""
    path = folder / RECORDS
    if not path.is_file():
        raise FileNotFoundError(f"no {RECORDS} in {folder}")
    meta = read_meta(folder / META)
    records, root = [], folder.resolve()
    seen: dict[str, int] = {}  # id -> line
    points: tuple[int, str] | None = None  # how many landmarks, and what says so
    if flip := meta.get("landmarks", {}).get("flip"):
        points = len(flip), f"landmarks.flip of {META}"
    with open(path, "rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            with at(f"{path} line {number}, "):
                record = _record(number, text, root, meta)
                if record.id in seen:
                    raise ValueError(f"id: {record.id!r} is that of line {seen[record.id]} too; ids must be unique")
                seen[record.id] = number
                points = _check_points(record, points)
            records.append(record)
    if not records:
        raise ValueError(f"{path} is empty; one JSON object per line is expected")
    return _completed(folder, records, meta, points)


# The values of a line: each function takes what JSON gave and returns what is kept, or raises ValueError.


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a string that is not empty, not {shown(value)}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"holds half of a surrogate pair, which is no character: {shown(value)}")
    return value


def _captions(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value if isinstance(value, list) else [value]))


def _split(value: Any) -> str:
    if value not in SPLITS:
        raise ValueError(f"must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, not {shown(value)}")
    return value


def _numbers(value: Any, *shape: int | None, low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX) -> np.ndarray:
    """A float32 array; None in `shape` stands for any length from 1."""
    wanted = " x ".join("K" if n is None else str(n) for n in shape)
    wanted = f"{wanted} numbers" if shape else "a number"
    try:
        array = np.array(value)
    except ValueError:
        raise ValueError(f"must be {wanted}, but its rows differ in length") from None
    # A list that is empty where K rows are wanted has too few dimensions.
    fits = len(array.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "iuf":
        raise ValueError(f"must be {wanted}, not {shown(value)}")
    wrong = ~np.isnan(array) & ~((low <= array) & (array <= high))
    if wrong.any():
        found = array[wrong].flat[0]
        if abs(low) < FLOAT32_MAX:
            raise ValueError(f"must be between {low:g} and {high:g}, not {found:g}")
        raise ValueError(f"must be finite in float32, not {found:g}")
    return array.astype(np.float32)


def _points(value: Any, dimensions: int) -> np.ndarray:
    """Points, of which some may be null."""
    if isinstance(value, list):
        value = [[np.nan] * dimensions if point is None else point for point in value]
    return _numbers(value, None, dimensions)


def _box(value: Any) -> np.ndarray:
    x0, y0, x1, y1 = box = _numbers(value, 4)
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"must be [x0, y0, x1, y1] with x1 > x0 and y1 > y0, not {shown(value)}")
    return box


def _visible(value: Any) -> np.ndarray:
    if not isinstance(value, list) or not value or any(v not in (0, 1, None) for v in value):
        raise ValueError(f"must be a list of true, false or null, not {shown(value)}")
    return np.array([-1 if v is None else int(v) for v in value], np.int32)


def _named(value: Any, low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX) -> dict[str, float]:
    """An object name -> number; true and false are 1 and 0, null is missing."""
    if not isinstance(value, dict):
        raise ValueError(f"must be an object name -> number, not {shown(value)}")
    numbers = {}
    for name, number in value.items():
        if number is not None:
            with at(f"{name!r} "):
                numbers[name] = float(_numbers(int(number) if isinstance(number, bool) else number, low=low, high=high))
    return numbers


KEYS: Mapping[str, Callable[[Any], Any]] = {
    "id": _text,
    "image": _text,
    "caption": _captions,
    "bbox": _box,
    "landmarks": functools.partial(_points, dimensions=2),
    "visible": _visible,
    "landmarks_3d": functools.partial(_points, dimensions=3),
    "mask": _text,
    "identity": _text,
    "attributes": _named,
    "action_units": functools.partial(_named, low=0.0, high=5.0),
    "expression": _text,
    "valence": functools.partial(_numbers, low=-1.0, high=1.0),
    "arousal": functools.partial(_numbers, low=-1.0, high=1.0),
    "vertices": _text,
    "camera": lambda value: _numbers(value, 3, 4),
    "split": _split,
}


def _record(line: int, text: bytes, root: Path, meta: Mapping[str, Any]) -> Record:
    given = strict_json(text)
    if not isinstance(given, dict):
        raise ValueError(f"a JSON object is expected, not {shown(given)}")
    values = {}
    for key, value in given.items():
        check_keys((key,), KEYS)
        if value is None:
            continue
        with at(f"{key}: "):
            values[key] = KEYS[key](value)
            if key in FILES:
                _check_path(root, value)
            elif key in ("attributes", "action_units") and key in meta:
                _check_names(value, meta[key], f"{key} of {META}")
            elif key == "expression" and "expressions" in meta:
                _check_names([value], meta["expressions"], f"expressions of {META}")
    if "image" not in values:
        raise ValueError("key 'image' is missing: the image's path, relative to this file")
    if "mask" in values and "classes" not in meta:
        raise ValueError(f"mask: {META} must name the mask's `classes` in order")
    return Record(line, values.pop("id", values["image"]), values.pop("split", "train"), values)


def _check_names(names: Any, known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not among the {where}; {nearest(name, known)}")


def _check_path(root: Path, path: str) -> None:
    if os.path.isabs(path) or ".." in Path(path).parts:
        raise ValueError(f"{path!r} must be relative to {RECORDS} and inside its folder")
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(root):
        raise ValueError(f"{path!r} is a link to {real}, outside of the folder")
    if not os.path.isfile(real):  # unlike Path's, it takes a name that is too long for that of no file
        raise FileNotFoundError(f"no file {path!r} in {root}")


def _check_points(record: Record, points: tuple[int, str] | None) -> tuple[int, str] | None:
    """Landmarks, landmarks_3d and visible have one count over the whole manifest: (count, what says so)."""
    for key in ("landmarks", "landmarks_3d", "visible"):
        if key in record.values:
            found = len(record.values[key])
            points = points or (found, f"line {record.line}")
            if found != points[0]:
                raise ValueError(f"{key}: {found} points, but {points[1]} has {points[0]}")
    return points


def _completed(
    folder: Path, records: list[Record], given: Mapping[str, Any], points: tuple[int, str] | None
) -> Manifest:
    """The manifest with everything in its meta that follows from the records."""
    meta, sizes = dict(given), {}
    if points:
        sizes["landmarks"] = points[0]
        if points[0] == len(IBUG_FLIP):
            meta.setdefault("landmarks", IBUG)
        if "normaliser" in meta.get("landmarks", {}):
            with at(f"{folder / META}, landmarks: normaliser: "):
                check_normaliser(meta["landmarks"]["normaliser"], points[0])
    for key, flip in (("attributes", "attribute_flip"), ("action_units", "action_unit_flip")):
        used = {name for record in records for name in record.values.get(key, ())}
        if used:
            names = meta.setdefault(key, sorted(used))
            sizes[key] = len(names)
            if flip in meta:
                with at(f"{folder / META}, {flip}: "):
                    check_flip(meta[flip], len(names))
    for key, names_key in (("identity", "identities"), ("expression", "expressions")):
        used = {record.values[key] for record in records if key in record.values}
        if used:
            meta.setdefault(names_key, sorted(used))
    return Manifest(folder, tuple(records), meta, sizes)


def check(manifest: Manifest) -> Checked:
    """Looks at every file of a manifest, in threads and with a progress bar.

    ValueError for a mask or mesh that is wrong; images that cannot be decoded, or are too large, are rejections.
    """
    look = functools.partial(_check_files, manifest)
    kept, rejected, converted = [], [], 0
    vertices: dict[int, int] = {}  # points of a mesh -> first line with that many
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about oddities in files; what matters to us is checked
        for record, (reason, direct, points) in zip(
            manifest.records, _threaded(look, manifest.records, "checking"), strict=True
        ):
            if reason:
                rejected.append(Rejection(record.line, record.id, record.values["image"], reason))
            else:
                kept.append(record)
                converted += not direct
            if points:
                vertices.setdefault(points, record.line)
    if len(vertices) > 1:
        (points, line), (other, other_line), *_ = vertices.items()
        place = f"{manifest.folder / RECORDS} line {other_line}, vertices: "
        raise ValueError(f"{place}{other} points, but line {line} has {points}")
    flip = len(manifest.meta.get("vertex_flip", ()))
    if vertices and flip not in (0, *vertices):
        raise ValueError(f"{manifest.folder / META}, vertex_flip: has {flip} indices for {min(vertices)} vertices")
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


def _check_files(manifest: Manifest, record: Record) -> tuple[str, bool, int]:
    """(reason of rejection or "", whether the image is stored as it is, points of the mesh or 0) of a record."""
    folder, values = manifest.folder, record.values
    reason, direct, size, points = "", True, None, 0
    try:
        direct, size = check_image((folder / values["image"]).read_bytes())
    except Exception as error:  # decoders raise all kinds; each is counted, written down and shown
        reason = " ".join(str(error).split()) or type(error).__name__
    with at(f"{folder / RECORDS} line {record.line}, "):
        if "mask" in values:
            with at(f"mask: {values['mask']} "):
                check_mask((folder / values["mask"]).read_bytes(), size, len(manifest.meta["classes"]))
        if "vertices" in values:
            with at(f"vertices: {values['vertices']} "):
                points = len(read_vertices(folder / values["vertices"]))
    return reason, direct, points


def read_vertices(path: Path) -> np.ndarray:
    """A mesh, float32 (V, 3); ValueError where the file holds anything else."""
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
