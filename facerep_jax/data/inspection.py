"""Every file of a raw set looked at: what is left out, what is wrong, and what the user should hear."""

import dataclasses
import functools
import hashlib
import itertools
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt64

from facerep_jax.data.features import MISSING_CLASS, SPLITS
from facerep_jax.data.images import Look, check_image, class_ids
from facerep_jax.data.meta import at
from facerep_jax.data.paths import contents
from facerep_jax.data.plausibility import Counted, Tally, fault
from facerep_jax.data.raw_set import Sample, Samples, threaded

# What may be true of a sample's files -> what the user hears of it: how many there are, and which is the first.
NOTES = {
    "converted": "{} images stored as PNG: not an upright 8-bit RGB or grey JPEG or PNG",
    "turned": "{} images turned upright by their EXIF, the first is {}: annotations must be those of the turned image",
    "flawed": "{} JPEGs read although they hold stray bytes or lack their end marker, the first is {}",
    "white": "warning: {} masks hold only 0 and 255, which is 'missing', the first is {}: are they black and white?",
    "resized": "{} masks resized to the size of their image, the first is {}",
    **{
        bits: f"{{}} images of 16 bits a channel use only {bits}, and are scaled by what they use; the first is {{}}"
        for bits in ("8", "10", "12", "14")
    },
}


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A sample left out because its image is broken, or its box or its points cannot be right."""

    line: int
    id: str
    image: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Checked:
    """What looking at every file of the samples has shown."""

    samples: tuple[Sample, ...]  # those that are not rejected
    rejected: tuple[Rejection, ...]
    vertices: int | None  # points per mesh, None without meshes
    notes: tuple[str, ...]  # what the user should hear: what was converted, and what is odd


class _Seen(NamedTuple):
    """What the files of a sample have shown."""

    reason: str  # of its rejection, or empty
    look: Look | None  # None if the image is broken
    digest: int  # 64 bits, of the image's bytes
    points: int = 0  # of the mesh; 0 if there is none
    classes: frozenset[int] = frozenset()  # of the mask's pixels, 255 among them
    resized: bool = False  # whether the mask was, to the size of the image


def check(raw: Samples) -> Checked:
    """Looks at every file of the samples, in threads and with a progress bar.

    Images that cannot be decoded, or are too large, are rejections, and so are boxes and points that cannot be right.

    Raises:
        ValueError: a mask or mesh is wrong.
    """
    kept, rejected = [], []
    digests = array("Q")  # of the images of `kept`
    tally, noticed = Tally(), Counted()
    vertices: dict[int, Sample] = {}  # points of a mesh -> first sample with that many
    masks: Counter[frozenset[int]] = Counter()  # classes of a mask -> how many have these
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about oddities in files; what matters to us is checked
        seen = threaded(functools.partial(_check_files, raw), raw.samples, "checking")
        for sample, (reason, look, digest, points, classes, resized) in zip(raw.samples, seen, strict=True):
            if points:
                vertices.setdefault(points, sample)
            masks[classes] += 1
            if reason or look is None:
                rejected.append(Rejection(sample.line, sample.id, str(sample.values["image"]), reason))
                continue
            kept.append(dataclasses.replace(sample, direct=look.direct))
            digests.append(digest)
            tally.add(raw.called(sample), sample.values, look.size)
            true = {"converted": not look.direct, "turned": look.turned, "flawed": look.flawed}
            true |= {"resized": resized, "white": classes == {0, MISSING_CLASS}}
            for what in NOTES:
                if true.get(what, what == str(look.bits)):
                    noticed.add(what, raw.called(sample))
    _check_black_and_white(raw, masks)
    if len(vertices) > 1:
        (points, first), (other, sample), *_ = vertices.items()
        raise ValueError(f"{raw.place(sample)}vertices: {other} points, but {raw.called(first)} has {points}")
    flip = len(raw.meta.get("vertex_flip", ()))
    if vertices and flip not in (0, *vertices):
        raise ValueError(f"{raw.place_of_meta}vertex_flip: has {flip} indices for {min(vertices)} vertices")
    notes = [NOTES[what].format(count, first) for what, (count, first) in noticed.items()]
    warned = itertools.chain(tally.warnings(), _in_two_splits(raw, kept, np.array(digests, np.uint64)))
    notes += [f"warning: {warning}" for warning in warned]
    return Checked(tuple(kept), tuple(rejected), next(iter(vertices), None), tuple(notes))


def _check_files(raw: Samples, sample: Sample) -> _Seen:
    """Looks at the files of a sample, and at its box and points in its image."""
    folder, values = raw.folder, dict(sample.values.items())
    look, reason, digest, points, classes, resized = None, "", 0, 0, frozenset[int](), False
    try:
        image = contents(folder, values["image"])
        digest = int.from_bytes(hashlib.blake2b(image, digest_size=8).digest())
        look = check_image(image)
    except Exception as error:  # decoders raise all kinds; each is counted, written down and shown
        reason = " ".join(str(error).split()) or type(error).__name__
    size = look.size if look else None
    with at(raw.place(sample)):
        if "mask" in values:
            with at(f"mask: {values['mask']} "):
                data = contents(folder, values["mask"])
                ids, resized = class_ids(data, size=size, **mask_rules(raw.meta))
                classes = frozenset(np.flatnonzero(np.bincount(ids.ravel())).tolist())
        if "vertices" in values:
            with at(f"vertices: {values['vertices']} "):
                values["vertices"] = read_vertices(folder / values["vertices"])
                points = len(values["vertices"])
    return _Seen(reason or (fault(values, size) if size else ""), look, digest, points, classes, resized)


def _in_two_splits(raw: Samples, samples: Sequence[Sample], digests: UInt64[np.ndarray, "n"]) -> Iterator[str]:
    """How many images stand in two splits, byte for byte, whatever their files are called; and which is the first."""
    of = np.array([sample.split for sample in samples])
    for one, other in itertools.combinations(SPLITS, 2):
        here, there = np.flatnonzero(of == one), np.flatnonzero(of == other)
        both = np.intersect1d(digests[here], digests[there])
        if len(both):
            first = here[np.isin(digests[here], both)][0]
            again = there[digests[there] == digests[first]][0]
            places = f"{raw.called(samples[first])}, which is {raw.called(samples[again])} too"
            yield f"{len(both)} images stand in both {one} and {other}, the first is {places}"


def _check_black_and_white(raw: Samples, masks: Mapping[frozenset[int], int]) -> None:
    """Raises ValueError if all masks are black and white, so that white would be 255, 'missing', everywhere."""
    if frozenset().union(*masks) != {0, MISSING_CLASS}:
        return
    count, classes = sum(number for held, number in masks.items() if held), raw.meta["classes"]
    cure = f'if white is {classes[-1]!r}, add "mask_values": [0, {MISSING_CLASS}] to {raw.meta_file or "meta"}'
    if len(classes) != 2:
        cure = f"but there are {len(classes)} classes"
    raise ValueError(
        f"{raw.place_of_meta}classes: the pixels of all {count} masks are 0 or {MISSING_CLASS}, where a class is"
        f" missing; {cure}"
    )


def mask_rules(meta: Mapping[str, Any]) -> dict[str, Any]:
    """How masks are read: arguments of `class_ids`."""
    return {"classes": len(meta.get("classes", ())), "values": tuple(meta.get("mask_values", ()))}


def read_vertices(path: Path) -> Float32[np.ndarray, "v 3"]:
    """The mesh in an .npy file; ValueError if the file holds anything else."""
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
