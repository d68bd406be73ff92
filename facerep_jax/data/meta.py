"""What a set of faces says once for all of them: names in order, flips, points, licence. Read strictly.

It comes from `faces.meta.json`, or from the module of a data set. Errors are ValueErrors of one line.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.suggestions import nearest

_NAMES_IN_ORDER = ("classes", "attributes", "action_units", "expressions")
_FLIPS = {  # -> the names whose order it permutes
    "mask_flip": "classes",
    "attribute_flip": "attributes",
    "action_unit_flip": "action_units",
    "vertex_flip": "vertices",
}
_LICENCE = {"licence": str, "agreement": str, "research_only": bool, "may_show_images": bool}
# What an evaluation shows of an image: the face's box and a margin, all of it, or the face moved to insightface's
# template by five points, see `alignment.ARCFACE`.
CROPS = ("box", "whole", "aligned")
_NORMALISERS = ("inter_ocular", "inter_pupil", "box", "diagonal")

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
IBUG: dict[str, Any] = {
    "flip": list(IBUG_FLIP),
    "normaliser": {"kind": "inter_ocular", "left": 36, "right": 45},
    "five_points": [list(range(36, 42)), list(range(42, 48)), [30], [48], [54]],
}
MAX_GREY = 2**16 - 1  # of a pixel of a mask's file
FIVE = 5  # left eye, right eye, nose, left and right corner of the mouth, as seen


def read_meta(path: Path) -> dict[str, Any]:
    """What `faces.meta.json` says, checked as far as it can be without the records; empty if there is no such file."""
    if not path.is_file():
        return {}
    with at(f"{path}, "):
        return checked_meta(strict_json(path.read_bytes()))


def checked_meta(meta: Any) -> dict[str, Any]:
    """Checks a meta, and returns it.

    Keys, all optional:
        classes, attributes, action_units, expressions: names in order.
        mask_values: the grey of each of the classes in a mask's file, such as [0, 255]; without it a class's number.
        vertex_landmarks: the vertices that are iBUG's 68 landmarks, in their order.
        mask_flip, attribute_flip, action_unit_flip, vertex_flip: what is which in a mirror; a permutation.
        crop: what an evaluation shows of an image, `box` (the default: the face's box and a margin),
            `whole`, or `aligned` by five points.
        landmarks: `flip`; `normaliser` of errors, whose `kind` gives the headline; `left` and `right`, the corners of
            the eyes, may stand beside box and diagonal, so that errors are given inter-ocularly too; `threshold` of
            failure; `five_points`, see `five_points`.
        licence: its text or name. agreement: what users have to sign or cite. research_only: whether other use is
            forbidden. may_show_images: whether images may be published, as in reports; see `may_show_images`.

    Raises:
        ValueError: an unknown key, a flip that is no mirror, an index out of range, a value of the wrong type.
    """
    if not isinstance(meta, dict):
        raise ValueError(f"a JSON object is expected, not {shown(meta)}")
    check_keys(meta, (*_NAMES_IN_ORDER, *_FLIPS, "vertex_landmarks", "mask_values", "landmarks", "crop", *_LICENCE))
    for key, kind in _LICENCE.items():
        if key in meta and (type(meta[key]) is not kind or meta[key] == ""):
            wanted = "true or false" if kind is bool else "a text that is not empty"
            raise ValueError(f"{key}: must be {wanted}, not {shown(meta[key])}")
    if meta.get("crop", CROPS[0]) not in CROPS:
        raise ValueError(f"crop: must be {', '.join(CROPS[:-1])} or {CROPS[-1]}, not {shown(meta['crop'])}")
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
    if "mask_values" in meta:
        values, count = meta["mask_values"], len(meta.get("classes", ()))
        greys = isinstance(values, list) and all(type(grey) is int and 0 <= grey <= MAX_GREY for grey in values)
        if not greys or len(set(values)) != len(values) or len(values) != count:
            raise ValueError(
                f"mask_values: must be different integers from 0 to {MAX_GREY}, one for each of the {count} classes,"
                f" not {shown(values)}"
            )
    for key, names_key in _FLIPS.items():
        if key in meta:
            with at(f"{key}: "):
                check_flip(meta[key], len(meta[names_key]) if names_key in meta else None)
    if "vertex_landmarks" in meta:
        found = meta["vertex_landmarks"]
        if not _are_indices(found) or min(found) < 0 or len(set(found)) != len(found) or len(found) != len(IBUG_FLIP):
            raise ValueError(
                f"vertex_landmarks: must be the indices of {len(IBUG_FLIP)} different vertices, not {shown(found)}"
            )
    if "landmarks" in meta:
        with at("landmarks: "):
            _check_landmarks(meta["landmarks"])
    return meta


def check_flip(flip: Any, count: int | None) -> None:
    """Checks a flip: a permutation that undoes itself, since a mirror image's mirror image is the image.

    Raises:
        ValueError: it is none, or not one of `count` indices.
    """
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
    check_keys(landmarks, ("flip", "normaliser", "threshold", "five_points"))
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
            check_keys(normaliser, ("kind", "left", "right"))
            for side in ("left", "right") if kind.startswith("inter_") or len(normaliser) > 1 else ():
                _check_eye(normaliser.get(side), side, several=kind == "inter_pupil")
    if "five_points" in landmarks:
        groups = landmarks["five_points"]
        whole = isinstance(groups, list) and len(groups) == FIVE and all(map(_are_indices, groups))
        if not whole:
            raise ValueError(f"five_points: must be five lists of indices of landmarks, not {shown(groups)}")
    if "flip" in landmarks:
        check_points(landmarks, len(landmarks["flip"]))


def _are_indices(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(i) is int for i in value)


def _check_eye(eye: Any, side: str, *, several: bool) -> None:
    """Raises ValueError unless a side of a normaliser is the index of a landmark, or a list of several."""
    if several and not _are_indices(eye):
        raise ValueError(f"{side!r} must be a list of indices of landmarks, not {shown(eye)}")
    if not several and type(eye) is not int:
        raise ValueError(f"{side!r} must be the index of a landmark, not {shown(eye)}")


def check_points(landmarks: Mapping[str, Any], count: int) -> None:
    """Checks that what a meta says of landmarks holds for `count` of them.

    Raises:
        ValueError: an index is out of range, or in both sides of the normaliser.
    """
    for group in landmarks.get("five_points", ()):
        for index in group:
            _check_index(index, count, "five_points: an index")
    normaliser = landmarks.get("normaliser", {"kind": "box"})
    with at("normaliser: "):
        seen: list[int] = []
        for side in ("left", "right") if "left" in normaliser else ():
            for index in normaliser[side] if isinstance(normaliser[side], list) else [normaliser[side]]:
                _check_index(index, count, repr(side))
                if index in seen:
                    raise ValueError(f"left and right must be different landmarks, not {index} twice")
                seen.append(index)


def _check_index(index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise ValueError(f"{what} must be between 0 and {count - 1}, not {index}")


def five_points(meta: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The landmarks whose means are a face's two eyes, nose and corners of the mouth, left before right as seen.

    A meta that does not say them has those of iBUG if its landmarks are mirrored as iBUG's are. Empty if unknown.
    """
    landmarks = meta.get("landmarks", {})
    known = IBUG if tuple(landmarks.get("flip", ())) == IBUG_FLIP else {}
    return tuple(map(tuple, landmarks.get("five_points") or known.get("five_points", ())))


def licence_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a meta says of what may be done with the images: licence, agreement, and so on."""
    return {key: meta[key] for key in _LICENCE if key in meta}


def may_show_images(meta: Mapping[str, Any]) -> bool:
    """Whether the licence of a data set allows to publish its images; true if the meta does not say."""
    return bool(meta.get("may_show_images", True))


@contextlib.contextmanager
def at(place: str) -> Iterator[None]:
    """Puts a place in front of the message of an error."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}{error}") from None
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def strict_json(text: bytes | str) -> Any:
    """JSON as its standard says: no NaN, no key twice.

    Args:
        text: bytes in UTF-8, or in UTF-16 or UTF-32 as some editors save it, or a text that was read with
            `errors="surrogateescape"`.

    Raises:
        ValueError: it is none; one line.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        if len(set(keys)) < len(keys):
            raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands twice")
        return dict(items)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON; leave the key out or write null where a value is missing")

    try:
        decoded = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
        decoded.encode()  # half a surrogate stands for a byte that is not UTF-8
        return json.loads(decoded, object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeEncodeError as error:
        place = len(decoded[: error.start].encode()) + 1
        raise ValueError(f"byte {place} is not UTF-8; save the file as UTF-8") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not {error.encoding.upper()}; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("invalid JSON: nested too deeply") from None


def shown(value: Any) -> str:
    """A value as an error message quotes it: as JSON, at most 60 characters of it."""
    text = json.dumps(value, default=lambda other: getattr(other, "tolist", other.__repr__)())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_keys(given: Iterable[str], known: Collection[str]) -> None:
    """Raises ValueError for the first key that is not known."""
    for key in given:
        if key not in known:
            raise ValueError(f"key {key!r} is not known; {nearest(key, known)}")
