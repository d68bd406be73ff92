"""Measure the peak resident memory of an evaluation on records of LaPa's size and kind.

python -m benchmarks.evaluate_memory [--records 18176] [--size 448] [--task parsing] [--crop farl] [--folder FOLDER]

Writes so many training records with masks and landmarks, and a ninth as many for validation and for test, and runs
`facerep evaluate` on them by linear probe and by fine-tuning, with a tiny random encoder and few steps. A few faces
stand under many ids, since memory is measured and not scores. In a FOLDER that is given, what is written stays.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from facerep_jax.config import parse_arg
from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.images import png
from facerep_jax.data.records import Example, Plan
from facerep_jax.face_world.photo import encoded

NAME, RAW, VERSION = "lapa_size", None, "1.0.0"  # of the data set
FACES, DRAWN = 8, 224  # different faces, and pixels of a side that they are drawn with
KEYS = ("id", "image", "mask", "bbox", "landmarks")
PROTOCOLS = {"linear_probe": ("learning_rates=(0.05,)",), "finetune": ("batch_size=16",)}


class Request(NamedTuple):
    """Which records to write."""

    size: int
    records: int

    @property
    def digest(self) -> str:
        """All that the records depend on."""
        return f"{self.size}-{self.records}"


def read(arg: str | None, manual_dir: Path | None) -> Request:
    """The records that the text after the colon asks for."""
    return Request(**parse_arg(arg, size=448, records=18_176))


def plan(raw: Request) -> Plan:
    """A few faces under many ids."""
    faces = generated_faces.plan(generated_faces.read(f"size={DRAWN},train={FACES},validation=0,test=0", None))
    few = max(1, raw.records // 9)
    records = {
        split: [(f"{split}_{i:06d}", raw.size, i % FACES) for i in range(count)]
        for split, count in (("train", raw.records), ("validation", few), ("test", few))
    }
    return Plan(records=records, example=example, names=KEYS, sizes=faces.sizes, meta=faces.meta)


def example(record: tuple[str, int, int]) -> tuple[str, Example]:
    """The key and the record of an id."""
    name, size, face = record
    return name, {"id": name, **enlarged(size, face)}


@functools.cache
def enlarged(size: int, face: int) -> dict[str, Any]:
    """A face at so many pixels."""
    drawn = generated_faces.face_world.face(0, face, DRAWN)
    scene = generated_faces.face_world.sample_scene(0, face)
    image, mask = (Image.fromarray(drawn[name]) for name in ("image", "mask"))
    return {
        "image": encoded(scene.photo, np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))),
        "mask": png(mask.resize((size, size), Image.Resampling.NEAREST)),
        "bbox": np.float32(drawn["bbox"] * size / DRAWN),
        "landmarks": np.float32((drawn["landmarks"] + 0.5) * size / DRAWN - 0.5),
    }


def main() -> None:
    """Write the records and print the peak memory of each protocol."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=18_176, help="to train on")
    parser.add_argument("--size", type=int, default=448, help="pixels of a side")
    parser.add_argument("--task", default="parsing", help="parsing or landmarks")
    parser.add_argument("--crop", default="", help="of the task's config")
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS))
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        name = f"records_{arguments.records}_{arguments.size}"
        if not (folder / "evaluate_memory" / name).is_dir():
            drawn = f"benchmarks.evaluate_memory:size={arguments.size},records={arguments.records}"
            run("prepare", drawn, f"--name={name}", f"--data_dir={folder}")
        for protocol in arguments.protocols:
            config = (
                f"configs/evaluate/{arguments.task}.py:dataset=evaluate_memory/{name},data_dir={folder},"
                f"protocol={protocol},steps=12,variant=Nano/32,size={arguments.size}"
            ) + (f",crop={arguments.crop}" if arguments.crop else "")
            settings = [f"--config.protocol.{setting}" for setting in ("rounds=2", *PROTOCOLS.get(protocol, ()))]
            workdir = f"--workdir={folder}/results_{arguments.task}_{protocol}_{name}"
            gigabytes, seconds = run("evaluate", f"--config={config}", "--checkpoint=random", workdir, *settings)
            print(f"{protocol:14s} peak of resident memory {gigabytes:5.2f} GB, {seconds:5.0f} s", flush=True)
    crop = f", crop={arguments.crop}" if arguments.crop else ""
    print(f"{arguments.task}{crop}, {arguments.records} training records of {arguments.size} px, ViT Nano/32")


def run(*command: str) -> tuple[float, float]:
    """Run a command of facerep; gives its peak resident memory in gigabytes, and its seconds."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "facerep_jax.cli", *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"facerep {' '.join(command)} failed")
    return used.ru_maxrss * 1024 / 1e9, time.perf_counter() - start


if __name__ == "__main__":
    main()
