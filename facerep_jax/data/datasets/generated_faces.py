"""Faces drawn by `facerep_jax.face_world`, with every annotation exact: for tests, demos and teaching.

facerep prepare generated_faces:size=48,train=20000,validation=500,test=2000,seed=0 --name demo --data_dir data

Arguments: `size` in pixels, records of each split, `seed`, and the settings of `face_world.Settings`: `world` (pretrain
or evaluate), `sessions` of a person, `frames` of a session, their `correlation`, `informativeness` and `mismatched` of
captions, `spread` of pose, place and lamp, `degradation` of the photographs. Of the training split alone: `permuted`,
the share of its records that have another's annotations, and `train_frames` and `train_correlation`, which stand in
for `frames` and `correlation` there. docs/generated_faces.md tells what varies and how.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from PIL import Image

from facerep_jax import face_world
from facerep_jax.config import parse_arg
from facerep_jax.data import features, processes
from facerep_jax.data.images import png
from facerep_jax.data.meta import IBUG
from facerep_jax.data.records import Example, Plan, complete
from facerep_jax.face_world.photo import encoded
from facerep_jax.face_world.sampling import BLOCK, Settings, identity, person_of
from facerep_jax.face_world.worlds import WORLDS

NAME = "default"
RAW = None
VERSION = "2.0.0"
OWN: features.Numbers = {"lines_of_age": (np.float32, ())}  # 0 to 1: all that drawn faces have of an age
GENERATOR = 2  # raise it when `face_world` draws other faces: prepared sets then count as changed
# Arguments that came later, with the values by which faces are what they were before: those are in no digest.
LATER = {"spread": 1.0, "degradation": 1.0, "permuted": 0.0, "train_frames": 0, "train_correlation": 0.0}
PLACED = ("id", "image", "bbox", "caption", "oracle_caption", "session", "frame")  # what stays with a permuted record


@dataclass(frozen=True)
class Request:
    """Which faces to draw."""

    size: int  # pixels
    train: int
    validation: int
    test: int
    seed: int
    world: str
    sessions: int
    frames: int
    correlation: float
    informativeness: float
    mismatched: float
    spread: float
    degradation: float
    permuted: float
    train_frames: int
    train_correlation: float

    @property
    def settings(self) -> Settings:
        """All but what a split is made of."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    @property
    def training(self) -> Settings:
        """The settings of the training split."""
        return replace(
            self.settings,
            frames=self.train_frames or self.frames,
            correlation=self.train_correlation or self.correlation,
        )

    @property
    def digest(self) -> str:
        """SHA-256 over all that the faces depend on."""
        said = {name: value for name, value in asdict(self).items() if value != LATER.get(name)}
        return hashlib.sha256(json.dumps([GENERATOR, said]).encode()).hexdigest()


def read(arg: str | None, manual_dir: Path | None) -> Request:
    """The faces that the text after the colon asks for."""
    if manual_dir is not None:
        raise ValueError("data set 'generated_faces' is drawn, it takes no --manual_dir")
    counts = {"train": 20_000, "validation": 1_000, "test": 2_000}
    later = {name: value for name, value in LATER.items() if name not in asdict(Settings())}
    request = Request(**parse_arg(arg, size=112, seed=0, **counts, **asdict(Settings()), **later))
    if not 32 <= request.size <= 256:
        raise ValueError(f"size must be between 32 and 256 pixels, not {request.size}")
    for split in features.SPLITS:
        if not 0 <= getattr(request, split) <= BLOCK:
            raise ValueError(f"{split} must be between 0 and {BLOCK} faces, not {getattr(request, split)}")
    if not any(getattr(request, split) for split in features.SPLITS):
        raise ValueError("at least one of train, validation and test must be more than 0")
    if request.seed < 0:
        raise ValueError(f"seed must not be negative, but is {request.seed}")
    if request.world not in WORLDS:
        raise ValueError(f"world must be {' or '.join(WORLDS)}, not {request.world!r}")
    for name in ("sessions", "frames"):
        if not 1 <= getattr(request, name) <= 1000:
            raise ValueError(f"{name} must be between 1 and 1000, not {getattr(request, name)}")
    if not 0.1 <= request.correlation <= 1e6:
        raise ValueError(f"correlation must be between 0.1 and 1e6 frames, not {request.correlation}")
    if request.train_frames and not 1 <= request.train_frames <= 1000:
        raise ValueError(f"train_frames must be between 1 and 1000, or 0 for frames, not {request.train_frames}")
    if request.train_correlation and not 0.1 <= request.train_correlation <= 1e6:
        raise ValueError(
            f"train_correlation must be between 0.1 and 1e6 frames, or 0 for correlation, not "
            f"{request.train_correlation}"
        )
    for name in ("spread", "degradation"):
        if not 0 <= getattr(request, name) <= 2:
            raise ValueError(f"{name} must be between 0 and 2, not {getattr(request, name)}")
    for name in ("informativeness", "mismatched", "permuted"):
        if not 0 <= getattr(request, name) <= 1:
            raise ValueError(f"{name} is a share, between 0 and 1, not {getattr(request, name)}")
    return request


