"""Image-text pairs of an archive: which are kept, for which reason the others are not, and what is written for each."""

import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from facerep_jax.data import detections, sample_ids
from facerep_jax.data.alignment import AlignToTemplate, moved, similarity
from facerep_jax.data.detections import Detections, Face, chosen
from facerep_jax.data.images import Look, check_image, png, stored_image
from facerep_jax.data.plausibility import fault
from facerep_jax.data.records import Example
from facerep_jax.data.tars import TarSample
from facerep_jax.data.transforms import cleaned, crop, decode_image

IMAGES = ("jpg", "jpeg", "png", "webp")  # kinds of the image's file, the first that is there
LONGEST = 20_000  # letters of a caption
DEEPEST = 1 << 20  # bytes of a sample's JSON
MORE = {"similarity": (np.float32, ()), "score": (np.float32, ())}  # of image and caption, of the detector
UNSAFE = 0.5  # of punsafe, which later sets of LAION have in place of NSFW
CHOICES = {
    "nsfw": ("drop", "strict", "keep"),
    "faces": detections.CHOICES,
    "crop": ("whole", "square", "align"),
    "border": ("black", "inside"),
    "captions": ("raw", "clean"),
}
META = {"landmarks": detections.LANDMARKS}


@dataclass(frozen=True)
class Rules:
    """Which pairs are kept, and how they are written; docs/laion_face.md explains each."""

    nsfw: str = "drop"
    similarity: float = 0.0
    smallest: int = 32  # pixels of the image's shorter side
    faces: str = "largest"
    score: float = 0.0
    face: float = 0.0  # pixels of the shorter side of a face's box
    crop: str = "whole"
    size: int = 256  # pixels of a crop's side; 0 for as many as the crop has in the image
    margin: float = 0.5  # beside the box, as a share of its longer side
    border: str = "black"
    scale: float = 1.0  # of an aligned face
    quality: int = 95  # of a crop's JPEG; 100 for a PNG
    captions: str = "raw"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not {value!r}")
        for name, low, high in (
            *(("similarity", -1, 1), ("score", 0, 1), ("face", 0, 1e5), ("smallest", 1, 1e5), ("margin", 0, 10)),
            *(("size", 0, 4096), ("scale", 0.1, 2), ("quality", 1, 100)),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, not {getattr(self, name):g}")
        if self.faces == "all" and self.crop == "whole":
            raise ValueError("faces=all needs crop=square or crop=align: a whole image is one record")
        if self.crop == "align" and not self.size:
            raise ValueError("crop=align needs a size of 1 pixel or more")


@dataclass(frozen=True)
class Lists:
    """Files of sorted ids, and of faces; None where nobody gave one."""

    safe: Path | None = None
    excluded: Path | None = None
    faces: tuple[Path, ...] = ()  # as `Detections` takes them


class _Opened(NamedTuple):
    safe: np.ndarray | None
    excluded: np.ndarray | None
    faces: Detections | None


@functools.lru_cache(maxsize=1)
def _opened(lists: Lists) -> _Opened:
    safe, excluded = (None if path is None else np.load(path, mmap_mode="r") for path in (lists.safe, lists.excluded))
    return _Opened(safe, excluded, Detections(lists.faces) if lists.faces else None)


class Left(Exception):
    """A pair that is not kept; the message is the reason, which is counted."""


@dataclass(frozen=True)
class Pair:
    """A pair that is kept."""

    id: str
    image: bytes
    look: Look
    captions: tuple[str, ...]
    similarity: float  # NaN if it is not known
    faces: tuple[Face, ...]  # those that are chosen; empty without detections


def judged(sample: TarSample, rules: Rules, lists: Lists, folder: str) -> Pair:
    """A sample of an archive as a pair.

    Args:
        folder: of the archive, for the id of a pair without SAMPLE_ID.

    Raises:
        Left: it is not kept.
    """
    if sample.fault:
        raise Left(sample.fault)
    opened, about = _opened(lists), _about(sample)
    number = _number(about)
    if number is None and (lists.safe or lists.excluded or lists.faces):
        raise Left("no SAMPLE_ID")
    if opened.excluded is not None and sample_ids.contains(opened.excluded, number or 0):
        raise Left("excluded")
    if opened.safe is not None and not sample_ids.contains(opened.safe, number or 0):
        raise Left("not among the ids that are cleared")
    _check_tags(about, rules)
    captions = _captions(sample, rules)
    data = next((sample.files[kind] for kind in IMAGES if kind in sample.files), None)
    if data is None:
        raise Left("no image")
    look = _look(data, rules)
    known = () if opened.faces is None else _faces(opened.faces.of(number or 0), about, look, rules)
    name = f"{folder}/{sample.key}".lstrip("/") if number is None else str(number)
    return Pair(name, data, look, captions, _float(about.get("similarity")), known)


def _about(sample: TarSample) -> dict[str, Any]:
    """What the sample's JSON says, its keys in lower case; empty if there is none."""
    raw = sample.files.get("json", b"{}")
    if len(raw) > DEEPEST:
        raise Left("JSON of more than a megabyte")
    try:
        about = json.loads(raw.decode(), parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        raise Left("JSON that cannot be read") from None
    if not isinstance(about, dict):
        raise Left("JSON that is no object")
    return {key.lower(): value for key, value in about.items()}


def _number(about: Mapping[str, Any]) -> int | None:
    try:
        return sample_ids.sample_id(about.get("sample_id"))
    except ValueError:
        raise Left("a SAMPLE_ID that is no integer") from None


def _float(value: Any) -> float:
    """A number, which may be a text; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _check_tags(about: Mapping[str, Any], rules: Rules) -> None:
    """Raises Left for what is marked as unsafe, or whose image and caption fit too little."""
    tag, unsafe = str(about.get("nsfw") or "").strip().upper(), _float(about.get("punsafe"))
    if rules.nsfw != "keep" and (tag in ("NSFW", "TRUE", "1") or unsafe >= UNSAFE):
        raise Left("NSFW")
    if rules.nsfw == "strict" and not (tag in ("UNLIKELY", "FALSE", "0") or unsafe < UNSAFE):
        raise Left(f"NSFW {tag.lower()[:20] or 'not said'}")
    if rules.similarity and not _float(about.get("similarity")) >= rules.similarity:
        raise Left("similarity too low, or not said")


def _captions(sample: TarSample, rules: Rules) -> tuple[str, ...]:
    try:
        text = sample.files.get("txt", b"").decode()
    except UnicodeDecodeError:
        raise Left("caption that is not UTF-8") from None
    if "\0" in text:
        raise Left("caption with a NUL byte")
    if len(text) > LONGEST:
        raise Left(f"caption of more than {LONGEST} letters")
    text = cleaned(text) if rules.captions == "clean" else text
    return (text,) if text.strip() else ()


def _look(data: bytes, rules: Rules) -> Look:
    try:
        look = check_image(data)
    except Exception as error:  # decoders raise all kinds; each is counted by what it says
        raise Left(f"image: {error or type(error).__name__}") from None
    if min(look.size) < rules.smallest:
        raise Left("image too small")
    return look


def _faces(found: list[Face] | None, about: Mapping[str, Any], look: Look, rules: Rules) -> tuple[Face, ...]:
    """The faces that the rules choose, in pixels of the image as it is now.

    Raises:
        Left: there is none.
    """
    if found is None:
        raise Left("no detections")
    if look.turned:
        raise Left("turned by its EXIF, so that boxes may be of either way up")
    scale = _scale(about, look)
    faces = [Face(face.bbox * [*scale, *scale], face.landmarks * scale, face.score) for face in found]
    good = [face for face in faces if face.score >= rules.score and face.side >= rules.face and _possible(face, look)]
    if not good:
        raise Left("no face that is large, sure and possible enough" if found else "no face")
    return chosen(good, rules.faces)


def _possible(face: Face, look: Look) -> bool:
    known = np.isfinite(face.bbox).all() and np.isfinite(face.landmarks).all()
    return bool(known) and not fault({"bbox": face.bbox, "landmarks": face.landmarks}, look.size)


def _scale(about: Mapping[str, Any], look: Look) -> np.ndarray:
    """How much smaller the image is than the one that was downloaded, which the boxes are of."""
    before = np.array([_float(about.get("original_width")), _float(about.get("original_height"))])
    scale = np.array(look.size) / before
    if not np.isfinite(scale).all():
        return np.ones(2, np.float32)
    if abs(scale[0] - scale[1]) * before.max() > 2:  # pixels
        raise Left("resized to other proportions than its boxes are of")
    return scale.astype(np.float32)


def records(pair: Pair, rules: Rules) -> Iterator[Example]:
    """What is written for a pair: one record, or one for each face, without the features that it lacks."""
    shared = {"caption": pair.captions, "similarity": pair.similarity}
    if rules.crop == "whole":
        image = stored_image(pair.image, pair.look.direct)
        yield {"id": pair.id, "image": image, **shared, **(_numbers(pair.faces[0]) if pair.faces else {})}
        return
    pixels = decode_image(stored_image(pair.image, pair.look.direct))
    for number, face in enumerate(pair.faces):
        example = {"image": pixels, "bbox": face.bbox, "landmarks": face.landmarks}
        seen = _aligned(example, rules) if rules.crop == "align" else _square(example, rules)
        name = f"{pair.id}-{number}" if rules.faces == "all" else pair.id
        image = _encoded(seen["image"], rules.quality)
        numbers = {key: seen[key] for key in ("bbox", "landmarks")}
        yield {"id": name, "image": image, **shared, "score": face.score, **numbers}


def _numbers(face: Face) -> dict[str, Any]:
    return {"bbox": face.bbox, "landmarks": face.landmarks, "score": face.score}


def _aligned(example: Example, rules: Rules) -> Example:
    """The face where FaRL's alignment puts it, see `AlignToTemplate`."""
    template = AlignToTemplate(size=rules.size, scale=rules.scale, meta={}).template
    return moved(example, similarity(np.asarray(example["landmarks"], np.float64), template), rules.size)


def _square(example: Example, rules: Rules) -> Example:
    """A square around the box, as wide as its longer side and two margins; whole pixels if it keeps its size."""
    h, w = example["image"].shape[:2]
    x0, y0, x1, y1 = map(float, example["bbox"])
    side = max(x1 - x0, y1 - y0) * (1 + 2 * rules.margin)
    side = min(side, h, w) if rules.border == "inside" else side
    side = max(1.0, round(side)) if not rules.size else side
    corner = np.array([(x0 + x1 - side) / 2, (y0 + y1 - side) / 2])
    if not rules.size:
        corner = np.floor(corner + 0.5) - 0.5
    if rules.border == "inside":
        corner = np.clip(corner, -0.5, [w - 0.5 - side, h - 0.5 - side])
    box = (*corner.tolist(), *(corner + side).tolist())
    return crop(example, box, rules.size or int(side))


def _encoded(pixels: np.ndarray, quality: int) -> bytes:
    if quality == 100:
        return png(Image.fromarray(pixels))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "444")
