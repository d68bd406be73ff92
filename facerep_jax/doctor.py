"""Say what this machine has, what a config needs of it, and what to do where they differ.

facerep doctor --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl

Both flags may be left out. Under a launcher (srun, mpirun, a pod) start it in place of `facerep pretrain`: each process
says what it finds and which of the run's processes it would be; it waits for no other and trains nothing. One line says
what is here for each subject, then one what does not fit and its cure. The exit status is 0 if everything fits, and 1
if something does not.
"""

import fcntl
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from facerep_jax import lock
from facerep_jax.command_line import require_kind
from facerep_jax.data.library import open_dataset
from facerep_jax.data.processes import SHARED
from facerep_jax.files import local_path, writable_folder
from facerep_jax.pretrain import assemble
from facerep_jax.train import clusters, hardware

PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "kubernetes")
WRITTEN = 2**26  # bytes that are written to learn a disk's speed
SKEW = 2.0  # seconds that the clocks of this machine and of a file server may differ


class Finding(NamedTuple):
    """What is here of one subject, and what of it does not fit."""

    subject: str
    here: str
    problems: tuple[str, ...] = ()  # each with its cure


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare the flags of the command line."""
    config_flags.DEFINE_config_file(
        "config", None, "recipe, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("workdir", None, "folder of a run", flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Print what is here and what does not fit, and return the exit status."""
    if words:
        raise ValueError(f"doctor takes flags only, but got {words[0]!r}")
    config = flag_values.config
    if config is not None:
        require_kind(config, "pretrain", "objective", "operational")
    problems = []
    for finding in findings(config, flag_values.workdir):
        print(f"{finding.subject:10s} {finding.here}", flush=True)
        problems += [problem for problem in finding.problems if problem not in problems]
    print("\n".join(["", f"{len(problems)} things do not fit:" if problems else "everything fits", *problems]))
    return int(bool(problems))


def findings(config: ConfigDict | None, workdir: str | None) -> Iterator[Finding]:
    """All findings, in an order in which jax is started late."""
    yield versions()
    yield host()
    for flag, folder in folders(config, workdir):
        yield of_folder(flag, folder)
    processes, alone = of_processes(config)
    yield processes
    devices, started = of_devices(config)
    yield devices
    if config is None or not started:
        return
    yield from of_data(config)
    if alone:
        yield of_config(config, workdir)
    else:
        yield Finding("config", "batch and mesh are looked at by `facerep pretrain`, when all processes have met")


def versions() -> Finding:
    """Versions of what a run rests on."""
    names = ("facerep_jax", "jax", "jaxlib", *PLUGINS)
    installed = [f"{name} {hardware.version_of(name)}" for name in names if hardware.version_of(name)]
    driver = [f"NVIDIA's driver {hardware.driver_version()}"] if hardware.DRIVER.exists() else []
    return Finding("versions", ", ".join([f"Python {platform.python_version()}", *installed, *driver]))


def host() -> Finding:
    """Cores and memory that this process may use."""
    cores, machine = usable_cores(), os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shared = f", {shutil.disk_usage(SHARED).free / 2**30:.1f} GiB free in {SHARED}" if SHARED.is_dir() else ""
    here = f"{socket.gethostname()}: {cores} of {machine} cores, {memory / 2**30:.0f} GiB of memory{shared}"
    if cores > 1 or machine == 1:
        return Finding("machine", here)
    cure = "srun --cpus-per-task=N" if "SLURM_JOB_ID" in os.environ else "see taskset, or the limits of the container"
    return Finding("machine", here, (f"1 of {machine} cores is too few to read and decode images: {cure}",))


def usable_cores() -> int:
    """How many cores this process may use, by its affinity and by the limits of its container."""
    cores, limit = len(os.sched_getaffinity(0)), Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = limit.read_text().partition(" ") if limit.exists() else ("max", "", "")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() else cores


# --- folders


def folders(config: ConfigDict | None, workdir: str | None) -> Iterator[tuple[str, Path]]:
    """The folders that are written to, or the nearest above that exist, by the flag that names them."""
    flag, folder = ("--workdir", local_path("--workdir", workdir)) if workdir else ("this folder", Path())
    yield flag, writable_folder(flag, folder)


