"""The devices that a command runs on, and what is to be said of them before its first step."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging
from jax._src import hardware_utils, xla_bridge  # nothing public tells what is there but not used, and why

PLATFORMS = ("gpu", "tpu", "cpu")
DRIVERS = {13: 580, 12: 525}  # CUDA's version -> the oldest of NVIDIA's drivers that it runs on
DRIVER = Path("/proc/driver/nvidia/version")
FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # variables of what jax reserves of a GPU
RESERVED = 0.75  # of a GPU's memory, by jax at its first use, if no variable says otherwise
SHARED = 0.9  # of a GPU's memory, by all commands that share it
SMI = ("nvidia-smi", "--query-gpu=index,uuid,memory.used,memory.total", "--format=csv,noheader,nounits")


def check(wanted: str = "") -> None:
    """Start jax on its devices, and log what is wrong with them: a GPU or TPU that is not used, or used by others.

    Args:
        wanted: the platform that it must be, one of `PLATFORMS`; empty for any.

    Raises:
        ValueError: it is another platform, or jax cannot start.
    """
    if wanted not in ("", *PLATFORMS):
        raise ValueError(f"operational.platform is {', '.join(PLATFORMS)} or empty, not {wanted!r}")
    for line in crowding():
        logging.warning("%s", line)
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter if what the user chose is not there
        said = [str(error), unused("nothing"), f"JAX_PLATFORMS is {chosen()}" if chosen() else ""]
        raise ValueError(f"jax cannot start: {'; '.join(filter(None, said))}") from error
    idle = unused(found)
    if wanted and found != wanted:
        reason = "JAX_PLATFORMS=cpu chooses it" if wanted == "cpu" else idle
        reason = reason or (f"JAX_PLATFORMS is {chosen()}" if chosen() else "there is none that jax knows")
        raise ValueError(f"operational.platform insists on {wanted}, and jax runs on {found}: {reason}")
    if idle:
        logging.warning("%s. In pre-training, --config.operational.platform=gpu or tpu refuses to go on so", idle)


def unused(found: str) -> str:
    """Which GPU or TPU of this machine jax does not use, and why, in words; empty if there is none.

    Args:
        found: the platform that jax runs on.
    """
    if found in ("gpu", "tpu") or chosen() == "cpu":
        return ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1", "NoDevFiles")
    if hardware_utils.has_visible_nvidia_gpu() and not hidden:
        return f"this machine has an NVIDIA GPU, but jax runs on {found}: {why_no_cuda()}"
    if hardware_utils.num_available_amd_gpus(stop_at=1) > 0:
        return f"this machine has an AMD GPU, but jax runs on {found}: it needs jax's plugin for ROCm"
    if hardware_utils.num_available_tpu_chips_and_device_id()[0]:
        return f"this machine has a TPU, but jax runs on {found}: pip install 'facerep_jax[tpu]'"
    return ""


def chosen() -> str:
    """The platform that the user chose for jax, or the first of them; empty if none."""
    return (jax.config.values["jax_platforms"] or "").partition(",")[0]


def why_no_cuda() -> str:
    """Why jax does not use an NVIDIA GPU, and what to do."""
    driver, plugins = driver_version(), {cuda: version_of(f"jax-cuda{cuda}-plugin") for cuda in DRIVERS}
    fitting = [f"pip install 'facerep_jax[cuda{cuda}]'" for cuda, oldest in DRIVERS.items() if driver >= oldest]
    cure = fitting[0] if fitting else f"update the driver, which is {driver}: CUDA 12 needs {DRIVERS[12]}"
    installed = [cuda for cuda, version in plugins.items() if version]
    if not installed:
        return f"jax's plugin for CUDA is not installed: {cure}"
    if len(installed) > 1:
        return "the plugins for CUDA 12 and 13 are both installed: pip uninstall jax-cuda12-plugin, or the other"
    (cuda,) = installed
    if driver < DRIVERS[cuda]:
        return f"the plugin for CUDA {cuda} needs driver {DRIVERS[cuda]}, and it is {driver}: {cure}"
    if plugins[cuda] != (jaxlib := version_of("jaxlib")):
        return f"jax-cuda{cuda}-plugin is of version {plugins[cuda]} and jaxlib of {jaxlib}: {cure}"
    return xla_bridge._backend_errors.get("cuda", "jax does not say why; set TF_CPP_MIN_LOG_LEVEL=0 to hear more")


def driver_version() -> int:
    """The first number of the version of NVIDIA's driver; as new as can be if it is not known."""
    found = re.search(r"Module.*?\s(\d+)\.\d", DRIVER.read_text()) if DRIVER.exists() else None
    return int(found[1]) if found else sys.maxsize


