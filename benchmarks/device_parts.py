"""What `benchmarks.device` runs in processes of its own, each of which says what it finds, one line at a time.

python -m benchmarks.device_parts MODULE:FUNCTION SETTINGS LINES

SETTINGS are the function's arguments as JSON, and LINES is the file that lines are appended to, which stay if what
comes after them fails.
"""

import gc
import importlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from jax.extend.backend import get_backend

from benchmarks import farl_step
from benchmarks.farl_step import CASES, OPTIMIZER, batch_of, torch_sizes
from facerep_jax import cli
from facerep_jax.config import spec
from facerep_jax.data import transforms
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import Part, Stream, build_transforms
from facerep_jax.models.attention import EINSUM
from facerep_jax.train.account import peak_flops
from facerep_jax.train.flops import of_jaxpr

Say = Callable[..., None]  # takes what is found by name
DEFAULT = "dots_with_no_batch_dims_saveable"  # remat of our configs
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
CHECKED = 3  # first steps whose losses are said


def card(say: Say) -> None:
    """The device and the software."""
    device = jax.devices()[0]
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        smi = subprocess.run(SMI, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        smi = ""
    say(
        kind=device.device_kind,
        platform=device.platform,
        compiler=get_backend().platform_version.splitlines()[0],
        nvidia_smi=smi,
        gigabytes=memory(device, "bytes_limit"),
        cores=len(os.sched_getaffinity(0)),
        python=sys.version.split()[0],
        versions=versions,
    )


def memory(device: Any, name: str) -> float | None:
    """A number of a device's memory statistics in GiB; None where it keeps none, as CPUs."""
    found = (device.memory_stats() or {}).get(name)
    return None if found is None else found / 2**30


class Pace(NamedTuple):
    """How to time steps: in `repeats` rows of as many steps as fill `seconds`."""

    repeats: int
    seconds: float

    def times(self, step: Callable[[int], Any]) -> list[float]:
        """Seconds of a step in each row; `step(n)` takes n steps and waits until they are done."""
        step(1)
        began = time.perf_counter()
        step(1)
        count = max(1, min(50, round(self.seconds / (time.perf_counter() - began))))
        found = []
        for _ in range(self.repeats):
            began = time.perf_counter()
            step(count)
            found.append((time.perf_counter() - began) / count)
        return found


def speed(batch: int, seconds: Sequence[float], flops: int, peak: float) -> dict[str, Any]:
    """Images per second, median and range over rows, and the share of the device's peak."""
    rates = [batch / each for each in seconds]
    rate = statistics.median(rates)
    mfu = rate * flops / peak if peak else None
    return dict(images_per_second=rate, least=min(rates), most=max(rates), flops_per_image=flops, mfu=mfu)


def in_time(batches: Sequence[int], seconds: float, say: Say) -> Iterator[int]:
    """The batch sizes, as long as the last one took no more than what is left of the time."""
    began = last = time.monotonic()
    for batch in batches:
        now = time.monotonic()
        if batch != batches[0] and now - last > seconds - (now - began):
            say(batch=batch, problem="no time is left for it")
            return
        last = now
        yield batch


def ours(
    say: Say,
    *,
    case: str,
    batches: Sequence[int],
    seconds: float,
    pace: Sequence[float],
    dtype: str = "bfloat16",
    remat: str = DEFAULT,
    attention: str = EINSUM,
    flops: int = 0,
    weights: str = "",
) -> None:
    """Time our step at rising batch sizes until memory or time ends; leaves its first weights in a file.

    Args:
        attention: a program of the encoder's attention, see `models.attention`.
        flops: operations for each image; by default they are counted on the trace, which misses those of cuDNN.
    """
    device = jax.devices()[0]
    peak = peak_flops(device.device_kind)
    try:
        for batch in in_time(batches, seconds, say):
            sized = CASES[case]._replace(batch=batch)
            side = farl_step.ours(sized, remat=remat, dtype=dtype, attention=attention)
            state = jax.device_put(side.first_state(), device)
            if weights and batch == batches[0]:
                side.write_weights(state, weights)
            frozen, rows = jax.device_put((side.frozen, batch_of(sized)), device)
            began = time.perf_counter()
            # Compiled ahead: what the compiler plans is known even where memory then ends.
            traced = jax.jit(side.step, donate_argnums=0).trace(state, frozen, rows)
            compiled = traced.lower().compile()
            compile_seconds = time.perf_counter() - began

            def take(steps: int, compiled: Any = compiled, rows: Any = rows, frozen: Any = frozen) -> float:
                nonlocal state
                for _ in range(steps):
                    state, metrics = compiled(state, frozen, rows)
                jax.block_until_ready(state)
                return float(metrics["loss"])

            flops = flops or of_jaxpr(traced.jaxpr.jaxpr) // batch
            losses = [take(1) for _ in range(CHECKED)]
            say(
                batch=batch,
                **speed(batch, Pace(*pace).times(take), flops, peak),
                peak_gigabytes=memory(device, "peak_bytes_in_use"),
                planned_gigabytes=planned(compiled),
                compile_seconds=compile_seconds,
                losses=losses,
                peak_flops=peak,
            )
            del state, rows, traced, compiled, take  # else two batches' worth would be held while the next is compiled
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        say(batch=batch, problem="out of memory")


def planned(compiled: Any) -> float | None:
    """GiB that a compiled program uses by the compiler's plan."""
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    kept = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return (kept + plan.temp_size_in_bytes) / 2**30


def theirs(
    say: Say,
    *,
    case: str,
    batches: Sequence[int],
    seconds: float,
    pace: Sequence[float],
    weights: str,
    flops: int,
    peak: float,
    compiled: bool = True,
    dtype: str = "bfloat16",
) -> None:
    """Time the same step in PyTorch, from the same weights."""
    try:
        import torch
    except ImportError:
        say(problem="PyTorch is not installed")
        return
    from benchmarks import torch_farl

    torch.set_float32_matmul_precision("high")  # TF32 for products of float32, which is jax's default
    cuda = torch.cuda.is_available()
    place = torch.device("cuda" if cuda else "cpu")
    try:
        for batch in in_time(batches, seconds, say):
            sized = CASES[case]._replace(batch=batch)
            model = torch_farl.model_of(weights, dtype=getattr(torch, dtype), **torch_sizes(sized)).to(place)
            step = torch_farl.make_step(model, batch_of(sized), compiled=compiled, **OPTIMIZER)

            def take(steps: int, step: Any = step) -> float:
                for _ in range(steps):
                    loss = step()
                if cuda:
                    torch.cuda.synchronize()
                return float(loss)

            began = time.perf_counter()
            losses = [take(1)]
            compile_seconds = time.perf_counter() - began
            losses += [take(1) for _ in range(CHECKED - 1)]
            say(
                batch=batch,
                **speed(batch, Pace(*pace).times(take), flops, peak),
                peak_gigabytes=torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
                compile_seconds=compile_seconds,
                losses=losses,
                torch=torch.__version__,
                cudnn=torch.backends.cudnn.version() if cuda else None,
            )
            del model, step, take
            torch.compiler.reset()
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    except torch.OutOfMemoryError:
        say(batch=batch, problem="out of memory")


class Repeated(Sequence[Mapping[str, Any]]):
    """A few records over and over, in memory."""

    def __init__(self, records: Sequence[Mapping[str, Any]]):
        self._records = records

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: Any) -> Mapping[str, Any]:
        return self._records[index % len(self._records)]

    def only(self, names: Container[str]) -> "Repeated":
        """The same records with no other features than these."""
        return Repeated([{name: x for name, x in record.items() if name in names} for record in self._records])


