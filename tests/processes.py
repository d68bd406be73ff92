"""Runs of `facerep pretrain` as users start them, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from facerep_jax.train.state import flat

SMOKE = "configs/pretrain/farl.py:smoke"
ROOT = Path(__file__).parent.parent


def facerep(workdir: Path, *flags: str, devices: int = 8) -> subprocess.Popen[str]:
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, "-m", "facerep_jax.cli", "pretrain", f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=900)
    return process.returncode, out + err


def metrics(workdir: Path) -> dict[int, dict[str, float]]:
    """Of each step, the last that was written."""
    path = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["step"]: line for line in lines}


def saved(workdir: Path, step: int) -> dict[str, np.ndarray]:
    folder = workdir / "checkpoints" / str(step) / "state"
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(folder).item_metadata.tree
    args = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=sharding), tree)
    restored = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=args))
    return {path: np.asarray(leaf) for path, leaf in flat(restored).items()}


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)