def of_folder(flag: str, folder: Path) -> Finding:
    """What a folder's file system is, and what a run can rely on there."""
    kind, room = file_system(folder), shutil.disk_usage(folder)
    locks = {name: lock.works(folder, how) for name, how in (("flock", fcntl.flock), ("fcntl", fcntl.lockf))}
    speed, skew = write_speed(folder)
    problems = []
    if missing := [name for name, works in locks.items() if not works]:
        problems.append(
            f"{folder} ({kind}) has no locks of {' and '.join(missing)}: mount it with them (Lustre: -o flock, NFS: "
            f"without -o nolock), or live with a lease: a run that cannot renew it for {lock.LEASE:g} s ends"
        )
    if abs(skew) > SKEW:
        problems.append(
            f"{folder} is on a server whose clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this "
            "machine's: let both follow a time server (chrony)"
        )
    said = ", ".join(name for name, works in locks.items() if works) or "none"
    here = (
        f"{folder.absolute()}: {kind}, locks: {said}, {room.free / 2**30:.0f} GiB free, {speed / 1e6:.0f} MB/s written"
    )
    return Finding("workdir" if flag == "--workdir" else "folder", here, tuple(problems))


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, such as ext4 or nfs4, as the kernel names it."""
    where = folder.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(len(point), kind) for _, point, kind, *_ in mounts if where.is_relative_to(point)]
    return max(holding, default=(0, "unknown"))[1]


def write_speed(folder: Path) -> tuple[float, float]:
    """Bytes per second that reach the disk, and by how many seconds the file server's clock is ahead of this one's."""
    with tempfile.TemporaryFile(dir=folder) as file:
        begin = time.monotonic()
        file.write(bytes(WRITTEN))
        file.flush()
        os.fsync(file.fileno())
        seconds = time.monotonic() - begin
        return WRITTEN / seconds, os.fstat(file.fileno()).st_mtime - time.time()


# --- processes and devices


def of_processes(config: ConfigDict | None) -> tuple[Finding, bool]:
    """Which of a run's processes this would be, and whether it would be alone."""
    expected = config.operational.processes if config else 0
    try:
        place = None if expected == 1 else clusters.found()
    except ValueError as error:
        return Finding("processes", "unknown", (str(error),)), False
    count = place.processes if place else 1
    problems = []
    if count < expected:
        problems.append(
            f"--config.operational.processes expects {expected} processes and {count} would appear: "
            "start it by srun, mpirun or a Job, or give --coordinator, --processes and --process"
        )
    if place is None:
        return Finding("processes", "1: no launcher started others", tuple(problems)), True
    name = place.coordinator.rpartition(":")[0].strip("[]")
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        problems.append(
            f"the first process is to be met at {place.coordinator}, and this machine does not know {name} "
            f"({error.strerror}): export JAX_COORDINATOR_ADDRESS=HOST:PORT for all processes, with an address"
        )
    own = "all its GPUs" if place.gpus is None else f"its GPUs {', '.join(map(str, place.gpus))}"
    here = f"{place.process} of {count} by {place.starter}, to meet at {place.coordinator}; {own}"
    return Finding("processes", here, tuple(problems)), False


def of_devices(config: ConfigDict | None) -> tuple[Finding, bool]:
    """What jax runs on, and whether it runs."""
    problems = hardware.crowding()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others on this machine look at the same GPUs
    try:
        hardware.check(config.operational.platform if config else "")
    except ValueError as error:
        return Finding("devices", "none", (*problems, str(error))), False
    devices = jax.local_devices()
    problems += filter(None, [hardware.unused(jax.default_backend()), hidden_gpus(len(devices))])
    if config is not None:
        problems += filter(None, [hardware.slow_dtype(config.dtype)])
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    of_each = f" with {memory / 2**30:.0f} GiB each" if memory else ""
    here = f"{len(devices)} of {jax.default_backend()}, {devices[0].device_kind}{of_each}"
    return Finding("devices", here, tuple(problems)), True


def hidden_gpus(seen: int) -> str:
    """That this process and its siblings see fewer GPUs than the machine has, and what to do; empty if they do not."""
    there = clusters.gpus_of_machine()
    if jax.default_backend() != "gpu" or seen * clusters.processes_on_machine() >= there:
        return ""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    cure = f"CUDA_VISIBLE_DEVICES={shown} hides the others" if shown is not None else "the launcher hides the others"
    if "SLURM_JOB_ID" in os.environ:
        cure += "; one task for each node sees all with --gpus-per-node, and without --gpus-per-task and --gpu-bind"
    return f"{seen} of the {there} GPUs of this machine are seen: {cure}"


# --- configs


def of_data(config: ConfigDict) -> Iterator[Finding]:
    """The data sets of a config."""
    for name in config.data.dataset.split("+"):
        try:
            dataset = open_dataset(name, config.data.data_dir)
        except (FileNotFoundError, ValueError) as error:
            yield Finding("data", f"{name} is missing", (str(error),))
        else:
            yield Finding("data", f"{name}: {', '.join(f'{n:,} in {split}' for split, n in dataset.splits.items())}")


def of_config(config: ConfigDict, workdir: str | None) -> Finding:
    """Whether batch, mesh, sharding, shared memory and disk are enough for a config on the devices here."""
    try:
        run = assemble(config)
    except FileNotFoundError as error:  # a data set, of which another line speaks, or weights
        return Finding("config", "not looked at, since a file is missing", (str(error),))
    except ValueError as error:
        return Finding("config", "does not fit", (str(error),))
    run.stream.close()
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(run.shapes))
    keep = config.operational.keep_checkpoints
    _, folder = next(folders(config, workdir))
    needed, free = (keep + 1) * state, shutil.disk_usage(folder).free
    here = f"batch {config.data.batch_size} on mesh {dict(run.mesh.shape)}, {state / 2**30:.2f} GiB a checkpoint"
    if free > needed:
        return Finding("config", here)
    problem = (
        f"{keep} checkpoints and one that is being written need {needed / 2**30:.1f} GiB, and {folder} has "
        f"{free / 2**30:.1f} GiB free: another --workdir, or --config.operational.keep_checkpoints={max(keep - 1, 1)}"
    )
    return Finding("config", here, (problem,))