def stream(
    say: Say, *, drawn: int, size: int, patch: int, batch: int, readers: Sequence[Sequence[int]], seconds: float
) -> None:
    """Images a second that FaRL's input gives of JPEG files, for numbers of threads and worker processes.

    Args:
        drawn: side of the files in pixels, of 64 drawn faces that are read over and over.
        size, patch: of what the encoder sees, in pixels.
        readers: pairs of threads and workers.
        seconds: that each pair is measured for.
    """
    flags.FLAGS.mark_as_parsed()  # grain's workers read absl's flags
    source = open_dataset(f"generated_faces:size={drawn},train=64,validation=0,test=0", "nowhere").source("train")
    source = source.only({"id", "image", "caption"})
    records = Repeated([dict(source[index]) for index in range(len(source))])
    grid = size // patch
    chain = build_transforms(
        [
            spec(transforms.RandomResizedCrop, size=size, scale=(0.9, 1.0)),
            spec(transforms.Tokenize, length=77),
            spec(transforms.BlockMask, grid=grid, count=round(75 / 196 * grid**2), min_block=4),
        ]
    )
    for threads, workers in readers:
        reading = Stream(
            [Part(records, chain, "drawn")],
            ("image", "text", "masked"),
            batch_size=batch,
            seed=0,
            threads=threads,
            workers=workers,
        )
        batches = iter(reading)
        for _ in range(3 + 2 * workers):  # what was read ahead while this one began
            next(batches)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            next(batches)
            count += 1
        rate = count * batch / (time.perf_counter() - began)
        reading.close()
        say(size=size, drawn=drawn, threads=threads, workers=workers, images_per_second=rate)


def facerep(say: Say, *, words: Sequence[str]) -> None:
    """A command of facerep; raises RuntimeError if it fails."""
    began = time.monotonic()
    status = cli.main(["facerep", *words])
    say(status=status, seconds=time.monotonic() - began)
    if status:
        raise RuntimeError(f"facerep {words[0]} ended with status {status}")


def one_line(error: BaseException) -> str:
    """An error's type and message, on one line of bearable length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def part(name: str) -> Callable[..., None]:
    """The function MODULE:FUNCTION of a part, whose module lies beside this one."""
    module, function = name.split(":")
    return getattr(importlib.import_module(f"benchmarks.{module}"), function)


def main() -> None:
    """Run a part and append what it says to a file."""
    name, settings, path = sys.argv[1:]
    with open(path, "a", buffering=1) as lines:

        def say(**found: Any) -> None:
            lines.write(json.dumps(found) + "\n")

        try:
            part(name)(say, **json.loads(settings))
        except Exception as error:
            say(problem=one_line(error))
            raise


if __name__ == "__main__":
    main()
