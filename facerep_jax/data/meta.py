"""What a set of faces says once for all of them, `faces.meta.json`: names in order, flips, normaliser; read strictly.

Errors are ValueErrors of one line. How JSON is read, and how errors are placed, is that of `faces.jsonl` too.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facerep_jax.config import nearest
from facerep_jax.data.features import MISSING_CLASS

_NAMES_IN_ORDER = ("classes", "attributes", "action_units", "expressions")
_FLIPS = {  # -> the names whose order it permutes
    "mask_flip": "classes",
    "attribute_flip": "attributes",
    "action_unit_flip": "action_units",
    "vertex_flip": "vertices",
}
CROPS = ("box", "whole")  # what an evaluation shows of an image: the face's box and a margin, or all of it
_NORMALISERS = {"inter_ocular": ("left", "right"), "inter_pupil": ("left", "right"), "box": (), "diagonal": ()}

# The 68 points of iBUG 300-W seen in a mirror: jaw, brows, nose bridge, nostrils, eyes, outer lips, inner lips.
IBUG_FLIP = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(*range(54, 47, -1), *range(59, 54, -1)),
    *(*range(64, 59, -1), *range(67, 64, -1)),
)
IBUG = {"flip": list(IBUG_FLIP), "normaliser": {"kind": "inter_ocular", "left": 36, "right": 45}}


def read_meta(path: Path) -> dict[str, Any]:
    """What `faces.meta.json` says, checked as far as it can be without the records; empty where there is none."""
    if not path.is_file():
        return {}
    with at(f"{path}, "):
        return checked_meta(strict_json(path.read_bytes()))


def checked_meta(meta: Any) -> dict[str, Any]:
    """`meta` itself; ValueError for an unknown key, a flip that is no mirror, an index out of range."""
    if not isinstance(meta, dict):
        raise ValueError(f"a JSON object is expected, not {shown(meta)}")
    check_keys(meta, (*_NAMES_IN_ORDER, *_FLIPS, "landmarks", "crop"))
    if meta.get("crop", CROPS[0]) not in CROPS:
        raise ValueError(f"crop: must be {' or '.join(CROPS)}, not {shown(meta['crop'])}")
    for key in _NAMES_IN_ORDER:
        if key in meta:
            with at(f"{key}: "):
                names = meta[key]
                if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
                    raise ValueError(f"must be a list of names, not {shown(names)}")
                if len(set(names)) < len(names):
                    raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice")
    if len(meta.get("classes", ())) > MISSING_CLASS:
        raise ValueError(f"classes: at most {MISSING_CLASS}, not {len(meta['classes'])}; {MISSING_CLASS} is 'missing'")
    for key, names_key in _FLIPS.items():
        if key in meta:
            with at(f"{key}: "):
                check_flip(meta[key], len(meta[names_key]) if names_key in meta else None)
    if "landmarks" in meta:
        with at("landmarks: "):
            _check_landmarks(meta["landmarks"])
    return meta


def check_flip(flip: Any, count: int | None) -> None:
    """A mirror image's mirror image is the image, so a flip is a permutation that undoes itself."""
    if not isinstance(flip, list) or not flip or any(type(i) is not int for i in flip):
        raise ValueError(f"must be a list of indices, not {shown(flip)}")
    if sorted(flip) != list(range(len(flip))):
        raise ValueError(f"is not a permutation of 0 to {len(flip) - 1}")
    if wrong := [i for i, j in enumerate(flip) if flip[j] != i]:
        i = wrong[0]
        raise ValueError(f"does not undo itself: {i} goes to {flip[i]}, but {flip[i]} goes to {flip[flip[i]]}")
    if count is not None and len(flip) != count:
        raise ValueError(f"has {len(flip)} indices for {count} names")


def _check_landmarks(landmarks: Any) -> None:
    if not isinstance(landmarks, dict):
        raise ValueError(f"must be an object, not {shown(landmarks)}")
    check_keys(landmarks, ("flip", "normaliser", "threshold"))
    if "threshold" in landmarks:
        threshold = landmarks["threshold"]
        if type(threshold) not in (int, float) or not threshold > 0:
            raise ValueError(f"threshold: must be an error, as a share of the normaliser, not {shown(threshold)}")
    if "flip" in landmarks:
        with at("flip: "):
            check_flip(landmarks["flip"], None)
    if "normaliser" in landmarks:
        with at("normaliser: "):
            normaliser = landmarks["normaliser"]
            kind = normaliser.get("kind") if isinstance(normaliser, dict) else None
            if not isinstance(kind, str) or kind not in _NORMALISERS:
                raise ValueError(f"`kind` must be one of {', '.join(_NORMALISERS)}, not {shown(kind)}")
            check_keys(normaliser, ("kind", *_NORMALISERS[kind]))
            for side in _NORMALISERS[kind]:
                _check_eye(normaliser.get(side), side, several=kind == "inter_pupil")
            if "flip" in landmarks:
                check_normaliser(normaliser, len(landmarks["flip"]))


def _check_eye(eye: Any, side: str, *, several: bool) -> None:
    """ValueError unless a side of a normaliser is the index of a landmark, or a list of several."""
    if several and (not isinstance(eye, list) or not eye or any(type(i) is not int for i in eye)):
        raise ValueError(f"{side!r} must be a list of indices of landmarks, not {shown(eye)}")
    if not several and type(eye) is not int:
        raise ValueError(f"{side!r} must be the index of a landmark, not {shown(eye)}")


def check_normaliser(normaliser: Mapping[str, Any], count: int) -> None:
    """ValueError unless a normaliser's indices are different ones of `count` landmarks."""
    seen: list[int] = []
    for side in _NORMALISERS[normaliser["kind"]]:
        indices = normaliser[side] if isinstance(normaliser[side], list) else [normaliser[side]]
        for index in indices:
            if not 0 <= index < count:
                raise ValueError(f"{side!r} must be between 0 and {count - 1}, not {index}")
            if index in seen:
                raise ValueError(f"left and right must be different landmarks, not {index} twice")
            seen.append(index)


@contextlib.contextmanager
def at(place: str) -> Iterator[None]:
    """Puts a place in front of the message of an error."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}{error}") from None
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def strict_json(text: bytes) -> Any:
    """JSON as its standard says: no NaN, no key twice."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        if len(set(keys)) < len(keys):
            raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands twice")
        return dict(items)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON; leave the key out or write null where a value is missing")

    try:
        return json.loads(text.decode(), object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("invalid JSON: nested too deeply") from None


def shown(value: Any) -> str:
    """A value as an error message quotes it: as JSON, at most 60 characters of it."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_keys(given: Iterable[str], known: Collection[str]) -> None:
    """ValueError for the first key that is not known."""
    for key in given:
        if key not in known:
            raise ValueError(f"key {key!r} is not known; {nearest(key, known)}")
