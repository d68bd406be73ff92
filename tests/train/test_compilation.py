"""What is compiled is kept, for machines that can run it."""

import os
import subprocess
import sys

import pytest

from facerep_jax.train import compilation

PROGRAM = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp
from facerep_jax.train import compilation
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
compilation.keep(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
factor = float(sys.argv[2])
print(float(jax.jit(lambda x: (factor * jnp.sin(x)).sum())(jnp.arange(5.0))))
print(sum("cache_hits" in event for event in hits))
"""


def run(folder, factor, **environment):
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(factor)]
    done = subprocess.run(command, env={**env, **environment}, capture_output=True, text=True, check=True)
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_a_program_is_compiled_once_and_another_program_or_flag_is_another(tmp_path):
    """Tried: no folder for each kind of machine."""
    first = run(tmp_path, 1.5)
    assert first[1] == 0
    again = run(tmp_path, 1.5)
    assert again[0] == first[0]
    assert again[1] > 0
    assert run(tmp_path, 2.5)[0] == pytest.approx(first[0] * 2.5 / 1.5)
    assert len(list(tmp_path.iterdir())) == 1
    assert run(tmp_path, 1.5, XLA_FLAGS="--xla_force_host_platform_device_count=2")[1] == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_host_with_other_instructions_is_another_machine(monkeypatch, tmp_path):
    here = compilation.machine()
    assert here == compilation.machine()
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("model name : another\nflags : sse2\n")
    monkeypatch.setattr(compilation, "Path", lambda _: cpu)
    assert compilation.machine() != here
