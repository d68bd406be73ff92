"""Text files that list the faces of a set: lines of columns, read strictly, with errors that name file and line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from facerep_jax.data.meta import at


def lines(path: Path, skip: int = 0) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with the words that name it in errors.

    Args:
        path: a text in UTF-8.
        skip: how many lines at the start are something else, such as a header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with at(f"{path}: "), open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if number > skip and line.strip():
                yield f"{path} line {number}, ", line.rstrip("\r\n")


def rows(path: Path, columns: int, *, skip: int = 0, separator: str | None = None) -> Iterator[list[str]]:
    """The words of each line; ValueError unless there are as many as `columns`.

    Args:
        path, skip: those of `lines`.
        columns: how many words a line has.
        separator: between words; None for any blanks.
    """
    for place, line in lines(path, skip):
        words = [word.strip() for word in line.split(separator)]
        if len(words) != columns:
            raise ValueError(f"{place}{columns} columns are expected, not {len(words)}")
        yield words


def table(path: Path, *needed: str, exactly: bool = False) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header, by column, each with the words that name it in errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the header lacks one of `needed`, or differs from them though it must be `exactly` these; or a row
            has more or fewer cells.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with at(f"{path}: "), open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        header = next(reader, [])
        if lacking := [name for name in needed if name not in header]:
            raise ValueError(f"its header must have {', '.join(needed)}, but lacks {', '.join(lacking[:3])}")
        if exactly and len(header) != len(needed):
            extra = [name for name in header if name not in needed]
            raise ValueError(f"its header must be {', '.join(needed)}, but has {', '.join(extra[:3])} too")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise ValueError(f"line {reader.line_num}: {len(header)} cells are expected, not {len(cells)}")
            yield f"{path} line {reader.line_num}, ", dict(zip(header, cells, strict=True))


def numbers(words: Sequence[str], place: str = "") -> Float32[np.ndarray, "n"]:
    """Words as numbers; ValueError that begins with `place` if one is none."""
    try:
        return np.array(words, np.float64).astype(np.float32)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def points(words: Sequence[str], count: int, place: str = "") -> Float32[np.ndarray, "count 2"]:
    """Words x0 y0 x1 y1 ... as points; ValueError that begins with `place` if they are not so many."""
    if len(words) != 2 * count:
        raise ValueError(f"{place}x and y of {count} points are expected, not {len(words)} numbers")
    return numbers(words, place).reshape(count, 2)
