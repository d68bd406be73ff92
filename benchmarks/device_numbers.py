"""What a device computes, against what it should: parts of `benchmarks.device`, see `benchmarks.device_parts`."""

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import farl_step
from benchmarks.device_parts import DEFAULT, Say, one_line
from benchmarks.farl_step import CASES, batch_of
from facerep_jax import cli
from facerep_jax.models.attention import EINSUM, PROGRAMS
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.train.checkpoint import load_parts
from facerep_jax.train.state import flat

# A run of a tiny model, which is gone on with at its first checkpoint.
SHORT_RUN = (
    "--config=configs/pretrain/farl.py:smoke",
    *("--config.steps=12", "--config.log_every=1", "--config.ema=0.9", "--config.checkpoint_every=4"),
    "--config.operational.sample_ledger=True",
)
FIRST, LAST = 4, 12  # steps of its checkpoints


def numbers(say: Say, *, case: str, batch: int, dtypes: Sequence[str] = ("float32", "bfloat16")) -> None:
    """Compare the device with this machine's CPU and with NumPy in float64."""
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    cpu = jax.devices("cpu")[0]
    true_loss, true = first_step(case, batch, cpu, "float32", None)
    exact = joined(true)

    def compare(name: str, dtype: str, precision: str | None, loss_limit: float | None, limit: float | None) -> None:
        loss, found = first_step(case, batch, device, dtype, None if on_cpu else precision)
        said(say, f"{name}: loss", abs(loss - true_loss) / abs(true_loss), loss_limit)
        said(say, f"{name}: gradient", relative(joined(found), exact), limit)
        # That of a key's bias is 0 but for rounding: small arrays are compared with a small share of the whole.
        least = 1e-3 * np.linalg.norm(exact)
        errors = {path: relative(x, true[path], least) for path, x in found.items()}
        worst = max(errors, key=errors.__getitem__)
        say(check=f"{name}: gradient of one array, at worst", value=errors[worst], array=worst)

    if "float32" in dtypes:
        compare("float32 in full against the CPU", "float32", "highest", 1e-5, 1e-3)
    if "bfloat16" in dtypes:
        compare("bfloat16 against float32 on the CPU", "bfloat16", "highest", 2e-2, 0.2)
    attention(say, device)
    codes(say, case, batch, device)
    if not on_cpu:  # products in TF32, by which near ties get other codes
        compare("float32 by default against the CPU", "float32", None, 2e-2, None)


def joined(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """All arrays as one vector, in the order of their names."""
    return np.concatenate([arrays[path].ravel() for path in sorted(arrays)])


def said(say: Say, name: str, value: float, limit: float | None) -> None:
    """Say how far off something is; with a limit, whether it is within it."""
    say(check=name, value=value, limit=limit, ok=None if limit is None else bool(value <= limit))


def relative(found: np.ndarray, true: np.ndarray, least: float = 1e-30) -> float:
    """The norm of the difference over that of the true values, or over `least`; infinite if something is not finite."""
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    error = np.linalg.norm(found - true) / max(np.linalg.norm(true), least)
    return float(error) if np.isfinite(error) else float("inf")


@functools.cache
def first_step(
    case: str, batch: int, device: Any, dtype: str, precision: str | None
) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of a model's first step on a device, and its gradient by path: Adam's first moment is a tenth of it."""
    cpu = jax.devices("cpu")[0]
    sized = CASES[case]._replace(batch=batch)
    side = farl_step.ours(sized, remat=DEFAULT, dtype=dtype)
    with jax.default_device(cpu):
        state = side.first_state()  # drawn on one device for all: another may round differently
    inputs = jax.device_put((state, side.frozen, batch_of(sized)), device)
    with jax.default_matmul_precision(precision):
        state, metrics = jax.jit(side.step, donate_argnums=0)(*inputs)
    moments = optax.tree.get(state.opt_state, "mu")
    return float(metrics["loss"]), {path: 10 * np.asarray(x) for path, x in flat(moments).items()}


def attention(say: Say, device: Any) -> None:
    """The ways to compute attention against NumPy in float64, with and without a causal mask."""
    rng = np.random.default_rng(0)
    for causal, length in ((False, 197), (True, 77)):
        q, k, v = (x.astype(jnp.bfloat16) for x in rng.normal(size=(3, 2, length, 4, 64)).astype(np.float32))
        scores = np.einsum("bnke,bmke->bknm", *(x.astype(np.float64) for x in (q, k))) / 8
        if causal:
            scores[..., ~np.tri(length, dtype=bool)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        true = np.einsum("bknm,bmke->bnke", weights / weights.sum(-1, keepdims=True), v.astype(np.float64))
        for name in (EINSUM, "cudnn") if device.platform == "gpu" else (EINSUM,):
            of = jax.jit(PROGRAMS[name], static_argnames="causal")
            try:
                error = relative(np.asarray(of(*jax.device_put((q, k, v), device), causal=causal)), true)
            except Exception as error:
                say(check=f"attention {name}, {length} tokens", problem=one_line(error))
                continue
            said(say, f"attention {name} in bfloat16 against float64, {length} tokens", error, 1e-2)


def codes(say: Say, case: str, batch: int, device: Any) -> None:
    """The share of patches whose code is another than that of the nearest centre in float64."""
    sized = CASES[case]._replace(batch=batch)
    image, centres = batch_of(sized)["image"], farl_step.centres()
    patch, cells = int(sized.variant.partition("/")[2]), farl_step.CELLS
    tokenizer = KMeansTokenizer(patch=patch, codes=len(centres), cells=cells, rngs=nnx.Rngs(params=0))
    tokenizer.centres.set_value(jnp.asarray(centres))

    x = image - image.mean((1, 2, 3), keepdims=True)  # float64 from here on
    x = x / (x.std((1, 2, 3), keepdims=True) + 1e-3)
    grid, side = sized.image_size // patch, patch // cells
    x = x.reshape(batch, grid, cells, side, grid, cells, side, 3).mean((3, 6)).transpose(0, 1, 3, 2, 4, 5)
    distance = np.square(centres.astype(np.float64)).sum(1) - 2 * x.reshape(batch, grid**2, -1) @ centres.T
    for precision, limit in (("highest", 0.01), (None, None)):
        with jax.default_matmul_precision(precision):
            found = jax.jit(tokenizer)(jax.device_put(image, device))
        share = float((np.asarray(found) != distance.argmin(-1)).mean())
        said(say, f"codes, products {precision or 'by default'}: share that differs from float64", share, limit)


def resume(say: Say, *, folder: str, name: str) -> None:
    """Whether a run that goes on from a checkpoint ends with the same state as one that was left alone."""
    whole, again = Path(folder) / "whole", Path(folder) / "again"
    run(whole)
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(whole, again)
    for path in (again / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > FIRST:
            shutil.rmtree(path)
    run(again)
    parts = [("params",), ("opt_state",)]
    there, here = (flat(load_parts(each, LAST, parts)) for each in (again, whole))
    other = [path for path, x in here.items() if not np.array_equal(np.asarray(x), np.asarray(there[path]))]
    said(say, f"resume, {name}: share of arrays that differ", len(other) / len(here), 0.0)


def run(workdir: Path) -> None:
    """The short run; raises RuntimeError if it fails."""
    if status := cli.main(["facerep", "pretrain", f"--workdir={workdir}", *SHORT_RUN]):
        raise RuntimeError(f"facerep pretrain ended with status {status}")
