"""What is kept of every test example, as Parquet: statistics of the metric, and predictions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from facerep_jax.data.images import png

PerSubset = Mapping[str, Sequence[np.ndarray]]  # encoder or baseline -> an array over examples for each label subset


def write_statistics(path: Path, statistics: PerSubset, ids: Sequence[str]) -> None:
    """Rows of `id`, `subset`, `encoder` and `statistics`, whose sum over examples gives the metric."""
    _write(path, "statistics", statistics, ids, np.asarray)


def write_predictions(path: Path, predictions: PerSubset, ids: Sequence[str]) -> None:
    """Rows of `id`, `subset`, `encoder` and `prediction`, on the image that the encoder saw.

    Maps of classes are the bytes of a PNG, all else flat lists of float32: x0 y0 x1 y1 ... of landmarks in pixels.
    """
    first = next(iter(predictions.values()))[0]
    maps = first.dtype == np.uint8 and first.ndim == 3

    def encode(row: np.ndarray) -> Any:
        return png(Image.fromarray(row)) if maps else np.asarray(row, np.float32).reshape(-1)

    _write(path, "prediction", predictions, ids, encode)


def evenly(count: int, most: int) -> np.ndarray:
    """Rows evenly spaced over `count`, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if most else np.zeros(0, int)


def _write(path: Path, column: str, values: PerSubset, ids: Sequence[str], encode: Callable[[Any], Any]) -> None:
    columns: dict[str, list[Any]] = {"id": [], "subset": [], "encoder": [], column: []}
    for encoder, subsets in values.items():
        for subset, examples in enumerate(subsets):
            columns["id"] += ids
            columns["subset"] += [subset] * len(ids)
            columns["encoder"] += [encoder] * len(ids)
            columns[column] += [encode(example) for example in examples]
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")
