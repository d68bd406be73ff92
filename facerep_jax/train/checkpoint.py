"""Checkpoints, written by orbax: state, position in the data, config, digests of data sets and frozen networks."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint._src.serialization import tensorstore_utils

from facerep_jax import lock
from facerep_jax.files import local_path
from facerep_jax.train import digests, distributed
from facerep_jax.train.state import TrainState, flat, mismatch
from facerep_jax.typing import Tree

DAMAGED = ".damaged"  # suffix of a checkpoint that was set aside
DELETED = ".deleted"  # suffix of what is being removed
UNFINISHED = "*.orbax-checkpoint-tmp*"  # what orbax calls a checkpoint until all of it is written
SHARED = 2**24  # bytes; replicas share the writing of an array only if each then writes at least as much
TRIAL = ".trial"  # a folder that is made and removed before each save


class SaveFailed(Exception):
    """A checkpoint could not be written; earlier checkpoints are untouched."""


class Checkpoints:
    """The checkpoints of one run, in `FOLDER/STEP/`.

    Saving is asynchronous and has three stages: the state is copied to the host, orbax writes it, and then it is sealed
    with the digests of all its files. Only a sealed checkpoint counts, and an older one is removed only once a newer
    one is sealed, so that a crash at any moment leaves a whole checkpoint behind. All processes must see the folder.

    What cannot be removed, since a file in it is still open somewhere (.nfs*, EBUSY), is said once and tried again
    after each save and at each start.
    """

    def __init__(self, folder: Path, *, keep: int = 3):
        self._folder, self._keep = folder.resolve(), keep
        self._stuck: set[str] = set()  # names of what could not be removed or set aside, which was said
        self._in_the_way: set[int] = set()  # damaged steps that could not be set aside
        self._folder.mkdir(parents=True, exist_ok=True)
        if not lock.works(self._folder):
            lock_no_files()
        share_large_arrays_alone()
        if distributed.first():
            for left in self._folder.glob(UNFINISHED):
                self._retire(left)
            self._remove_retired()
        # orbax removes nothing by itself: it does not know which checkpoints are sealed, and fails where it cannot.
        self._manager = ocp.CheckpointManager(self._folder, options=ocp.CheckpointManagerOptions())
        self._writing: int | None = None  # the step that is being written or sealed
        self._sealing: Future[None] | None = None  # set once orbax has finished writing
        self._pool = ThreadPoolExecutor(1)
        self._whole = set(digests.sealed_steps(self._folder))

    def latest(self) -> int | None:
        """The newest undamaged step, or None if there is none; newer, damaged checkpoints are logged and set aside.

        Raises:
            ValueError: if checkpoints were sealed, but all of them are damaged. Beginning again from scratch would
                write over what can perhaps still be rescued.
        """
        problems: dict[Path, str] = {}
        for step in reversed(digests.all_steps(self._folder)):
            folder = self._folder / str(step)
            problem = agreed(digests.fault(folder, jax.process_index(), jax.process_count()))
            if not problem:
                break
            problems[folder] = problem
        else:
            step = None
            if lost := [path for path in problems if digests.sealed(path)]:
                raise ValueError(
                    f"no checkpoint in {self._folder} is undamaged: {lost[0].name}: {problems[lost[0]]}; mend one, or "
                    "begin again in another --workdir"
                )
        for folder, problem in problems.items():
            logging.error("checkpoint %s is damaged: %s; set aside", folder.name, problem)
            self._set_aside(folder)
        return step

    def _set_aside(self, folder: Path) -> None:
        failed = False

        def rename() -> None:
            nonlocal failed
            try:
                os.rename(folder, unused(folder, DAMAGED))
            except OSError as error:
                failed = True
                self._say_stuck(folder, "set aside", error)

        distributed.together(f"damaged {folder.name}")
        distributed.by_first("setting a checkpoint aside", rename)
        step = int(folder.name)
        self._in_the_way = self._in_the_way - {step} | ({step} if distributed.anyone(failed) else set())
        self._whole.discard(step)
        self._manager.reload()

    def save(self, step: int, state: TrainState, meta: dict[str, Any]) -> None:
        """Begin to save, after waiting for the previous save; `meta` is JSON data.

        Raises:
            SaveFailed: if the previous save failed, or this one cannot begin.
        """
        self.wait()
        gone = sorted(self._whole - set(digests.all_steps(self._folder)))
        if gone and distributed.first():
            logging.error("%s: somebody removed the checkpoints %s", self._folder, ", ".join(map(str, gone)))
        self._whole -= set(gone)
        items = ocp.args.Composite(state=ocp.args.StandardSave(as_dict(state)), meta=ocp.args.JsonSave(meta))
        self._writing = step
        if step in self._in_the_way:
            self._set_aside(self._folder / str(step))
        try:
            distributed.by_first("a save", self._try_folder)
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._failed(error) from error

    def _try_folder(self) -> None:
        """Raise OSError if the folder cannot be written to: orbax's threads would wait minutes for such a folder."""
        trial = self._folder / TRIAL
        trial.mkdir(parents=True, exist_ok=True)
        trial.rmdir()

    def poll(self) -> None:
        """Seal what orbax has finished writing, without waiting; call it at each step. Raises SaveFailed on failure."""
        if self._writing is not None and not self._manager.is_saving_in_progress():
            self._seal()
        if self._sealing is not None and self._sealing.done():
            self._finish_sealing()

    def wait(self) -> None:
        """Wait until the last save is written and sealed. Raises SaveFailed if it failed."""
        if self._writing is not None and self._sealing is None:
            self._seal()
        self._finish_sealing()

    def _seal(self) -> None:
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # the file system, orbax and tensorstore raise errors of many kinds
            raise self._failed(error) from error
        if self._sealing is None and self._writing is not None:
            self._sealing = self._pool.submit(self._seal_and_retire, self._writing)

    def _finish_sealing(self) -> None:
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            try:
                sealing.result()
            except OSError as error:
                raise self._failed(error) from error
            self._writing = None
            self._whole = set(digests.sealed_steps(self._folder))

    def _seal_and_retire(self, step: int) -> None:
        # Runs in a thread, so hashing gigabytes does not hold training up. Each process hashes the files that it wrote.
        folder, processes = self._folder / str(step), jax.process_count()
        digests.seal(folder, jax.process_index(), processes)
        if not distributed.first():
            return
        # The checkpoint is sealed only once all processes have left their digests. The first process watches for the
        # files instead of meeting the others in a collective, which could interleave with those of a training step.
        deadline = time.monotonic() + distributed.PATIENCE
        while not digests.sealed(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        # If some process never sealed its part, `whole[-1]` is an older step and everything from it on stays.
        whole = digests.sealed_steps(self._folder)
        for old in digests.all_steps(self._folder):
            if whole and old < whole[-1] and old not in whole[-self._keep :]:
                self._retire(self._folder / str(old))
        self._remove_retired()

    def _retire(self, path: Path) -> None:
        """Give a folder the name of one that is being removed, at once, so that nobody finds it half removed."""
        try:
            os.rename(path, unused(path, DELETED))
        except OSError as error:
            self._say_stuck(path, "removed", error)

    def _remove_retired(self) -> None:
        for doomed in self._folder.glob(f"*{DELETED}"):
            try:
                shutil.rmtree(doomed)
            except OSError as error:
                with suppress(OSError):
                    shutil.rmtree(doomed, ignore_errors=True)  # the rest of it, to make room
                if doomed.exists():
                    self._say_stuck(doomed, "removed", error)

    def _say_stuck(self, path: Path, what: str, error: OSError) -> None:
        if path.name not in self._stuck:
            self._stuck.add(path.name)
            logging.warning("%s cannot be %s now and is tried again later: %s", path, what, error)

    def _failed(self, error: Exception) -> SaveFailed:
        step, self._writing, self._sealing = self._writing, None, None
        before = digests.sealed_steps(self._folder)
        newest = f"the newest checkpoint is step {before[-1]}" if before else "there is no checkpoint"
        reason = " ".join(str(error).split()).partition(" [tensorstore_spec")[0]
        return SaveFailed(f"step {step} could not be saved: {reason}; {newest}")

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state of a step and its meta; `like` holds the expected shapes, types and shardings.

        Raises:
            ValueError: if a saved array has another shape or type, which orbax would silently convert.
        """
        if problem := mismatch(flat(metadata(self._folder / str(step))), flat(as_dict(like))):
            raise ValueError(f"the checkpoint {self._folder.parent}@{step} is of another architecture: {problem}")
        items = ocp.args.Composite(state=ocp.args.StandardRestore(as_dict(like)), meta=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return TrainState(**{"ema": None, **restored["state"]}), restored["meta"]

    def close(self) -> None:
        """Finish the last save and release the folder; a failure is only logged. Call `wait` to have it raised."""
        try:
            self.wait()
        except SaveFailed as error:
            logging.error("%s", error)
        self._pool.shutdown()
        self._manager.close()


def share_large_arrays_alone() -> None:
    """Let orbax divide the writing of an array among its replicas only if the parts are large.

    orbax cuts out each part with a program of its own, compiled at the first save. For 60 arrays on 8 devices this
    takes half a minute.
    """
    store = ocp.type_handlers.get_type_handler(jax.Array)._array_metadata_store  # has no public access
    handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SHARED, array_metadata_store=store)
    with only_errors():
        ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)


def lock_no_files() -> None:
    """Let tensorstore write without locks, where the file system has none; each file has only one writer anyway."""
    for context in (tensorstore_utils._BASE_TS_CONTEXT, tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT):
        context["file_io_locking"] = {"mode": "none"}  # orbax hands this on to every array, and offers no setting


def unused(path: Path, suffix: str) -> Path:
    """The path with a suffix, as often as it takes for nothing to be there."""
    path = path.with_name(path.name + suffix)
    return unused(path, suffix) if path.exists() else path


def agreed(problem: str) -> str:
    """This process's problem, or a note that another process has one; empty on all processes or on none."""
    found = distributed.anyone(bool(problem))
    return problem or ("another process found it so" if found else "")


def as_dict(state: TrainState) -> dict[str, Tree]:
    """The parts of a state by name, without those that are None."""
    return {name: part for name, part in state._asdict().items() if part is not None}


def steps_in(workdir: Path) -> list[int]:
    """The steps of a workdir's sealed checkpoints, in order; their bytes are not checked."""
    return digests.sealed_steps(workdir / "checkpoints")


def find(name: str) -> tuple[Path, int]:
    """The workdir and step that `WORKDIR[@STEP]` names; without a step, the newest undamaged checkpoint.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint of the step is damaged, or all are.
    """
    workdir, wanted = local_path("checkpoint", name), None
    if not workdir.is_dir():
        head, at, tail = name.rpartition("@")
        if at and tail.isdigit():
            workdir, wanted = local_path("checkpoint", head), int(tail)
    folder = workdir / "checkpoints"
    steps = digests.all_steps(folder)
    if not steps:
        if meant := nearly(workdir):
            raise FileNotFoundError(f"no checkpoint in {workdir}; did you mean {meant}?")
        raise FileNotFoundError(f"no checkpoint in {workdir}; give WORKDIR[@STEP] of a pre-training, or random")
    if wanted is not None and wanted not in steps:
        raise FileNotFoundError(f"no checkpoint of step {wanted} in {workdir}; there are {', '.join(map(str, steps))}")
    for step in reversed(steps) if wanted is None else [wanted]:
        if not (problem := digests.fault(folder / str(step))):
            return workdir, step
        logging.error("checkpoint %s@%d is damaged: %s", workdir, step, problem)
    raise ValueError(f"{name}: no checkpoint there is undamaged; the last one tried: {problem}")


def nearly(path: Path) -> str:
    """The checkpoint that WORKDIR/checkpoints[/STEP] or WORKDIR@WORD means; empty if there is none."""
    for folder in (path.parent, path):
        if folder.name == "checkpoints" and digests.all_steps(folder):
            return f"{folder.parent}@{path.name}" if path.name.isdigit() else str(folder.parent)
    workdir = str(path).rpartition("@")[0]
    return workdir if workdir and digests.all_steps(Path(workdir) / "checkpoints") else ""


def metadata(folder: Path) -> Tree:
    """Shapes and types of a saved state."""
    with only_errors():  # orbax warns of a file that it never writes for one item of a checkpoint
        return reader().metadata(folder / "state").item_metadata.tree


def reader() -> ocp.Checkpointer:
    """Reads checkpoints in this process alone; by default orbax would wait at a barrier until all processes do."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextmanager
def only_errors() -> Iterator[None]:
    """Suppress warnings inside this context, and log errors only."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    yield
    logging.set_verbosity(verbosity)


def load_parts(workdir: Path, step: int, parts: Sequence[tuple[str, ...]]) -> list[Tree]:
    """Some sub-trees of a saved state, such as ("params", "encoder"), on one device; {} for those that do not exist."""
    folder = (workdir / "checkpoints" / str(step)).resolve()
    saved = metadata(folder)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target: dict[str, Any] = {}
    for part in parts:
        if leaves := below(saved, part):
            node = target
            for name in part[:-1]:
                node = node.setdefault(name, {})
            node[part[-1]] = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), leaves)
    if not target:
        return [{} for _ in parts]
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    restored = reader().restore(
        folder / "state", args=ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
    )
    return [below(restored, part) for part in parts]


def below(tree: Tree, part: tuple[str, ...]) -> Tree:
    """The sub-tree at a path of nested dicts; {} if there is none."""
    for name in part:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return {} if tree is None else tree
