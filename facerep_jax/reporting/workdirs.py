"""Workdirs as they are on disk: results.json and examples.parquet of evaluations, metrics.jsonl of pre-training.

Read strictly: what is missing or broken is an error that names the file and what is wrong with it.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float

from facerep_jax.train.account import KINDS, Account

TIMES = ("time", "steps", *(f"seconds/{kind}" for kind in KINDS))  # that an account adds up


class Evaluation(NamedTuple):
    """One evaluation workdir."""

    folder: Path
    results: Mapping[str, Any]  # results.json


class Pretraining(NamedTuple):
    """One pre-training workdir: its config and every scalar as (steps, values)."""

    folder: Path
    config: Mapping[str, Any]
    scalars: Mapping[str, tuple[np.ndarray, np.ndarray]]
    note: str = ""
    account: Account = Account()  # empty where the log does not say where the time went


REQUIRED = (
    *("task", "dataset", "protocol", "selection", "fraction", "seeds", "metrics", "headline", "lower_is_better"),
    *("checkpoint", "labels", "metric"),
)


def read(folders: Sequence[Path]) -> tuple[list[Evaluation], list[Pretraining]]:
    """All evaluations and pre-training runs in or below the folders, each once, in the order of their paths.

    The curves of a fine-tuning inside an evaluation's workdir are not pre-training. FileNotFoundError for a folder that
    holds neither, ValueError for a file that cannot be read.
    """
    evaluations: dict[Path, Path] = {}  # resolved -> as given
    pretrainings: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        evaluated = {path.parent for path in folder.rglob("results.json")}
        logged = {path.parent for path in folder.rglob("metrics.jsonl")}
        pretrained = {f for f in logged if not evaluated & {f, *f.parents}}
        if not evaluated | pretrained:
            raise FileNotFoundError(
                f"{folder}: neither results.json nor metrics.jsonl in it or below; "
                "expected workdirs of facerep evaluate or facerep pretrain"
            )
        evaluations |= {f.resolve(): f for f in evaluated}
        pretrainings |= {f.resolve(): f for f in pretrained}
    return (
        [_read_evaluation(f) for f in sorted(evaluations.values())],
        [_read_pretraining(f) for f in sorted(pretrainings.values())],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, not {type(value).__name__}")
    return value


def _read_evaluation(folder: Path) -> Evaluation:
    path = folder / "results.json"
    results = _read_json(path)
    for key in REQUIRED:
        if key not in results:
            raise ValueError(f"{path} has no {key!r}; was it written by facerep evaluate?")
    if results["checkpoint"] != "random" and not isinstance(results["checkpoint"], dict):
        raise ValueError(f"{path}: checkpoint is an object or 'random', not {results['checkpoint']!r}")
    for name, metric in results["metrics"].items():
        if not {"mean", "std", "values"} <= set(metric):
            raise ValueError(f"{path}: metric {name} must have mean, std and values, not {', '.join(metric)}")
    if results["headline"] not in results["metrics"]:
        raise ValueError(f"{path} has no metric {results['headline']!r}, its headline")
    return Evaluation(folder, results)


def _read_pretraining(folder: Path) -> Pretraining:
    """The log of a run. After a resume steps repeat: the last value of a step counts."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")
    unfinished = lines.pop()  # empty, unless a run is writing it at this moment
    columns: dict[str, dict[int, float]] = defaultdict(dict)
    account = Account()
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            account.add(values)
            step = values.pop("step")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{path}, line {number} is not a JSON object with a step: {line[:80]!r}") from None
        for name, value in values.items():
            if name not in TIMES and (value is None or isinstance(value, int | float)):
                columns[name][step] = math.nan if value is None else float(value)
    scalars = {}
    for name, by_step in columns.items():
        steps = sorted(by_step)
        scalars[name] = np.array(steps), np.array([by_step[s] for s in steps])
    described = _read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    note = "The last line of metrics.jsonl is incomplete and was left out." if unfinished.strip() else ""
    return Pretraining(folder, described, scalars, note, account)


def read_command(folder: Path) -> str:
    """The command line that made a workdir; empty where it was not recorded."""
    path = folder / "command.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def read_selected(folder: Path, key: str = "selected") -> list[tuple[int, dict[str, float]]]:
    """(seed, what was selected on validation and its score) of each label subset; none where it was not recorded."""
    path = folder / "subsets.json"
    if not path.exists():
        return []
    try:
        subsets = json.loads(path.read_text(encoding="utf-8"))
        return [(subset["seed"], subset.get(key) or {}) for subset in subsets]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must hold a list of label subsets, each with a seed: {error!r}") from None


def read_statistics(
    folder: Path, encoder: str = "encoder"
) -> tuple[list[int], list[str], Float[np.ndarray, "subsets n s"]] | None:
    """Subsets, test ids and per-example statistics of one encoder or baseline; None where they were not written."""
    path = folder / "examples.parquet"
    if not path.exists():
        return None
    try:
        rows = pq.read_table(
            path, columns=["id", "subset", "statistics"], filters=[("encoder", "=", encoder)]
        ).to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not rows["id"]:
        return None
    subsets, ids = sorted(set(rows["subset"])), sorted(set(rows["id"]))
    pairs = list(zip(rows["subset"], rows["id"], strict=True))
    if len(pairs) != len(subsets) * len(ids) or len(set(pairs)) != len(pairs):
        raise ValueError(
            f"{path}: {encoder} has {len(pairs)} rows, not one for each of {len(subsets)} subsets and {len(ids)} ids"
        )
    if len({len(s) for s in rows["statistics"]}) != 1:
        raise ValueError(f"{path}: the statistics of {encoder} differ in length")
    order = sorted(range(len(pairs)), key=pairs.__getitem__)
    statistics = np.array([rows["statistics"][i] for i in order], np.float64)
    return subsets, ids, statistics.reshape(len(subsets), len(ids), -1)
