"""Numbers of a device against those of the CPU and of float64; on a CPU, small and for the sake of the code alone.

    FACEREP_PLATFORMS=cuda,cpu .venv/bin/python -m pytest -m gpu

`python -m benchmarks.device` runs the same without pytest, and with the speeds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import device_numbers

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]


def on_cpu():
    return jax.default_backend() == "cpu"


def said(part, **settings):
    lines = []
    part(lambda **found: lines.append(found), **settings)
    assert lines
    assert not [line for line in lines if line.get("ok") is False]
    return lines


def test_losses_gradients_attention_and_codes():
    size = dict(case="Nano", batch=4) if on_cpu() else dict(case="Ti", batch=16)
    lines = said(device_numbers.numbers, **size)
    assert {"bfloat16 against float32 on the CPU: gradient", "float32 in full against the CPU: gradient"} <= {
        line["check"] for line in lines
    }


def test_a_resume_is_equal_to_the_bit(tmp_path):
    """On a GPU, sums over equal tokens are in any order unless XLA is told otherwise, when it starts."""
    if on_cpu():
        said(device_numbers.resume, folder=str(tmp_path), name="here")
        return
    env = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"}
    env["XLA_CLIENT_MEM_FRACTION"] = "0.1"  # this process has reserved most of the GPU's memory
    settings = json.dumps({"folder": str(tmp_path), "name": "deterministic"})
    command = [sys.executable, "-m", "benchmarks.device_parts", "device_numbers:resume", settings, tmp_path / "lines"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    assert '"ok": true' in (tmp_path / "lines").read_text()
