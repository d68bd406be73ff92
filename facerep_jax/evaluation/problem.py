"""A task on a data set, and an encoder to judge: what every protocol is given."""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Int
from ml_collections import ConfigDict

from facerep_jax.config import build, build_with, locate, plain
from facerep_jax.data.arrays import Lazy, Stack
from facerep_jax.data.features import ORIGINAL_MASK
from facerep_jax.data.library import Dataset, Source
from facerep_jax.data.pipeline import Subset, build_transforms, load
from facerep_jax.data.transforms import Transform
from facerep_jax.evaluation.devices import count_of
from facerep_jax.evaluation.sets import Sets
from facerep_jax.evaluation.shared import Shared
from facerep_jax.evaluation.statistics import label_subset
from facerep_jax.typing import Choosy, Encoder, Metric, Task, Validated

# A split: arrays over examples, on the host, of which large ones are `data.arrays.Lazy`; `id`, a list of strings;
# `row`, the index of each example's record; and `tables`, side tables by name, each a mapping from a column to an array
# over the table's rows.
Arrays = Mapping[str, Any]
Indices = Int[np.ndarray, "_"]

CONDITIONS = "conditions"  # of test examples, see `evaluation.conditions`
ON_HOST = ("id", "row", "tables", CONDITIONS, ORIGINAL_MASK)  # what no device sees
NONE: Arrays = MappingProxyType({"id": [], "tables": {}})  # a split without examples
PERSON = "identity"  # the feature that tells persons apart
FIRST = 8  # test examples that are looked at before all others
ROLES = ("train", "validation", "test")  # of splits that each problem has, if without examples


class Telling(Transform, Protocol):
    """A transform that gives CONDITIONS of a record: the values of what its names say."""

    names: tuple[str, ...]


class Problem(NamedTuple):
    """A task on a data set, and an encoder to judge. Built by keywords."""

    encoder: Encoder
    make_task: Callable[..., Task]  # from a seed, and another `encoder` if one is given
    task: Task  # of one seed, for what is the same for all: label, taps, needs, the structure of its head
    metric: Metric  # of the test examples
    splits: Mapping[str, Arrays]  # by role: those of ROLES, and what else the task names
    source: Source  # the training records, for protocols that augment
    transforms: tuple[Transform, ...]  # of those
    selection: str = "validation"  # one of `selection.SELECTIONS`
    folder: Path = Path()  # where large intermediate results may lie
    held_out: int = 0  # training examples that serve as validation split, since the data set has none
    left_out: Mapping[str, int] = MappingProxyType({})  # role -> records that lack what the transforms need
    devices: int = 1  # that encode and fine-tune
    shared: Shared | None = None  # with other evaluations of the same encoder
    images: Mapping[str, str] = MappingProxyType({})  # role -> what its images are, for `shared`
    checkpoint: str = ""  # what `--checkpoint` names, for protocols that read more of it than its encoder
    validation_metric: Metric | None = None  # what validation examples choose by, if not `metric`

    def for_encoder(self, encoder: Encoder) -> "Problem":
        """The same problem for an encoder of another architecture, which shares nothing."""
        make_task = partial(self.make_task, encoder=encoder)
        return self._replace(encoder=encoder, make_task=make_task, task=make_task(0), shared=None)


