"""A data set of drawn faces with a fault that can be chosen: `tests.spoilt_faces:fault=sides`.

Each fault is a function of a record, its number and the meta, which changes both in place.
"""

import dataclasses
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facerep_jax.config import parse_arg
from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.images import png
from facerep_jax.data.records import Example, Plan

NAME, RAW, VERSION = "default", None, "1.0.0"
SIZE = 64
NAMES = ("id", "image", "caption", "mask", "bbox", "landmarks", "identity", "attributes", "action_units", "expression")


@dataclasses.dataclass(frozen=True)
class Request:
    fault: str
    train: int
    test: int

    digest = "0"


def read(arg: str | None, manual_dir: Path | None) -> Request:
    return Request(**parse_arg(arg, fault="none", train=90, test=30))


def plan(raw: Request) -> Plan:
    faces = generated_faces.plan(
        generated_faces.read(f"size={SIZE},train={raw.train},validation=0,test={raw.test},sessions=1,frames=1", None)
    )
    meta = dict(faces.meta)
    if raw.fault in METAS:
        METAS[raw.fault](meta)
    return dataclasses.replace(
        faces,
        names=NAMES,
        meta=meta,
        example=functools.partial(example, whole=faces.example, fault=raw.fault, names=meta["classes"]),
    )


def example(record: Any, *, whole: Any, fault: str, names: list[str]) -> tuple[str, Example]:
    key, found = whole(record)
    found = {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in found.items()}
    found["session"] = found["frame"] = -1
    if fault in RECORDS:
        RECORDS[fault](found, record[0])
    return key, {name: found[name] for name in NAMES}


def mask_of(found: Example) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(found["mask"])))


def sides_of_box(found: Example, number: int) -> None:
    found["bbox"][2:] -= found["bbox"][:2]


def relative(found: Example, number: int) -> None:
    found["bbox"] /= SIZE
    found["landmarks"] /= SIZE


def outside(found: Example, number: int) -> None:
    if number % 10 == 3:
        found["landmarks"][8] = (SIZE + 9, SIZE / 2)


def persons_own(found: Example, number: int) -> None:
    """Left and right of the landmarks are the person's."""
    found["landmarks"] = found["landmarks"][list(generated_faces.IBUG["flip"])]


def crossed(found: Example, number: int) -> None:
    """Of some faces the eyes alone are exchanged."""
    if number % 9 == 4:
        found["landmarks"][36:48] = found["landmarks"][[*range(42, 48), *range(36, 42)]]


def shifted(found: Example, number: int) -> None:
    """Masks count their classes from 1, or their names lack the first."""
    mask = mask_of(found)
    found["mask"] = png(Image.fromarray(np.minimum(mask + 1, 10).astype(np.uint8)))


def masks_mirrored(found: Example, number: int) -> None:
    """Left and right of the masks are the person's."""
    swap = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10], np.uint8)
    found["mask"] = png(Image.fromarray(swap[mask_of(found)]))


def hairless(found: Example, number: int) -> None:
    mask = mask_of(found)
    found["mask"] = png(Image.fromarray(np.where(mask == 10, 0, mask).astype(np.uint8)))


def unnamed(found: Example, number: int) -> None:
    mask = mask_of(found)
    found["mask"] = png(Image.fromarray(np.where(mask == 10, 12, mask).astype(np.uint8)))


def constant(found: Example, number: int) -> None:
    found["attributes"][3] = 1
    found["action_units"][:] = 0
    found["expression"] = np.int32(2)


def signed(found: Example, number: int) -> None:
    found["attributes"] = 2 * found["attributes"] - 1


def one_caption(found: Example, number: int) -> None:
    found["caption"] = ["a face"]


def twice(found: Example, number: int) -> None:
    """The sixth face of a split is its fifth."""
    if number % 1_000 == 5:
        request = dict(seed=0, size=SIZE, settings=generated_faces.Settings(sessions=1, frames=1))
        found |= {name: generated_faces.drawn(index=number - 1, **request)[name] for name in ("image", "bbox")}
        found["landmarks"] = generated_faces.drawn(index=number - 1, **request)["landmarks"]


def in_two_splits(found: Example, number: int) -> None:
    """The first faces of the test are those of the training, with another box."""
    block = 2 * generated_faces.BLOCK
    if block <= number < block + 3:
        request = dict(seed=0, size=SIZE, settings=generated_faces.Settings(sessions=1, frames=1))
        found["image"] = generated_faces.drawn(index=number - block, **request)["image"]


def several_faces(found: Example, number: int) -> None:
    """Two faces in one image, which is no fault."""
    if number % 2 and number < generated_faces.BLOCK:
        request = dict(seed=0, size=SIZE, settings=generated_faces.Settings(sessions=1, frames=1))
        found["image"] = generated_faces.drawn(index=number - 1, **request)["image"]


RECORDS = {
    **dict(sides=sides_of_box, relative=relative, outside=outside, persons_own=persons_own, crossed=crossed),
    **dict(shifted=shifted, masks_mirrored=masks_mirrored, hairless=hairless, unnamed=unnamed, constant=constant),
    **dict(signed=signed, one_caption=one_caption, twice=twice, in_two_splits=in_two_splits),
    **dict(several_faces=several_faces),
}


def without_flip(meta: dict[str, Any]) -> None:
    """The flip leaves every point where it is."""
    meta["landmarks"] = meta["landmarks"] | {"flip": [*range(68)]}


def neighbours(meta: dict[str, Any]) -> None:
    """The flip has two lids exchanged."""
    flip = list(meta["landmarks"]["flip"])
    flip[37], flip[38], flip[43], flip[44] = 43, 44, 37, 38
    meta["landmarks"] = meta["landmarks"] | {
        "flip": flip,
        "five_points": [list(group) for group in generated_faces.IBUG["five_points"]],
    }


def mask_stays(meta: dict[str, Any]) -> None:
    meta["mask_flip"] = [*range(11)]


def attributes_stay(meta: dict[str, Any]) -> None:
    meta["attribute_flip"] = [*range(len(meta["attributes"]))]


def secret(meta: dict[str, Any]) -> None:
    meta |= {"licence": "for research", "agreement": "signed by hand", "may_show_images": False}


METAS = dict(
    without_flip=without_flip, neighbours=neighbours, mask_stays=mask_stays, attributes_stay=attributes_stay,
    secret=secret,
)  # fmt: skip
