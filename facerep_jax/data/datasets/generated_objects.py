"""Things that are no faces, drawn as faces are: out-of-domain images for controls, with the same kinds of labels.

facerep prepare generated_objects:size=48,train=20000,validation=500,test=2000 --name things --data_dir data

A thing is a handful of boxes, ellipses and capsules with places, sizes and colours of its own. It is seen in several
`views`, moved, turned, zoomed and lit anew, before a background of `face_world` without shapes in it. What is learnt
from such images of objects, edges, colours and identity by parts, owes nothing to faces.

Arguments: `size` in pixels, records of each split, `views` of each thing, `seed`.
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from math import cos, sin
from pathlib import Path

import numpy as np
from PIL import Image

from facerep_jax.config import parse_arg
from facerep_jax.data import features, processes
from facerep_jax.data.images import png
from facerep_jax.data.records import Example, Plan, complete
from facerep_jax.face_world.backdrop import sample_backdrop
from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.shapes import BOX, CAPSULE, ELLIPSE, Shape, paint_shape

NAME = "default"
RAW = None
VERSION = "1.0.0"
GENERATOR = 1  # raise it when other things are drawn: prepared sets then count as changed
BLOCK = 10**8  # numbers of records of a split
THING, SEEN = 100, 101  # purposes of streams of numbers, see `face_world.chance`
ATTRIBUTES = ("box", "ellipse", "capsule", "large", "dark")
NAMES = ("id", "image", "bbox", "identity", "attributes")


@dataclass(frozen=True)
class Request:
    """Which things to draw."""

    size: int  # pixels
    train: int
    validation: int
    test: int
    views: int
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 over all that the images depend on."""
        return hashlib.sha256(json.dumps([GENERATOR, asdict(self)]).encode()).hexdigest()


def read(arg: str | None, manual_dir: Path | None) -> Request:
    """The things that the text after the colon asks for."""
    if manual_dir is not None:
        raise ValueError("data set 'generated_objects' is drawn, it takes no --manual_dir")
    request = Request(**parse_arg(arg, size=112, train=20_000, validation=1_000, test=2_000, views=8, seed=0))
    if not 32 <= request.size <= 256:
        raise ValueError(f"size must be between 32 and 256 pixels, not {request.size}")
    if not any(getattr(request, split) for split in features.SPLITS):
        raise ValueError("at least one of train, validation and test must be more than 0")
    for name in (*features.SPLITS, "seed"):
        if not 0 <= getattr(request, name) <= BLOCK:
            raise ValueError(f"{name} must be between 0 and {BLOCK}, not {getattr(request, name)}")
    if request.views < 1:
        raise ValueError(f"views must be at least 1, not {request.views}")
    return request


def plan(raw: Request) -> Plan:
    """Assigns views of things to splits, which share no thing."""
    records: dict[str, list[tuple[int, int, int]]] = {}
    labels: dict[int, int] = {}  # number of a thing -> label
    for place, split in enumerate(features.SPLITS):
        indices = range(getattr(raw, split))
        if indices:
            things = [place * BLOCK + index // raw.views for index in indices]
            records[split] = [
                (thing, index % raw.views, labels.setdefault(thing, len(labels)))
                for index, thing in zip(indices, things, strict=True)
            ]
    sizes = {"attributes": len(ATTRIBUTES)}
    return Plan(
        records=records,
        example=functools.partial(example, seed=raw.seed, size=raw.size),
        names=NAMES,
        sizes=sizes,
        meta={
            "attributes": ATTRIBUTES,
            "attribute_flip": tuple(range(len(ATTRIBUTES))),
            "identities": [f"thing-{raw.seed}-{thing:09d}" for thing in labels],
        },
        lines=sum(map(len, records.values())),
        mapped=processes.mapped,
    )


def example(record: tuple[int, int, int], *, seed: int, size: int) -> tuple[str, Example]:
    """The key of a view (thing, view, label) and what is written for it."""
    thing, view, label = record
    parts = sampled(seed, thing)
    seen = placed(parts, Dice(SEEN, seed, thing, view))
    image = drawn(seen, Dice(SEEN, seed, thing, view, 1), size)
    kinds = {part.kind for part in parts}
    reach = max(part.width * part.height for part in parts)
    truth = (BOX in kinds, ELLIPSE in kinds, CAPSULE in kinds, reach > 0.04, np.mean([p.colour for p in parts]) < 110)
    key = f"thing-{seed}-{thing:09d}-{view}"
    values = {
        "id": key,
        "image": png(Image.fromarray(image)),
        "bbox": box_of(seen, size),
        "identity": label,
        "attributes": np.array(truth, np.float32),
    }
    return key, complete(values, NAMES, {"attributes": len(ATTRIBUTES)})


def sampled(seed: int, thing: int) -> tuple[Shape, ...]:
    """The parts of a thing, from back to front, in the middle of the image."""
    dice = Dice(THING, seed, thing)
    between = dice.between
    base = np.array([between(20, 235) for _ in range(3)])
    parts = []
    for _ in range(dice.one_of((3, 4, 5, 6))):
        red, green, blue = np.clip(base + dice.normals(60, 3), 5, 250).tolist()
        kind, turn = dice.one_of((BOX, ELLIPSE, CAPSULE)), between(-1.6, 1.6)
        place, size = (between(0.36, 0.64), between(0.36, 0.64)), (between(0.04, 0.26), between(0.04, 0.26))
        parts.append(Shape(kind, *place, *size, turn, (red, green, blue), 0.01, between(0, 0.5)))
    return tuple(parts)


def placed(parts: tuple[Shape, ...], dice: Dice) -> tuple[Shape, ...]:
    """The parts moved, turned and zoomed together, in another light."""
    turn, zoom, light = dice.normal(0, 0.25), dice.between(0.75, 1.25), dice.between(0.7, 1.25)
    x, y = dice.between(0.4, 0.6), dice.between(0.4, 0.6)

    def one(part: Shape) -> Shape:
        across, down = zoom * (part.x - 0.5), zoom * (part.y - 0.5)
        red, green, blue = (min(255.0, light * channel) for channel in part.colour)
        return replace(
            part,
            x=x + cos(turn) * across - sin(turn) * down,
            y=y + sin(turn) * across + cos(turn) * down,
            width=zoom * part.width,
            height=zoom * part.height,
            turn=part.turn + turn,
            colour=(red, green, blue),
        )

    return tuple(map(one, parts))


def drawn(parts: tuple[Shape, ...], dice: Dice, size: int) -> np.ndarray:
    """The image, uint8 (size, size, 3), before a background without things."""
    backdrop = replace(sample_backdrop(dice, 0), shapes=())
    image = np.array(backdrop.enlarged(size), np.float32)
    for part in parts:
        paint_shape(image, part)
    image += dice.normal(0, 6)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def box_of(parts: tuple[Shape, ...], size: int) -> np.ndarray:
    """x0 y0 x1 y1 of the thing, in pixels, cut at the image's edges."""
    rows, columns = zip(*(part.window(size) for part in parts), strict=True)
    low = (min(span.start for span in columns), min(span.start for span in rows))
    high = (max(span.stop for span in columns), max(span.stop for span in rows))
    return np.array((*low, *high), np.float32) - 0.5
