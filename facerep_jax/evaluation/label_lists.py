"""Subsets of the labels as a file lists them, such as published few-shot lists, or `subsets.json` of an evaluation."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from facerep_jax.evaluation.labels import FEWEST, Labels, check_seeds, distinct, rows_of
from facerep_jax.evaluation.problem import Indices, Problem, size
from facerep_jax.files import local_path


def listed_labels(problem: Problem, path: str, least: int) -> list[Labels]:
    """The subsets that a file lists.

    The file is JSON: a list with an object for each subset. `train` is a list of ids of training examples,
    `validation`, which may be left out, one of validation examples: else as large a share of these is drawn as `train`
    is of the training examples. `seed`, by default the place in the list, is that of the head's start. Other keys do
    not count.

    Args:
        least: validation labels that are drawn, if there are so many.

    Raises:
        ValueError: the file is no such list, an id stands in it twice, or is not that of an example.
    """
    subsets = subsets_in(path)
    seeds = [subset.get("seed", place) for place, subset in enumerate(subsets)]
    check_seeds(seeds)
    found = []
    for seed, subset in zip(seeds, subsets, strict=True):
        train = places(problem, "train", subset["train"], f"{path}, seed {seed}")
        if len(train) < FEWEST:
            raise ValueError(f"{path}, seed {seed}: nothing can be learnt from {len(train)} labels")
        if "validation" in subset:
            validation = places(problem, "validation", subset["validation"], f"{path}, seed {seed}")
        else:
            share, split = len(train) / size(problem.splits["train"]), problem.splits["validation"]
            validation = rows_of(split, problem.task.drawn_by, share, seed, least=least)
        found.append(Labels(seed, train, validation))
    return distinct(found)


def subsets_in(path: str) -> list[dict[str, Any]]:
    """The objects of a file, each with a list `train`."""
    file = local_path("config.subsets", path)
    if not file.is_file():
        raise ValueError(f"config.subsets names a file of ids, and there is none at {path}")
    try:
        subsets = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(subsets, list) or not subsets:
        raise ValueError(f"{path} must be a list with an object for each subset of the labels, such as subsets.json")
    for place, subset in enumerate(subsets):
        lists = [subset.get(role, []) for role in ("train", "validation")] if isinstance(subset, dict) else [None]
        if not all(isinstance(ids, list) for ids in lists) or "train" not in subset:
            raise ValueError(f'{path}: subset {place} must be an object with a list of ids, "train"')
    return subsets


def places(problem: Problem, role: str, ids: list[Any], where: str) -> Indices:
    """The rows of a split whose ids are listed, in the order of the list."""
    place = {name: row for row, name in enumerate(problem.splits[role]["id"])}
    if twice := [name for name, count in Counter(map(str, ids)).items() if count > 1]:
        raise ValueError(f"{where}: {role} has the id {twice[0]!r} twice")
    if unknown := [name for name in ids if name not in place]:
        held = problem.held_out and role == "train" and unknown[0] in problem.splits["validation"]["id"]
        why = ", since it is held out for validation: list it there, or lower config.held_out" if held else ""
        raise ValueError(
            f"{where}: {len(unknown)} of {len(ids)} ids of {role} are not those of {role} examples that the task can "
            f"read; the first is {unknown[0]!r}{why}"
        )
    return np.array([place[name] for name in ids], int)


def told(path: str) -> str:
    """Where the labels come from, for readers of the results."""
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return f"the labelled examples are those that {path} lists (SHA-256 {digest[:16]})"
