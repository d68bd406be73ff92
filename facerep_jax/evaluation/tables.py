"""What is kept of the test set, as Parquet: rows of statistics of the metric, and predictions of examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from facerep_jax.data.arrays import Stack
from facerep_jax.data.images import png
from facerep_jax.typing import Rows

SCHEMA = pyarrow.schema(
    {
        "id": pyarrow.string(),
        "subset": pyarrow.int64(),
        "encoder": pyarrow.string(),
        "unit": pyarrow.string(),
        "statistics": pyarrow.list_(pyarrow.float64()),
    }
)
Predictions = Mapping[str, Sequence[Stack]]  # encoder or baseline -> predictions for each label subset
Statistics = Mapping[str, Sequence[Rows]]  # encoder or baseline -> the metric's rows for each label subset


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write rows of `id`, `unit`, `subset`, `encoder` and `statistics`, from which the metric is computed."""
    every = [(subset, who, rows) for who, of in statistics.items() for subset, rows in enumerate(of)]
    with pyarrow.parquet.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        for subset, who, rows in every:  # a part by itself: rows may be millions of pairs
            count, length = rows.statistics.shape
            columns = {
                "id": rows.ids,
                "subset": np.full(count, subset),
                "encoder": pyarrow.repeat(who, count),
                "unit": rows.units,
                "statistics": pyarrow.ListArray.from_arrays(
                    np.arange(count + 1, dtype=np.int32) * length, rows.statistics.reshape(-1)
                ),
            }
            file.write_table(pyarrow.table(columns, SCHEMA))


def write_predictions(path: Path, predictions: Predictions, ids: Sequence[str], kept: Sequence[int]) -> None:
    """Write rows of `id`, `subset`, `encoder` and `prediction`, on the image that the encoder saw.

    They are of the examples that are kept, by their place among all, which `ids` names.

    Maps of classes are the bytes of a PNG, and so are maps of logits (h, w, k): of the likeliest class. All else are
    flat lists of float32: x0 y0 x1 y1 ... of landmarks in pixels.
    """

    def encode(example: Any) -> Any:
        if example.ndim == 3:
            example = example.argmax(-1).astype(np.uint8)
        maps = example.dtype == np.uint8 and example.ndim == 2
        return png(Image.fromarray(example)) if maps else np.asarray(example, np.float32).reshape(-1)

    columns = _columns({who: [[ids[row] for row in kept]] * len(of) for who, of in predictions.items()})
    columns["prediction"] = [encode(subset[row]) for of in predictions.values() for subset in of for row in kept]
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def evenly(count: int, most: int) -> np.ndarray:
    """Rows evenly spaced over `count`, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if most else np.zeros(0, int)


def _columns(ids: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[Any]]:
    """The columns that say what a row is of, from the ids of each encoder's subsets."""
    every = [(name, subset, who) for who, of in ids.items() for subset, names in enumerate(of) for name in names]
    return {column: [row[place] for row in every] for place, column in enumerate(("id", "subset", "encoder"))}
