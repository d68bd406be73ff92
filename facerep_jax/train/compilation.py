"""Compiled programs that outlive their process, so that a run that starts again does not compile again."""

import hashlib
import json
import os
from pathlib import Path

import jax
import jaxlib
from jax.extend.backend import get_backend

FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # of the environment


def keep(folder: Path) -> None:
    """Keep what is compiled from now on below a folder, and take from there what an equal machine compiled before.

    JAX looks a program up by its text and the versions of compiler and device. A folder for each kind of host comes on
    top: on CPUs the machine code is for the host's own instructions, which are no part of that. Whoever can write into
    the folder can have code run. A cache that JAX was told of otherwise is left as it is.
    """
    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / machine()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def machine() -> str:
    """What compiled code depends on besides the program, in a word."""
    backend = get_backend()
    facts = [jax.__version__, jaxlib.__version__, backend.platform_version, jax.devices()[0].device_kind]
    facts += [os.environ.get(name, "") for name in FLAGS]
    if backend.platform == "cpu":
        cpu = Path("/proc/cpuinfo")
        lines = cpu.read_text().splitlines() if cpu.exists() else []
        facts += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
