"""Measure how fast faces are drawn, and how fast a drawn face is decoded and cropped.

python benchmarks/generated_faces.py [--faces 300] [--repeats 5]

Figures are faces per second of CPU time in one process with one BLAS thread. So they are the rate of one core, whatever
else the machine does.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np  # reads the numbers of threads above

from facerep_jax import face_world
from facerep_jax.data.transforms import CropToBox, decode
from facerep_jax.face_world.photo import encoded
from facerep_jax.face_world.sampling import Settings, sample_scene

SIZES = (48, 112, 224)
WARM = 20  # faces before the clock starts


def per_second(act: Callable[[int], Any], count: int) -> float:
    """How many calls are done per second of CPU time."""
    for index in range(WARM):
        act(index)
    begin = time.process_time()
    for index in range(count):
        act(index)
    return count / (time.process_time() - begin)


def main() -> None:
    """Measure both rates at several sizes and print them as a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    settings, rng = Settings(), np.random.default_rng(0)
    print(f"faces per second and core, median of {arguments.repeats} times {arguments.faces} (least, most)\n")
    print("| pixels | drawn | decoded and cropped | ratio |\n|---|---|---|---|")
    for size in SIZES:
        drawn = face_world.face(0, 0, size, settings)
        record = {**drawn, "image": encoded(sample_scene(0, 0, settings).photo, drawn["image"])}
        record = {name: record[name] for name in ("image", "bbox")}
        crop = CropToBox(size=size, margin=0.25)
        found: dict[str, list[float]] = {"drawn": [], "read": []}
        for repeat in range(arguments.repeats):
            start = repeat * arguments.faces
            found["drawn"].append(
                per_second(
                    lambda i, start=start, size=size: face_world.face(0, start + i, size, settings), arguments.faces
                )
            )
            found["read"].append(
                per_second(lambda i, record=record, crop=crop: crop(decode(record), rng), 5 * arguments.faces)
            )
        cells = [f"{statistics.median(x):.0f} ({min(x):.0f}, {max(x):.0f})" for x in found.values()]
        ratio = statistics.median(found["drawn"]) / statistics.median(found["read"])
        print(f"| {size} | {cells[0]} | {cells[1]} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
