"""Checkpoints by orbax: the state, the position in the data, the config and digests of frozen networks."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from facerep_jax.train.state import TrainState, flat
from facerep_jax.typing import Tree


class Checkpoints:
    """The checkpoints of one run, `FOLDER/STEP/`. Saving is asynchronous: it copies to the host, then writes."""

    def __init__(self, folder: Path, *, keep: int = 3):
        latest = ocp.checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=latest, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def latest(self) -> int | None:
        """The newest step that was saved whole."""
        return max(self._manager.all_steps(), default=None)

    def save(self, step: int, state: TrainState, meta: dict[str, Any]) -> None:
        """Begin to save; `meta` is JSON."""
        items = ocp.args.Composite(state=ocp.args.StandardSave(as_dict(state)), meta=ocp.args.JsonSave(meta))
        self._manager.save(step, args=items, force=True)

    def restore(self, step: int, like: TrainState, shardings: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state of a step, laid out by `shardings`, and its meta. `like` holds shapes."""
        target = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), as_dict(like), as_dict(shardings)
        )
        items = ocp.args.Composite(state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return TrainState(**{"ema": None, **restored["state"]}), restored["meta"]

    def wait(self) -> None:
        """Until all saves are complete; raises what went wrong in one."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def as_dict(state: TrainState) -> dict[str, Tree]:
    """A state by the names of its parts, without those that are not there."""
    return {name: part for name, part in state._asdict().items() if part is not None}


def steps_in(workdir: Path) -> list[int]:
    """The steps that a pre-training workdir holds whole checkpoints of, in order."""
    folders = (workdir / "checkpoints").glob("*/state")
    return sorted(int(folder.parent.name) for folder in folders if folder.parent.name.isdigit())


def find(name: str) -> tuple[Path, int]:
    """The workdir and step that `WORKDIR[@STEP]` names; FileNotFoundError where there is no such checkpoint."""
    workdir, step = Path(name), None
    if not workdir.is_dir():
        head, at, tail = name.rpartition("@")
        if at and tail.isdigit():
            workdir, step = Path(head), int(tail)
    steps = steps_in(workdir)
    if not steps:
        raise FileNotFoundError(f"no checkpoint in {workdir}; give WORKDIR[@STEP] of a pre-training, or random")
    if step is not None and step not in steps:
        raise FileNotFoundError(f"no checkpoint of step {step} in {workdir}; there are {', '.join(map(str, steps))}")
    return workdir, step if step is not None else steps[-1]


def load_part(workdir: Path, step: int, part: tuple[str, ...], like: Tree) -> Tree:
    """One sub-tree of a saved state, such as ("params", "encoder"), whole on every device.

    ValueError where it is of another architecture than `like`: names the first parameter that differs and both shapes.
    """
    folder = (workdir / "checkpoints" / str(step) / "state").resolve()
    checkpointer = ocp.PyTreeCheckpointer()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # orbax warns of a file that it does not write for a part of a checkpoint
    saved = checkpointer.metadata(folder).item_metadata.tree
    logging.set_verbosity(verbosity)
    for name in part:
        if name not in saved:
            raise ValueError(f"the checkpoint {workdir}@{step} holds no {'/'.join(part)}; it has: {', '.join(saved)}")
        saved = saved[name]
    there = {path: tuple(leaf.shape) for path, leaf in flat(saved).items()}
    here = {path: tuple(leaf.shape) for path, leaf in flat(like).items()}
    for path in sorted({*there, *here}):
        if there.get(path) != here.get(path):
            raise ValueError(
                f"the checkpoint {workdir}@{step} is of another architecture: {'/'.join((*part[1:], path))} is "
                f"{there.get(path, 'missing')} there and {here.get(path, 'missing')} in the config"
            )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
    for name in reversed(part):
        target = {name: target}
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    restored = checkpointer.restore(
        folder, args=ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
    )
    for name in part:
        restored = restored[name]
    return restored