def version_of(package: str) -> str:
    """The version of an installed package; empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class Gpu(NamedTuple):
    """One of the GPUs that this command is to use."""

    name: str  # its number, as nvidia-smi counts
    used: float  # share of its memory that others use


def crowded() -> list[Gpu]:
    """The GPUs whose memory others use so much that jax cannot reserve its share; asks nvidia-smi, if it is there."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen() in ("cpu", "tpu") or shown == "":
        return []
    try:
        lines = subprocess.run(SMI, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
        rows = [[cell.strip() for cell in line.split(",")] for line in lines]
        gpus = {(index, uuid): Gpu(index, float(used) / float(total)) for index, uuid, used, total in rows}
    except (OSError, subprocess.SubprocessError, ValueError, ZeroDivisionError):
        return []  # it is not there, or says something else
    if shown is not None:
        words = [word.strip() for word in shown.split(",")]
        gpus = {key: gpus[key] for word in words for key in gpus if word == key[0] or key[1].startswith(word)}
    own = xla_bridge.CUDA_VISIBLE_DEVICES.value  # which of those, if other processes of the run have the others
    numbers = range(len(gpus)) if own == "all" else [int(number) for number in own.split(",")]
    mine = [gpu for number, gpu in enumerate(gpus.values()) if number in numbers]
    return [gpu for gpu in mine if gpu.used > 1 - reserved()]


def crowding() -> list[str]:
    """What may become of it that others use much of a GPU's memory, and what to do."""
    return [
        f"GPU {gpu.name}: other commands use {100 * gpu.used:.0f} % of its memory, and this one is to reserve "
        f"{100 * reserved():.0f} %: one of them may run out of it; start each with a share, such as {FRACTIONS[0]}=0.4"
        for gpu in crowded()
    ]


def reserved() -> float:
    """The share of a GPU's memory that jax reserves at its first use."""
    if os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") in ("false", "False", "0"):
        return 0.0
    return float(next(filter(None, map(os.environ.get, FRACTIONS)), RESERVED))


def share(jobs: int) -> dict[str, str]:
    """Variables that let a number of commands share each GPU; none for one command, or if the user has set some."""
    given = any(name in os.environ for name in (*FRACTIONS, "XLA_PYTHON_CLIENT_PREALLOCATE"))
    return {} if jobs == 1 or given else {FRACTIONS[0]: f"{SHARED / jobs:.3f}"}


def lacks_bfloat16(device: Any) -> bool:
    """Whether a jax device has no units for bfloat16, as CPUs, and NVIDIA's GPUs before Ampere (V100, T4)."""
    capability = re.fullmatch(r"(\d+)\.\d+", str(getattr(device, "compute_capability", "")))
    return device.platform == "cpu" or (capability is not None and int(capability[1]) < 8)


def compute_dtype(name: str) -> str:
    """The type of matrix products that a config names; `auto` is bfloat16 where devices have units for it.

    Raises ValueError for any other name than auto, float32 and bfloat16.
    """
    if name not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"dtype is auto, float32 or bfloat16, not {name!r}")
    if name == "auto":
        return "float32" if lacks_bfloat16(jax.devices()[0]) else "bfloat16"
    return name


def slow_dtype(name: str) -> str:
    """That a config's `dtype` asks for what the device has no units for, and what to do; empty if it does not."""
    device = jax.devices()[0]
    if compute_dtype(name) == "bfloat16" and lacks_bfloat16(device):
        return f"{device.device_kind} has no units for bfloat16: --config.dtype=float32 is faster there"
    return ""


def check_dtype(name: str) -> None:
    """Log if a config's `dtype` asks for what the device has no units for, or `auto` decides against bfloat16."""
    device = jax.devices()[0]
    if slow := slow_dtype(name):
        logging.warning("%s", slow)
    elif name == "auto" and device.platform != "cpu" and lacks_bfloat16(device):
        logging.warning("%s has no units for bfloat16: dtype=auto is float32 there", device.device_kind)
