"""The values of a sample, as a line of `faces.jsonl` has them: what each may be, and what is kept of it.

Each function takes what JSON or a data set's module gave, and returns what is kept. It raises ValueError, with a
message that begins with "must be", for anything else.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from facerep_jax.data.features import SPLITS, Numbers
from facerep_jax.data.meta import at, shown
from facerep_jax.data.paths import Part

FLOAT32_MAX = float(np.finfo(np.float32).max)
PATHS = ("image", "mask", "vertices")  # values that are paths of files


def text(value: Any) -> str:
    """A text that is not empty and has no NUL byte, at which C's readers end."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a string that is not empty, not {shown(value)}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"holds half of a surrogate pair, which is no character: {shown(value)}")
    if "\0" in value:
        raise ValueError(f"holds a NUL byte: {shown(value)}")
    return value


def file(value: Any) -> Any:
    """The path of a file, or a `Part`, which modules of data sets give in its place."""
    return value if isinstance(value, Part) else text(value)


def split(value: Any) -> str:
    """The name of a split."""
    if value not in SPLITS:
        raise ValueError(f"must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, not {shown(value)}")
    return value


def captions(value: Any) -> tuple[str, ...]:
    """One text, or several."""
    return tuple(map(text, value if isinstance(value, list | tuple) else [value]))


def numbers(
    value: Any, *shape: int | None, low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX
) -> Float32[np.ndarray, "..."]:
    """An array of numbers between `low` and `high`, NaN allowed; None in `shape` stands for any length from 1."""
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


def points(value: Any, dimensions: int) -> Float32[np.ndarray, "k dimensions"]:
    """Points, of which some may be null."""
    if isinstance(value, list):
        value = [[np.nan] * dimensions if point is None else point for point in value]
    return numbers(value, None, dimensions)


def visible(value: Any) -> Int32[np.ndarray, "k"]:
    """Whether each point is seen, null if it is not known."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, list) or not value or any(v not in (0, 1, None) for v in value):
        raise ValueError(f"must be a list of true, false or null, not {shown(value)}")
    return np.array([-1 if v is None else int(v) for v in value], np.int32)


def named(value: Any, low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX) -> dict[str, float]:
    """An object name -> number; true and false are 1 and 0, null is missing."""
    if not isinstance(value, dict):
        raise ValueError(f"must be an object name -> number, not {shown(value)}")
    kept = {}
    for name, number in value.items():
        if number is not None:
            with at(f"{name!r} "):
                kept[name] = float(numbers(int(number) if isinstance(number, bool) else number, low=low, high=high))
    return kept


def counted(value: Any) -> int:
    """An integer from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**31:
        raise ValueError(f"must be an integer from 0 on, not {shown(value)}")
    return int(value)


KINDS: Mapping[str, Callable[[Any], Any]] = {
    "image": file,
    "caption": captions,
    "bbox": lambda value: numbers(value, 4),  # held against the image later, see `plausibility`
    "landmarks": functools.partial(points, dimensions=2),
    "visible": visible,
    "landmarks_3d": functools.partial(points, dimensions=3),
    "mask": file,
    "identity": text,
    "attributes": named,
    "action_units": functools.partial(named, low=0.0, high=5.0),
    "session": counted,
    "frame": counted,
    "expression": text,
    "valence": functools.partial(numbers, low=-1.0, high=1.0),
    "arousal": functools.partial(numbers, low=-1.0, high=1.0),
    "age": functools.partial(numbers, low=0.0, high=150.0),
    "skin_tone": functools.partial(numbers, low=-90.0, high=90.0),
    "occlusion": functools.partial(numbers, low=0.0, high=1.0),
    "blur": functools.partial(numbers, low=0.0, high=1.0),
    "vertices": text,
    "camera": lambda value: numbers(value, 3, 4),
}


def kinds_with(more: Numbers) -> dict[str, Callable[[Any], Any]]:
    """What each value may be, with the features that a data set adds to the vocabulary."""

    def kind(dtype: type, dimensions: tuple[int | str, ...]) -> Callable[[Any], Any]:
        if dtype is np.int32 and not dimensions:
            return counted
        return lambda value: numbers(value, *(None if isinstance(n, str) else n for n in dimensions)).astype(dtype)

    return {**KINDS, **{name: kind(*described) for name, described in more.items()}}
