"""Compare a linear probe on cached features with one that encodes the images of every batch anew.

python benchmarks/evaluate.py [--faces 256] [--steps 240] [--repeats 3]

Prints how many seconds each takes from images to predictions, and their ratio, by the clock and in processor time. On a
CPU that does other work too, processor time is the better figure. Both learn the same head on the same batches.
Compiled programs come from a cache, so that neither figure includes compilation. The figure of the cached probe
includes the pass that encodes all images.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.problem import ROLES, Problem, size
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.models.taps import QUARTERS
from facerep_jax.models.vit import ViT
from facerep_jax.typing import Task

VARIANT, PIXELS = "Nano/8", 48
BATCH_SIZE = 32


def main() -> None:
    """Time both probes and print their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faces", type=int, default=256, help="to train on; a quarter to validate, half to test")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts, since other work only adds time")
    arguments = parser.parse_args()
    count, steps = arguments.faces, arguments.steps
    faces = f"generated_faces:size=64,train={count},validation={count // 4},test={count // 2}"
    settings: dict[str, Any] = dict(steps=steps, rounds=2, batch_size=BATCH_SIZE, learning_rates=(1e-3,))
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        problem = make_problem(faces, Path(folder))
        cached = seconds_of(LinearProbe(**settings), problem, arguments.repeats)
        anew = seconds_of(LinearProbe(**settings, cache_gigabytes=0.0), problem, arguments.repeats)
    for clock, a, b in zip(("by the clock", "processor time"), cached, anew, strict=True):
        print(f"{clock:14s} cached features {a:6.2f} s, encoded in every step {b:6.2f} s: {b / a:.1f} times as long")
    print(f"{steps} steps of {BATCH_SIZE} images, {VARIANT} at {PIXELS} px, {faces}, {jax.default_backend()}")


def make_problem(faces: str, folder: Path) -> Problem:
    """The problem of landmarks on generated faces, with a random encoder."""
    dataset = open_dataset(faces, "nowhere")
    transforms = build_transforms([spec(CropToBox, size=PIXELS, margin=0.25)])
    metric = build(Landmarks.metric(dataset.meta))
    splits = {role: load(dataset.source(role), transforms, Landmarks.needs, optional=metric.optional) for role in ROLES}
    encoder = ViT(variant=VARIANT, image_size=PIXELS, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))

    def make_task(seed: int) -> Task:
        settings: dict[str, Any] = dict(taps=QUARTERS, image_size=PIXELS, label_shape=(68, 2), meta=dataset.meta)
        return Landmarks(encoder, **settings, rngs=nnx.Rngs(params=seed))

    source = dataset.source("train")
    return Problem(
        encoder=encoder,
        make_task=make_task,
        task=make_task(0),
        metric=metric,
        splits=splits,
        source=source,
        transforms=transforms,
        folder=folder,
    )


def seconds_of(probe: LinearProbe, problem: Problem, repeats: int) -> tuple[float, float]:
    """Seconds that a probe takes from images to predictions, by the clock and in processor time."""
    spent = []
    for _ in range(1 + repeats):  # the first compiles
        start = time.perf_counter(), time.process_time()
        probe.prepare(problem)(*(np.arange(size(problem.splits[role])) for role in ROLES[:2]), 0)
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    clock, processor = zip(*spent[1:], strict=True)
    return min(clock), min(processor)


if __name__ == "__main__":
    main()
