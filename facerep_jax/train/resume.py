"""What may change in a config when its run resumes, and the record of what changed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import difference, plain
from facerep_jax.files import read_object, write
from facerep_jax.train import checkpoint, digests, distributed
from facerep_jax.train.handover import Handed

START = "init.json"
MAY_CHANGE = (
    "log_every",
    "checkpoint_",
    "mesh",
    "sharding",
    "operational",
    "evaluate",
    "data.micro_batches",
    "writers",
)  # beginnings of paths in a config


def changes_since_start(config: ConfigDict, workdir: Path) -> list[str]:
    """Lines that say what changed since the run began. Raises ValueError if something changed that may not."""
    if not has_begun(workdir):
        if steps := digests.all_steps(workdir / "checkpoints"):
            raise ValueError(f"{workdir} holds checkpoints ({steps[-1]}, ...) but no config.json that describes them")
        return []
    old, new = read_object(workdir / "config.json"), plain(config)
    changes = difference(old, new)
    step = (checkpoint.steps_in(workdir) or [0])[-1]
    more = ("data.weights:",) if extends(old["data"]["weights"], new["data"]["weights"], step) else ()
    if refused := [line for line in changes if not line.startswith(MAY_CHANGE + more)]:
        longer = new["steps"] > old["steps"]  # which schedules depend on
        cure = f"; to train its encoder further: --config.init={workdir} and another --workdir" if longer else ""
        raise ValueError(f"{workdir} is the run of another config: {'; '.join(refused)}{cure}")
    return changes


def has_begun(workdir: Path) -> bool:
    """Whether a run has begun in a folder: it has a config.json, without which other files are leftovers of a start."""
    return (workdir / "config.json").exists()


def extends(old: list[Any], new: list[Any], step: int) -> bool:
    """Whether a mixture's new weights are the old ones, followed by segments that begin at `step` or later."""
    return new[: len(old)] == old and all(start >= step for start, _ in new[len(old) :]) and bool(old)


def keep_start(handed: Handed | None, workdir: Path) -> None:
    """Write down which encoder a run starts from, as path, step, weights and digest, once; later compare.

    A name such as WORKDIR means its newest checkpoint, which is another one later on. Raises ValueError if the weights
    are not those that the run began with.
    """
    path = workdir / START
    if not has_begun(workdir):
        if distributed.first():
            path.unlink(missing_ok=True)
            if handed is not None:
                write(path, json.dumps(handed.origin, indent=2) + "\n")
    elif handed is not None and path.exists():
        began, now = read_object(path), handed.origin
        if began["digest"] != now["digest"]:
            then, later = (f"step {each['step']}, sha256 {each['digest'][:12]}" for each in (began, now))
            raise ValueError(
                f"config.init means other weights of {now['path']} ({later}) than when {workdir} began ({then}): "
                "bring those back, or begin again in another --workdir"
            )


def check_datasets(then: Mapping[str, str], now: Mapping[str, str], step: int) -> None:
    """Raise ValueError if a data set is not what it was when a step was saved.

    Args:
        then, now: name of a data set -> digest; names that only one of both has are passed over.
    """
    for name, digest in now.items():
        if then.get(name, digest) != digest:
            raise ValueError(
                f"data set {name!r} was prepared anew after step {step}, from another input or by another version of "
                "this program: bring the old one back, or begin again in another --workdir"
            )


def write_config(config: ConfigDict, changes: list[str], workdir: Path, step: int) -> None:
    """Write `config.json`, and append what changed at a resume to `config_changes.jsonl`."""
    if changes:
        with (workdir / "config_changes.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "changes": changes}) + "\n")
    write(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")
