"""Cache of compiled programs in the workdir, so that a run that is started again need not compile again."""

import hashlib
import json
import os
from pathlib import Path

import jax
import jaxlib
from jax.extend.backend import get_backend

FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # environment variables that change what is compiled


def keep(folder: Path) -> None:
    """Cache compiled programs below a folder from now on, and reuse those that an equal machine compiled before.

    JAX looks a program up by its text and by the versions of compiler and device. On CPUs the machine code also depends
    on the host's instruction set, which is not part of that key, so each kind of host gets a folder of its own. Anybody
    who can write into the folder can have code executed. If JAX already has a cache folder, it is left as it is.
    """
    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / machine()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def machine() -> str:
    """A digest of everything that compiled code depends on besides the program."""
    backend = get_backend()
    facts = [jax.__version__, jaxlib.__version__, backend.platform_version, jax.devices()[0].device_kind]
    facts += [os.environ.get(name, "") for name in FLAGS]
    if backend.platform == "cpu":
        cpu = Path("/proc/cpuinfo")
        lines = cpu.read_text().splitlines() if cpu.exists() else []
        facts += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
