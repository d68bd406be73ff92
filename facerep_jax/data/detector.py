"""Boxes and five points by a face detector, for the samples of a raw set, whichever data set's module found them.

A detector is any class of `Detector`, named as MODULE:CLASS. What it finds becomes the features `bbox` and `score`,
and, where a set has no landmarks of its own, `landmarks`: left eye, right eye, nose, left and right corner of the
mouth, as seen. The result depends on the detector and its version, and so does the digest of the prepared set.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from facerep_jax.config import locate
from facerep_jax.data import processes
from facerep_jax.data.detections import LANDMARKS, Face, chosen
from facerep_jax.data.images import upright_pixels
from facerep_jax.data.paths import Part, contents
from facerep_jax.data.plausibility import Size, fault
from facerep_jax.data.raw_set import Packed, Sample, Samples

DEFAULT = "facerep_jax.data.centerface:CenterFace"
BOXES = ("missing", "all")  # which are the detector's
OF_AN_IMAGE = {"image", "caption"}  # values that do not belong to one of several faces
SCORE = "score"  # the feature, as LAION-Face's is called
POINTS = 5


@runtime_checkable
class Detector(Protocol):
    """A face detector, made without arguments, once in each process."""

    version: str  # of its code, its model and its settings: with another, a set is another

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Sequence[Face]:
        """The faces of an upright RGB image, in its pixels; (0, 0) is the centre of the first."""
        ...


@dataclass(frozen=True)
class Request:
    """What is to be detected."""

    detector: str = DEFAULT  # MODULE:CLASS
    boxes: str = BOXES[0]  # those that are missing, or all, the given ones too
    faces: str = "largest"  # of several, see `detections.chosen`

    def digest(self, raw: str) -> str:
        """SHA-256 of a set's digest and all that detection depends on. ValueError if there is no such detector."""
        words = json.dumps([raw, asdict(self), load(self.detector).version])
        return hashlib.sha256(words.encode()).hexdigest()


@functools.cache
def load(name: str) -> Detector:
    """The detector of this name.

    Raises:
        ValueError: there is none, or it cannot be made.
    """
    kind = locate({"call": name})
    try:
        detector = kind()
    except ValueError:
        raise
    except Exception as error:  # it is somebody else's
        raise ValueError(f"detector {name} cannot be made: {type(error).__name__}: {error}") from error
    if not callable(detector) or not isinstance(getattr(detector, "version", None), str):
        raise ValueError(f"{name} is no detector: it must be callable and have a `version`, which is a text")
    return detector


def detected(raw: Samples, request: Request) -> tuple[Samples, list[dict[str, Any]]]:
    """The raw set with what the detector finds in its images, by all cores; and the samples in which it finds no face.

    The latter are given by id, image, and line if there is a listing.

    A sample in which it finds nothing is kept without a box. One with landmarks or a box of its own gets the face that
    these lie in, whatever `faces` says. One whose image is broken stays as it is.

    Raises:
        ValueError: all faces are wanted of images whose annotations are of one; or what the detector gives is wrong.
    """
    if SCORE in raw.more:
        raise ValueError(f"the set has a feature {SCORE!r} of its own, as which the detector's score would be written")
    wanted = [request.boxes == "all" or "bbox" not in sample.values for sample in raw.samples]
    if request.faces == "all":
        _check_splittable(raw, itertools.compress(raw.samples, wanted))
    points = "landmarks" not in {*raw.sizes, *raw.meta}
    images = [
        sample.values["image"] if is_wanted else None for sample, is_wanted in zip(raw.samples, wanted, strict=True)
    ]
    found = all_faces_in(images, folder=raw.folder, name=request.detector)
    samples: list[Sample] = []
    without: list[dict[str, Any]] = []
    looked_at = 0
    for sample, faces in zip(raw.samples, found, strict=True):
        if faces is None:
            samples.append(sample)
            continue
        looked_at += 1
        with_faces = list(_with_faces(sample, faces, request, points))
        samples += with_faces
        if SCORE not in with_faces[0].values:
            listed = {"id": sample.id, "image": str(sample.values["image"])}
            without.append({"line": sample.line, **listed} if sample.line else listed)
    told = {**asdict(request), "version": load(request.detector).version, "images": looked_at, "without": len(without)}
    return _completed(raw, samples, told, points), without


def _check_splittable(raw: Samples, wanted: Iterable[Sample]) -> None:
    """Raises ValueError unless each image may become a sample for each of its faces."""
    if raw.tables:
        raise ValueError(f"--faces=all changes ids, which the set's table {min(raw.tables)!r} names")
    for sample in wanted:
        if own := sorted({*sample.values} - OF_AN_IMAGE):
            place = raw.place(sample)
            raise ValueError(
                f"{place}{own[0]}: is of one face, so --faces=all cannot tell which; choose largest or best"
            )


