"""Lists of LAION's SAMPLE_IDs, which are integers that arrive as integers, floats or texts."""

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from jaxtyping import Bool, Int64

from facerep_jax import torch_files
from facerep_jax.data import parquet

COLUMNS = ("sample_id", "id")  # of a table, whatever their case
TEXTS = (".txt", ".csv", ".tsv", ".jsonl", "")
BATCH = 1 << 20
LIMIT = 2**63


def sample_id(value: Any) -> int | None:
    """The id that a value means; None if it means none, as NaN and an empty text do.

    Raises:
        ValueError: it is no integer of 64 bits, or a float that may have lost digits.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text or text.lower() in ("nan", "none", "null"):
            return None
        if match := re.fullmatch(r"([+-]?\d{1,19})(\.0*)?", text):
            value = int(match[1])
        elif re.fullmatch(r"\d\.\d*e\+?\d{1,2}", text.lower()):
            value = float(text)
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    exact = isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < 2**53
    if not (whole or exact) or not -LIMIT <= int(value) < LIMIT:
        raise ValueError(f"a SAMPLE_ID is an integer of 64 bits, not {str(value)[:40]!r}")
    return int(value)


def files_of(flag: str, pattern: str) -> list[Path]:
    """The files that a path, a pattern such as `ids/*.parquet` or a folder names, sorted.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    found = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    if not (found := [path for path in found if path.is_file()]):
        raise FileNotFoundError(f"{flag}={pattern}: no such file")
    return found


def read(paths: Iterable[Path]) -> Int64[np.ndarray, "n"]:
    """The ids of all files, sorted, each once.

    A file is a text of one id in a line (of a table: in its first column), .npy, .parquet with a column SAMPLE_ID, or
    .pth with lists of ids, as LAION-Face's own laion_face_ids.pth.

    Raises:
        ValueError: a file is of another kind, or holds what is no id; the file is named.
    """
    chunks = [np.unique(chunk) for path in paths for chunk in _chunks(path)]
    return np.unique(np.concatenate(chunks)) if chunks else np.zeros(0, np.int64)


def contains(ids: Int64[np.ndarray, "n"], value: int) -> bool:
    """Whether sorted ids hold a value."""
    place = int(np.searchsorted(ids, value))
    return place < len(ids) and int(ids[place]) == value


def _chunks(path: Path) -> Iterator[Int64[np.ndarray, "n"]]:
    try:
        if path.suffix == ".parquet":
            yield from _of_parquet(path)
        elif path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            yield from (of_array(array[at : at + BATCH]) for at in range(0, len(array), BATCH))
        elif path.suffix in (".pth", ".pt"):
            yield from _of_tree(torch_files.read(path))
        elif path.suffix in TEXTS:
            yield from _of_lines(path)
        else:
            raise ValueError("ids are read from .txt, .csv, .npy, .parquet and .pth")
    except (ValueError, pyarrow.ArrowException) as error:
        message = " ".join(str(error).split())
        raise ValueError(message if str(path) in message else f"{path}: {message}") from None


def of_array(values: np.ndarray) -> Int64[np.ndarray, "n"]:
    """The ids of a column, without those that are missing. ValueError if there is one that is none."""
    if values.ndim == 1 and values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.ndim == 1 and values.dtype.kind == "f":
        known = values[np.isfinite(values)]
        if (known == np.round(known)).all() and (np.abs(known) < 2**53).all():
            return known.astype(np.int64)
    found = (sample_id(value) for value in values.ravel().tolist())
    return np.array([value for value in found if value is not None], np.int64)


def _of_parquet(path: Path) -> Iterator[Int64[np.ndarray, "n"]]:
    found = {name.lower(): name for name in parquet.names(path)}
    column = next((found[name] for name in COLUMNS if name in found), None)
    if column is None:
        raise ValueError(f"a column {COLUMNS[0].upper()} is expected among {', '.join(found.values())}")
    for (values,) in parquet.batches(path, [column], BATCH):
        if isinstance(values, pyarrow.DictionaryArray):
            values = values.unique().dictionary_decode()
        yield of_array(values.to_numpy(zero_copy_only=False))


def _of_tree(tree: Any) -> Iterator[Int64[np.ndarray, "n"]]:
    """The ids of lists, arrays or dicts of these, whose keys are parts."""
    if isinstance(tree, np.ndarray):
        yield of_array(tree.ravel())
    elif isinstance(tree, list | tuple | set | frozenset | dict):
        values = list(tree.values() if isinstance(tree, dict) else tree)
        if any(isinstance(value, np.ndarray | list | tuple | set | dict) for value in values[:1]):
            for value in values:
                yield from _of_tree(value)
        else:
            yield of_array(np.array(values, object) if values else np.zeros(0, np.int64))
    else:
        raise ValueError(f"lists of ids are expected, not {type(tree).__name__}")


def _of_lines(path: Path) -> Iterator[Int64[np.ndarray, "n"]]:
    found: list[int] = []
    with open(path, encoding="utf-8-sig", errors="strict") as file:
        for number, line in enumerate(file, 1):
            word = re.split(r"[,\t]", line[:200])[0].strip().strip('"')
            if number == 1 and word.lower() in COLUMNS:
                continue
            try:
                value = sample_id(word)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if value is not None:
                found.append(value)
            if len(found) == BATCH:
                yield np.array(found, np.int64)
                found = []
    yield np.array(found, np.int64)


def all_contained(ids: Int64[np.ndarray, "n"], values: Int64[np.ndarray, "m"]) -> Bool[np.ndarray, "m"]:
    """Which of the values sorted ids hold."""
    places = np.minimum(np.searchsorted(ids, values), max(len(ids) - 1, 0))
    return ids[places] == values if len(ids) else np.zeros(len(values), bool)
