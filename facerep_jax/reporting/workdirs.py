"""Workdirs as they are on disk: results.json and examples.parquet of evaluations, metrics.jsonl of pre-training.

Reading is strict: a file that is missing or broken is an error that names the file and what is wrong with it.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float

from facerep_jax.evaluation.results import Results
from facerep_jax.files import read_object
from facerep_jax.train.account import KINDS, Account
from facerep_jax.train.writer import LOG

TIMES = ("time", "steps", *(f"seconds/{kind}" for kind in KINDS))  # that an account adds up


class Evaluation(NamedTuple):
    """One evaluation workdir."""

    folder: Path
    results: Results


class Pretraining(NamedTuple):
    """One pre-training workdir: its config and every scalar as (steps, values)."""

    folder: Path
    config: Mapping[str, Any]
    scalars: Mapping[str, tuple[np.ndarray, np.ndarray]]
    note: str = ""
    account: Account = Account()  # empty if the log does not say how the time was spent


class Statistics(NamedTuple):
    """The statistics that the metric of one encoder or baseline is computed from."""

    subsets: list[int]  # of the labels
    ids: list[str]  # of the test examples
    rows: Float[np.ndarray, "subsets n s"]
    units: list[str]  # the independent unit that each test example belongs to, such as a person; its id if none

    @property
    def conditions(self) -> tuple[list[int], list[str], list[str]]:
        """What statistics that are compared share: label subsets, test examples, and the units of these."""
        return self.subsets, self.ids, self.units


class Log:
    """What metrics.jsonl says, as it is read line by line. After a resume steps repeat: a step's last value counts."""

    def __init__(self) -> None:
        self.account = Account()
        self._columns: dict[str, dict[int, float]] = defaultdict(dict)

    def add(self, line: bytes, where: str) -> dict[str, Any]:
        """Add a line, and return its values without the step.

        Args:
            where: names the line in errors.

        Raises:
            ValueError: it is not a JSON object with a step.
        """
        try:
            values: dict[str, Any] = json.loads(line.decode())
            self.account.add(values)
            step = values.pop("step")
        except (ValueError, KeyError, AttributeError, TypeError):
            text = line[:80].decode(errors="replace")
            raise ValueError(f"{where} is not a JSON object with a step: {text!r}") from None
        for name, value in values.items():
            if name not in TIMES and (value is None or isinstance(value, int | float)):
                self._columns[name][step] = math.nan if value is None else float(value)
        return values

    @property
    def scalars(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Each scalar as (steps, values)."""
        found = {}
        for name, by_step in self._columns.items():
            steps = sorted(by_step)
            found[name] = np.array(steps), np.array([by_step[s] for s in steps])
        return found


def read(folders: Sequence[Path]) -> tuple[list[Evaluation], list[Pretraining]]:
    """Read all evaluations and pre-training runs in or below the folders, each once, in the order of their paths.

    The curves of a fine-tuning inside an evaluation's workdir are not pre-training.

    Raises:
        FileNotFoundError: a folder holds neither, or does not exist.
        ValueError: a file cannot be read.
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
        [read_evaluation(f) for f in sorted(evaluations.values())],
        [_read_pretraining(f) for f in sorted(pretrainings.values())],
    )


def read_evaluation(folder: Path) -> Evaluation:
    """Read one evaluation workdir.

    Raises:
        FileNotFoundError: there is no results.json.
        ValueError: results.json is broken; the message names the key.
    """
    return Evaluation(folder, Results.read(folder / "results.json"))


def _read_pretraining(folder: Path) -> Pretraining:
    """Read the log of a run."""
    path = folder / LOG
    lines = path.read_bytes().split(b"\n")
    unfinished = lines.pop()  # empty, unless a run is writing it at this moment
    log = Log()
    for number, line in enumerate(lines, 1):
        log.add(line, f"{path}, line {number}")
    note = "The last line of metrics.jsonl is incomplete and was left out." if unfinished.strip() else ""
    return Pretraining(folder, read_config(folder), log.scalars, note, log.account)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run; empty if it was not recorded."""
    return read_object(folder / "config.json") if (folder / "config.json").exists() else {}


def read_command(folder: Path) -> str:
    """Read the command line that made a workdir; empty if it was not recorded."""
    path = folder / "command.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def read_selected(folder: Path, key: str = "selected") -> list[tuple[int, dict[str, float]]]:
    """Read (seed, what was selected on validation and its score) of each label subset; none if it was not recorded."""
    path = folder / "subsets.json"
    if not path.exists():
        return []
    try:
        subsets = json.loads(path.read_text(encoding="utf-8"))
        return [(subset["seed"], subset.get(key) or {}) for subset in subsets]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must hold a list of label subsets, each with a seed: {error!r}") from None


def read_statistics(folder: Path, encoder: str = "encoder") -> Statistics | None:
    """Read the statistics of one encoder or baseline, sorted by subset and id; None if they were not written.

    Raises:
        ValueError: examples.parquet is broken, or not complete.
    """
    path = folder / "examples.parquet"
    if not path.exists():
        return None
    columns = ["id", "subset", "statistics"]
    try:
        columns += ["unit"] if "unit" in pq.read_schema(path).names else []
        rows = pq.read_table(path, columns=columns, filters=[("encoder", "=", encoder)]).combine_chunks()
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not len(rows):
        return None
    numbers, names = np.asarray(rows["subset"]), rows["id"].to_pylist()
    subsets, ids = np.unique(numbers).tolist(), sorted({*names})
    place = {name: number for number, name in enumerate(ids)}
    cell = np.searchsorted(subsets, numbers) * len(ids) + np.fromiter(map(place.__getitem__, names), int, len(names))
    if len(cell) != len(subsets) * len(ids) or len(np.unique(cell)) != len(cell):
        raise ValueError(
            f"{path}: {encoder} has {len(cell)} rows, not one for each of {len(subsets)} subsets and {len(ids)} ids"
        )
    lengths = np.unique(pc.list_value_length(rows["statistics"]))
    if len(lengths) != 1:
        raise ValueError(f"{path}: the statistics of {encoder} differ in length")
    statistics = np.empty((len(cell), int(lengths[0])))
    statistics[cell] = np.asarray(pc.list_flatten(rows["statistics"])).reshape(statistics.shape)
    units = rows["unit"].to_pylist() if "unit" in columns else names
    unit_of = dict(zip(names, units, strict=True))
    return Statistics(subsets, ids, statistics.reshape(len(subsets), len(ids), -1), [unit_of[name] for name in ids])