def _completed(raw: Samples, samples: Sequence[Sample], told: Mapping[str, Any], points: bool) -> Samples:
    """The set with other samples, and what follows from them."""
    ids = [sample.id for sample in samples]
    if len(set(ids)) < len(ids):
        twin = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"{raw.folder}: id {twin!r} would be that of two faces; rename the sample of this id")
    found, given = told["images"] - told["without"], sum("bbox" in sample.values for sample in raw.samples)
    notes = [f"{found} of {told['images']} images got boxes by {told['detector']} ({told['version']})"]
    if given and told["boxes"] != "all":
        notes.append(f"{given} boxes were given, and may be drawn otherwise; --detect=all replaces them too")
    if found and not points:
        notes.append("the set has landmarks of its own, so the detector's five points are left out")
    has_points = points and found > 0
    return dataclasses.replace(
        raw,
        samples=tuple(samples),
        meta={**raw.meta, "detector": told, **({"landmarks": LANDMARKS} if has_points else {})},
        sizes={**raw.sizes, **({"landmarks": POINTS} if has_points else {})},
        more={**raw.more, SCORE: (np.float32, ())},
        notes=(*raw.notes, *notes),
    )


def _with_faces(sample: Sample, faces: Sequence[Face], request: Request, points: bool) -> Iterator[Sample]:
    """The sample with its face, or without a box if it has none; or a sample for each face."""
    values = dict(sample.values.items())
    faces = _belonging(faces, values)
    values.pop("bbox", None)
    if not faces:
        yield dataclasses.replace(sample, values=Packed(values))
        return
    for number, face in enumerate(chosen(faces, request.faces)):
        own = {"bbox": face.bbox, SCORE: face.score, **({"landmarks": face.landmarks} if points else {})}
        name = f"{sample.id}-{number}" if request.faces == "all" else sample.id
        yield dataclasses.replace(sample, id=name, values=Packed({**values, **own}))


def _belonging(faces: Sequence[Face], values: Mapping[str, Any]) -> Sequence[Face]:
    """The face that holds most of a sample's landmarks, or the centre of its box; all faces if it has neither."""
    if (marks := values.get("landmarks", values.get("landmarks_3d"))) is not None:
        own = marks[np.isfinite(marks).all(1), :2]
    elif "bbox" in values:
        own = values["bbox"].reshape(2, 2).mean(0, keepdims=True)
    else:
        return faces
    if not len(own):
        return faces

    def fits(face: Face) -> tuple[float, float]:
        inside = ((own >= face.bbox[:2]) & (own <= face.bbox[2:])).all(1).mean()
        return float(inside), -math.dist(own.mean(0), face.bbox.reshape(2, 2).mean(0))

    best = max(faces, key=fits, default=None)
    return [best] if best is not None and fits(best)[0] >= 0.5 else []


def all_faces_in(images: Sequence[str | Part | None], *, folder: Path, name: str) -> Iterator[list[Face] | None]:
    """What `faces_in` gives of each image, by all cores, with a bar."""
    find = functools.partial(faces_in, folder=folder, name=name)
    yield from tqdm(processes.mapped(find, images), "detecting", len(images), unit=" images", leave=False, disable=None)


def faces_in(image: str | Part | None, *, folder: Path, name: str) -> list[Face] | None:
    """The faces that a detector finds in an image file; None if there is none, or a broken one, which `check` lists.

    Raises:
        ValueError: the detector fails, or gives what is no face; the message names it and the image.
    """
    if image is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about oddities in files
        try:
            pixels = upright_pixels(contents(folder, image))
        except Exception:  # decoders raise all kinds; `check` meets each again, counts it and lists it
            return None
    detector = load(name)
    try:
        given = list(detector(pixels))
    except Exception as error:  # it is somebody else's
        raise ValueError(f"detector {name} failed on {image}: {type(error).__name__}: {error}") from error
    size = pixels.shape[1], pixels.shape[0]
    try:
        return [_checked(face, size) for face in given]
    except ValueError as error:
        raise ValueError(f"detector {name} gave for {image} what is no face: {error}") from None


def _checked(face: Any, size: Size) -> Face:
    """A face as a detector gave it, with its parts as arrays; ValueError if it cannot be one of an image."""
    try:
        box, points = np.asarray(face.bbox, np.float32), np.asarray(face.landmarks, np.float32)
        score = float(face.score)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"bbox, landmarks and score are expected; {error}") from None
    if box.shape != (4,) or points.shape != (POINTS, 2):
        raise ValueError(f"bbox must be 4 numbers and landmarks 5 x 2, not {box.shape} and {points.shape}")
    if not np.isfinite(box).all() or not math.isfinite(score) or np.isinf(points).any():
        raise ValueError(f"bbox {box.tolist()} and score {score} must be finite, and landmarks finite or NaN")
    if wrong := fault({"bbox": box, "landmarks": points}, size):
        raise ValueError(wrong)
    return Face(box, points, score)