def make_problem(
    config: ConfigDict,
    sets: Sets,
    encoder: Encoder,
    folder: Path,
    *,
    compares: bool = False,
    shared: Shared | None = None,
    conditions: Telling | None = None,
) -> Problem:
    """The task on the splits of the data sets that it names; large ones are read as they are needed.

    If there is no validation split and something is to be chosen by it, a share of the training split is held out,
    unless the config names another split in its place, which must be there.

    Args:
        compares: whether a protocol compares trainings, so that it needs validation examples by `last` too.
        shared: with evaluations that may read the same splits.
        conditions: of test examples alone.

    Raises:
        ValueError: a split is not there, or the labels of two sets do not mean the same.
    """
    task, dataset = locate(config.task), sets.test
    names = {role: config.data.get("splits", {}).get(role, role) for role in task.splits}
    by_validation = config.selection == "validation" and (
        "train" not in names or names.get("validation") != "validation"
    )
    needed = {role: name for role, name in names.items() if role != "validation" or by_validation}
    if missing := [role for role, name in needed.items() if not sets.of(role).splits.get(name)]:
        name, lacking = needed[missing[0]], sets.of(missing[0])
        there = ", ".join(f"{split} ({count})" for split, count in lacking.splits.items())
        raise ValueError(
            f"an evaluation needs the splits {', '.join(needed.values())}; {name!r} of {lacking.name!r} is empty: "
            f"{there}"
        )
    if sets.two and "train" not in names:
        raise ValueError(f"data.train_set is {sets.train.name!r}, but the task learns nothing from a data set")
    sets.require_alike((*task.needs, task.label))
    given = {"size": config.data.size, "whole": config.data.crop == "whole"}
    transforms = {role: build_transforms(config.data.transforms, sets.of(role).meta, **given) for role in names}
    keys = tuple(name for name in dict.fromkeys((*task.needs, task.drawn_by)) if name != "id")
    try:
        metric = build(task.metric(dataset.meta))
    except ValueError:  # names that the meta lacks would be of no use to a set that lacks the labels: say that first
        first = range(min(FIRST, dataset.splits[names["test"]]))
        load(Subset(dataset.source(names["test"]), first), transforms["test"], keys, name=dataset.name)
        raise
    chooser = build(task.validation_metric(dataset.meta)) if isinstance(task, Validated) else metric
    optional = tuple(dict.fromkeys((*metric.optional, *chooser.optional, PERSON)))
    tables = {name: dataset.table(name) for name in task.tables}
    splits, left_out = dict.fromkeys(ROLES, NONE), dict[str, int]()
    images = {} if shared is None else {role: images_of(config, sets.of(role), name) for role, name in names.items()}
    for role, name in names.items():
        read_from = sets.of(role)
        if read_from.splits.get(name):
            asked = conditions if role == "test" else None
            told = transforms[role] if asked is None else (asked, *transforms[role])
            more = optional if asked is None else (*optional, CONDITIONS)
            reading = partial(load, read_from.source(name), told, keys, optional=more, name=read_from.name)
            kind = (keys, more, None if asked is None else asked.names)
            data = reading() if shared is None else read_once(shared, images[role], kind, reading)
            if isinstance(task, Choosy) and role != "test" and len(rows := task.usable(data, role)) < size(data):
                data = take(data, rows)
            splits[role] = {**data, "tables": tables}
            left_out[role] = read_from.splits[name] - size(data)
    chooses = config.selection == "validation" or (compares and config.selection == "last")
    for role, use in {"train": "learnt from", "validation": "chosen by"}.items():
        if not sets.two and names.get(role) == names["test"] and (role == "train" or chooses):
            logging.warning(
                "test examples are %s: data.splits has %r for both; no fair number comes of it", use, names["test"]
            )
    holds_out = chooses and "validation" in names and not size(splits["validation"])
    if holds_out:
        splits |= divided(splits["train"], task.drawn_by, config.held_out)
        images = images | {"validation": images["train"]} if images else images
    pixels, label_shape = splits["test"]["image"].shape[1], splits["test"][task.label].shape[1:]
    if "train" in names and (shape := splits["train"][task.label].shape[1:]) != label_shape:
        raise sets.unlike(f"the shape of {task.label}", shape, label_shape)

    source = sets.train.source(names["train"]) if "train" in names else dataset.source(names["test"])
    learnt_from = splits["train"]["row"].tolist() if "train" in names else ()
    source = source if len(learnt_from) == len(source) else Subset(source, learnt_from)

    def make_task(seed: int, encoder: Encoder = encoder) -> Task:
        offered = {"label_shape": label_shape}
        return build_with(
            config.task, offered, encoder, image_size=pixels, meta=sets.train.meta, rngs=nnx.Rngs(params=seed)
        )

    return Problem(
        encoder=encoder,
        make_task=make_task,
        task=make_task(0),
        metric=metric,
        validation_metric=chooser,
        splits=splits,
        source=source,
        transforms=build_transforms(config.data.augmentations, sets.train.meta, **given),
        selection=config.selection,
        folder=folder,
        held_out=size(splits["validation"]) if holds_out else 0,
        left_out={role: count for role, count in left_out.items() if count},
        devices=count_of(config.get("devices", 1)),
        shared=shared,
        images=images,
    )


def images_of(config: ConfigDict, dataset: Dataset, split: str) -> str:
    """What the images of a split are, in one word: equal if the set's digest, split, transforms, size and crop are."""
    read = (dataset.name, dataset.digest, split, config.data.size, config.data.crop)
    return hashlib.sha256(json.dumps([*read, plain(config.data.transforms)]).encode()).hexdigest()


def read_once(shared: Shared, images: str, keys: Hashable, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A split that is read once for all evaluations that need the same of it; equal images are in memory once."""

    def made() -> dict[str, Any]:
        data = read()
        return data | {"image": shared.once(("images", images, data["row"].tobytes()), lambda: data["image"])}

    return shared.once(("splits", images, keys), made)


def divided(train: Arrays, key: str, share: float) -> dict[str, Arrays]:
    """A training split in two, `train` and `validation`, the second of which has a share of it, at least one of each.

    Of a data set that knows persons, nobody is in both.

    Raises:
        ValueError: the share is not between 0 and 1, or there is nothing to divide.
    """
    if not 0 < share < 1:
        raise ValueError(f"held_out is above 0 and below 1, not {share:g}")
    known = key == "id" and PERSON in train and (train[PERSON] >= 0).all()
    names = np.array([str(value) for value in train[PERSON if known else key]])
    if len(unique := list(dict.fromkeys(names))) < 2:
        raise ValueError("there is no validation split, and one training example is too few to hold one out")
    chosen = np.isin(names, label_subset(unique, share, seed=0))
    return {"train": take(train, np.flatnonzero(~chosen)), "validation": take(train, np.flatnonzero(chosen))}


def size(data: Arrays) -> int:
    """Examples of a split."""
    return len(data["id"])


def labels_of(data: Arrays) -> dict[str, Stack]:
    """The arrays over examples of a split but its images."""
    return {name: x for name, x in data.items() if name not in (*ON_HOST, "image")}


def truth_of(data: Arrays) -> Arrays:
    """What a metric reads of a split: all but its images."""
    return {name: x for name, x in data.items() if name != "image"}


def read(data: Arrays) -> dict[str, Any]:
    """A split in memory."""
    return {name: np.asarray(x) if isinstance(x, Lazy) else x for name, x in data.items()}


def take(data: Arrays, rows: Indices) -> dict[str, Any]:
    """Some examples of a split, and all of its tables; what is lazy stays so."""

    def some(name: str, x: Any) -> Any:
        if name == "tables":
            return x
        if isinstance(x, Lazy):
            return x.take(rows)
        return [x[row] for row in rows] if name == "id" else x[rows]

    return {name: some(name, x) for name, x in data.items()}
