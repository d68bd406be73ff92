"""Compare a linear probe on cached features with one that encodes the images of every batch anew, and with ridge.

python benchmarks/evaluate.py [--faces 256] [--steps 240] [--repeats 3] [--variant Nano/8] [--size 48]

Prints how many seconds each takes from images to predictions, and their ratios, by the clock and in processor time, and
the error on test images. On a CPU that does other work too, processor time is the better figure. Both probes learn the
same head on the same batches; ridge solves for it in closed form, for nine penalties. Compiled programs come from a
cache, so that no figure includes compilation. Those of the cached probe and of ridge include the pass that encodes all
images, whose seconds are told too.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.problem import ROLES, Problem, size
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.protocols.ridge import Ridge
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.models.taps import QUARTERS
from facerep_jax.models.vit import ViT
from facerep_jax.typing import Task

BATCH_SIZE = 32
CLOCKS = ("by the clock", "processor time")


def main() -> None:
    """Time both probes and print their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faces", type=int, default=256, help="to train on; a quarter to validate, half to test")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts, since other work only adds time")
    parser.add_argument("--variant", default="Nano/8", help="of the ViT")
    parser.add_argument("--size", type=int, default=48, help="of the images, in pixels")
    arguments = parser.parse_args()
    count, steps = arguments.faces, arguments.steps
    faces = f"generated_faces:size={max(64, arguments.size)},train={count},validation={count // 4},test={count // 2}"
    settings: dict[str, Any] = dict(steps=steps, rounds=2, batch_size=BATCH_SIZE, learning_rates=(1e-3,))
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        problem = make_problem(faces, arguments.variant, arguments.size, Path(folder))
        ways = {
            "probe, cached features": LinearProbe(**settings),
            "probe, encoded in every step": LinearProbe(**settings, cache_gigabytes=0.0),
            "ridge, cached features": Ridge(),
        }
        calls = {"one pass of the encoder": partial(encode, problem)}
        calls |= {name: partial(learn, way, problem) for name, way in ways.items()}
        taken = {name: seconds_of(call, arguments.repeats) for name, call in calls.items()}
    base, _ = taken["probe, cached features"]
    for name, (spent, error) in taken.items():
        told = ", ".join(f"{s:7.2f} s {clock} ({s / b:.2f})" for s, b, clock in zip(spent, base, CLOCKS, strict=True))
        print(f"{name:28s} {told}" + (f", test error {100 * error:.2f} %" if error else ""))
    print(f"in brackets: by the cached probe, whose steps see each face {steps * BATCH_SIZE / count:g} times")
    print(f"{arguments.variant} at {arguments.size} px, {faces}, {jax.default_backend()}")


def encode(problem: Problem) -> float:
    """Encode the images of all splits; no error comes of it."""
    extract = extractor(problem.encoder, problem.task.taps)
    for role in ROLES:
        extract(problem.splits[role]["image"])
    return 0.0


def learn(way: Protocol, problem: Problem) -> float:
    """Learn from all training examples, and return the error on the test images."""
    outcome = way.prepare(problem)(*(np.arange(size(problem.splits[role])) for role in ROLES[:2]), 0)
    statistics = problem.metric.rows(np.asarray(outcome.prediction), problem.splits["test"]).statistics
    return problem.metric.compute(statistics, np.ones((1, len(statistics))))[problem.metric.headline].item()


def make_problem(faces: str, variant: str, pixels: int, folder: Path) -> Problem:
    """The problem of landmarks on generated faces, with a random encoder."""
    dataset = open_dataset(faces, "nowhere")
    transforms = build_transforms([spec(CropToBox, size=pixels, margin=0.25)])
    metric = build(Landmarks.metric(dataset.meta))
    splits = {role: load(dataset.source(role), transforms, Landmarks.needs, optional=metric.optional) for role in ROLES}
    encoder = ViT(variant=variant, image_size=pixels, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))

    def make_task(seed: int) -> Task:
        settings: dict[str, Any] = dict(taps=QUARTERS, image_size=pixels, label_shape=(68, 2), meta=dataset.meta)
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


def seconds_of(call: Callable[[], float], repeats: int) -> tuple[tuple[float, float], float]:
    """Seconds that a call takes, by the clock and in processor time, the least of several; and what it returns."""
    call()  # compiles
    spent = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        error = call()
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    clock, processor = zip(*spent, strict=True)
    return (min(clock), min(processor)), error


if __name__ == "__main__":
    main()
