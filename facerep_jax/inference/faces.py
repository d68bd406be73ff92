"""Faces to look at: in files and folders, by a detector, in a list of boxes, a prepared data set, or from memory."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from facerep_jax.data import detections, detector
from facerep_jax.data.features import NAMES
from facerep_jax.data.images import upright_pixels
from facerep_jax.data.library import Dataset
from facerep_jax.data.listings import lines
from facerep_jax.data.meta import at, check_keys, strict_json
from facerep_jax.data.pipeline import read_in_part
from facerep_jax.data.records import Example
from facerep_jax.data.transforms import Transform, decode_image, text_of
from facerep_jax.data.values import numbers, text
from facerep_jax.files import local_path

# Of the files in folders; a file that is named itself may end as it likes.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm")
IN_LINES = (*NAMES, "split")  # what a line of boxes may have, so that a manifest's faces.jsonl is one

Picture = str | Path | np.ndarray | Image.Image  # a file, uint8 pixels (h, w, 3), or an image of Pillow's
Pictures = Sequence[Picture] | np.ndarray  # of one size if they are one array
Boxes = Sequence[Sequence[float | int] | np.ndarray] | np.ndarray  # x0 y0 x1 y1 each


class Face(NamedTuple):
    """A face that can be read. `read` may raise whatever a decoder raises of a broken file."""

    id: str
    picture: str  # of which it is; several faces may be of one
    read: Callable[[], Example]  # `image`, upright, and what else is known, such as `bbox`


def in_files(words: Sequence[str]) -> list[Face]:
    """One face for each image file, folders in order of their files' names; what is named twice counts once.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder has no images.
    """
    found: dict[str, Face] = {}
    for word in words:
        path = local_path("IMAGES", word)
        if not path.exists():
            raise FileNotFoundError(f"no image or folder {word}")
        files = [path]
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
            if not files:
                raise ValueError(f"no images in the folder {word}; names of images end in {', '.join(SUFFIXES)}")
        found |= {str(file): Face(str(file), str(file), partial(of_file, file)) for file in files}
    return list(found.values())


def detected(pictures: Sequence[Face], name: str, choice: str) -> list[Face]:
    """The faces that a detector, MODULE:CLASS, finds in image files, by all cores; `choice` is of `detections.chosen`.

    Several faces of an image are numbered. An image without a face cannot be read, as one that is broken.

    Raises:
        ValueError: there is no such detector, or it fails; the message names it and the image.
    """
    detector.load(name)
    seen, found = detector.all_faces_in([each.picture for each in pictures], folder=Path(), name=name), list[Face]()
    for picture, faces in zip(pictures, seen, strict=True):
        if not faces:
            found.append(picture if faces is None else picture._replace(read=without_face))
            continue
        kept = detections.chosen(faces, choice)
        for number, face in enumerate(kept):
            key = picture.id if len(kept) == 1 else f"{picture.id}#{number}"
            found.append(Face(key, picture.picture, partial(of_file, Path(picture.picture), bbox=face.bbox)))
    return found


def without_face() -> Example:
    """What can be read of a face that is not there."""
    raise ValueError("no face is found in it")


def in_boxes(path: Path) -> list[Face]:
    """The faces of a file of JSON lines, each with `image`, a path relative to the file, and `bbox` [x0, y0, x1, y1].

    `id` is optional: without it, a face is called as its image, with a number if that has several. The `faces.jsonl`
    of a manifest is such a file. Faces of one image follow each other.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not of this form, or an id stands twice; the message names file and line.
    """
    pictures: dict[str, list[tuple[str | None, np.ndarray]]] = {}
    for place, line in lines(path):
        with at(place):
            value = strict_json(line)
            if not isinstance(value, dict) or not {"image", "bbox"} <= value.keys():
                raise ValueError('an object with "image" and "bbox" is expected')
            check_keys(value, IN_LINES)
            with at("bbox "):
                box = numbers(value["bbox"], 4)
                if not (box[2] > box[0] and box[3] > box[1]):
                    raise ValueError(f"must be x0 y0 x1 y1 with x0 < x1 and y0 < y1, not {box.tolist()}")
            with at("image "):
                image = text(value["image"])
            name = None if value.get("id") is None else text(value["id"])
            pictures.setdefault(image, []).append((name, box))
    found: dict[str, Face] = {}
    for image, faces in pictures.items():
        for number, (name, box) in enumerate(faces):
            key = name or (image if len(faces) == 1 else f"{image}#{number}")
            if key in found:
                raise ValueError(f"{path}: the id {key!r} stands twice")
            found[key] = Face(key, image, partial(of_file, path.parent / image, bbox=box))
    if not found:
        raise ValueError(f"{path} has no faces")
    return list(found.values())


def in_dataset(dataset: Dataset, split: str, transforms: Sequence[Transform]) -> list[Face]:
    """The faces of a split of a prepared data set, with what the transforms read and their boxes."""
    records: Any = read_in_part(dataset.source(split), transforms, ("bbox",))
    ids: Any = dataset.source(split).only(("id",))

    def read(index: int) -> Example:
        record = dict(records[index])
        return {**record, "image": decode_image(record["image"])}

    names = [text_of(ids[index]["id"]) for index in range(len(ids))]
    return [Face(name, name, partial(read, index)) for index, name in enumerate(names)]


def in_memory(pictures: Pictures, boxes: Boxes | None = None) -> list[Face]:
    """One face for each picture, in its box if boxes are given; ids are the paths, or places in the sequence.

    Raises:
        ValueError: boxes are not as many as pictures.
    """
    if boxes is not None and len(boxes) != len(pictures):
        raise ValueError(f"there are {len(pictures)} images and {len(boxes)} boxes; give a box for each, or none")
    known: list[Mapping[str, Any]] = (
        [{} for _ in pictures] if boxes is None else [{"bbox": boxed(box)} for box in boxes]
    )
    found = []
    for number, (picture, more) in enumerate(zip(pictures, known, strict=True)):
        read: Callable[[], Example]
        if isinstance(picture, str | Path):
            name, read = str(picture), partial(of_file, Path(picture), **more)
        else:
            name, read = str(number), partial(held, picture, **more)
        found.append(Face(name, str(number), read))
    return found


def boxed(box: Sequence[float | int] | np.ndarray) -> np.ndarray:
    """A box of four numbers; ValueError if it is none."""
    with at("a box "):
        return numbers(np.asarray(box, np.float32).tolist(), 4)


def of_file(path: Path, **known: Any) -> Example:
    """The pixels of an image file, with what is known of the face."""
    return {"id": str(path), "image": upright_pixels(path.read_bytes()), **known}


def held(picture: np.ndarray | Image.Image, **known: Any) -> Example:
    """The pixels of an image in memory, with what is known of the face; ValueError if they are not of uint8 RGB."""
    if isinstance(picture, Image.Image):
        picture = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"images are uint8 of shape (h, w, 3), not {picture.dtype} {picture.shape}")
    return {"id": "", "image": picture, **known}
