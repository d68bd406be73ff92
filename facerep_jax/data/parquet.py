"""Columns of parquet files that strangers wrote, a few rows at a time.

Ten kilobytes of such a file can mean terabytes: a text that stands in a billion rows is kept once, and zeros compress
to nothing. So texts are read as what is different among them and numbers of these, and a file is refused whose own
figures are out of proportion. One whose figures lie costs what the format allows a page to have, 2 GiB.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pyarrow.types

LARGEST = 1 << 30  # bytes of a column in a group of rows, when they are not compressed
ROWS = 1 << 31  # of a file


def names(path: Path) -> list[str]:
    """The columns of a file; ValueError, of Arrow, if it is none."""
    return list(pyarrow.parquet.read_schema(path).names)


def batches(path: Path, wanted: Sequence[str], rows: int) -> Iterator[tuple[pyarrow.Array, ...]]:
    """The wanted columns, `rows` of them at most at a time. Those of texts are `pyarrow.DictionaryArray`s.

    Raises:
        ValueError: a column is missing, or of lists or objects, or the file is too large when it is not compressed.
    """
    schema = pyarrow.parquet.read_schema(path)
    if missing := [name for name in wanted if schema.names.count(name) != 1]:
        raise ValueError(f"{path}: one column {missing[0]} is expected among {', '.join(schema.names)}")
    types = {name: schema.field(name).type for name in wanted}
    for name, kind in types.items():
        if pyarrow.types.is_nested(kind):
            raise ValueError(f"{path}: column {name} must hold numbers or texts, not {kind}")
    texts = [name for name, kind in types.items() if not pyarrow.types.is_primitive(kind)]
    with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
        _check_size(path, file.metadata, wanted)
        for batch in file.iter_batches(rows, columns=list(wanted)):
            yield tuple(batch.column(name) for name in wanted)


def cut(column: pyarrow.Array, letters: int) -> pyarrow.Array:
    """A column whose texts end after so many letters."""
    if not isinstance(column, pyarrow.DictionaryArray) or not pyarrow.types.is_string(column.dictionary.type):
        return column
    short = pyarrow.compute.utf8_slice_codeunits(column.dictionary, 0, letters)
    return pyarrow.DictionaryArray.from_arrays(column.indices, short)


def _check_size(path: Path, about: pyarrow.parquet.FileMetaData, wanted: Sequence[str]) -> None:
    if about.num_rows > ROWS:
        raise ValueError(f"{path}: {about.num_rows} rows, more than {ROWS} of a file are not read")
    for group in map(about.row_group, range(about.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in wanted and column.total_uncompressed_size > LARGEST:
                size = f"{column.total_uncompressed_size >> 20} MiB in a group of rows"
                raise ValueError(f"{path}: column {column.path_in_schema} takes {size}, more than {LARGEST >> 20}")