def plan(raw: Request) -> Plan:
    """Assigns faces to splits, which share neither faces nor identities."""
    settings = {split: raw.training if split == "train" else raw.settings for split in features.SPLITS}
    records: dict[str, list[tuple[int, int]]] = {}
    identities: dict[int, int] = {}  # number of a person -> label
    for place, split in enumerate(features.SPLITS):
        indices = range(place * BLOCK, place * BLOCK + getattr(raw, split))
        if indices:
            people = [person_of(index, settings[split]) for index in indices]
            records[split] = [
                (i, identities.setdefault(p, len(identities))) for i, p in zip(indices, people, strict=True)
            ]
    first = face_world.face(raw.seed, 0, raw.size, raw.settings)
    donors = {index: records["train"][donor] for index, donor in donors_of(raw.train, raw.permuted, raw.seed).items()}
    sizes = {key: len(first[key]) for key in ("landmarks", "attributes", "action_units", "vertices")}
    names = (*(name for name in features.NAMES if name in first), *OWN)
    meta = json.loads(json.dumps(face_world.META))  # lists for tuples, as a manifest's meta has them
    meta["landmarks"] |= {"five_points": IBUG["five_points"], "normaliser": {**IBUG["normaliser"], "kind": "box"}}
    meta["identities"] = [identity(raw.world, raw.seed, person) for person in identities]
    return Plan(
        records=records,
        example=functools.partial(
            example,
            seed=raw.seed,
            size=raw.size,
            settings=(settings["train"], settings["test"]),
            names=names,
            sizes=sizes,
            donors=donors,
        ),
        names=names,
        sizes=sizes,
        meta=meta,
        more=OWN,
        lines=sum(map(len, records.values())),
        mapped=processes.mapped,
    )


def donors_of(count: int, share: float, seed: int) -> dict[int, int]:
    """A share of the places below `count`, each with another of them, in a circle of random order: nobody has its own.

    It is empty if fewer than two are to have another's.
    """
    order = np.random.default_rng(seed).permutation(count)[: round(share * count)].tolist()
    return dict(zip(order, [*order[1:], *order[:1]], strict=True)) if len(order) > 1 else {}


def example(
    record: tuple[int, int],
    *,
    seed: int,
    size: int,
    settings: tuple[Settings, Settings],
    names: Sequence[str],
    sizes: Mapping[str, int],
    donors: Mapping[int, tuple[int, int]],
) -> tuple[str, Example]:
    """The key of the face (index, label of its identity) and what is written for it.

    Args:
        settings: of the training split, and of the others.
        donors: index -> the face whose annotations it has, if they are not its own.
    """
    index, label = record
    values = {**drawn(seed, index, size, settings[index >= BLOCK]), "identity": label}
    if index in donors:
        donor, other = donors[index]
        annotations = {**drawn(seed, donor, size, settings[donor >= BLOCK]), "identity": other}
        values = annotations | {name: values[name] for name in PLACED}
    return values["id"], complete(values, names, sizes, OWN)


@functools.lru_cache(maxsize=1024)  # since a set that is drawn as it is read is read again in every epoch
def drawn(seed: int, index: int, size: int, settings: Settings) -> Example:
    """All of a face but its label; do not write to it."""
    scene = face_world.sample_scene(seed, index, settings)
    face = face_world.render(scene, size)
    for value in face.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return face | {
        "id": face_world.record_id(seed, index, settings),
        "image": encoded(scene.photo, face["image"]),
        "mask": png(Image.fromarray(face["mask"])),
    }
