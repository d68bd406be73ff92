"""COFW: 29 landmarks, many of them covered.

COFW_train_color.mat and COFW_test_color.mat hold images and annotations alike: IsTr or IsT (a cell with each image),
phisTr or phisT (29 x, 29 y and 29 flags, 1 where the landmark is covered) and bboxesTr or bboxesT (x, y, width and
height). They are of MATLAB 7.3, that is HDF5, so h5py is needed: pip install 'facerep_jax[matlab]'. MATLAB's arrays lie
transposed in it, (3, width, height) for an image.

The first 845 training images are LFPW's. Pixels are taken to count from 1, as MATLAB's do: inferred, no loader says.
Rests on HRNet's cofw.py (names, order of the 87 numbers) and transforms.py (what a mirror swaps), and on its
evaluation (outer corners of the eyes 8 and 9, failure above 0.1). The order of the points is LFPW's.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from facerep_jax.data import boxes, matlab, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.images import png
from facerep_jax.data.mirrors import swapping
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="cofw",
    title="COFW",
    tasks=("landmarks",),
    source="http://www.vision.caltech.edu/xpburgos/ICCV13/ (COFW_color.zip)",
    raw="the folder with COFW_train_color.mat and COFW_test_color.mat",
    counts={"train": 1_345, "test": 507},
    licence="research; images are of other owners",
    agreement="",
    citation="Burgos-Artizzu et al., Robust Face Landmark Estimation under Occlusion, ICCV 2013",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
POINTS, FIRST = 29, 1  # what the first pixel is called
FILES = {"train": ("COFW_train_color.mat", "Tr"), "test": ("COFW_test_color.mat", "T")}
PAIRS = ((0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19), (22, 23))
META = {
    "landmarks": {
        "flip": swapping(POINTS, PAIRS),
        "normaliser": {"kind": "inter_ocular", "left": 8, "right": 9},
        "threshold": 0.1,
        "five_points": ((16,), (17,), (20,), (22,), (23,)),
    }
}

plan = samples.plan


@dataclasses.dataclass(frozen=True)
class Cell:
    """The image in a cell of a file's cell array."""

    file: str
    cells: str
    index: int

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)

    def read(self, folder: Path) -> bytes:
        with matlab.hdf5(folder / self.file) as held:
            pixels = np.asarray(held[held[self.cells][0, self.index]])
        return png(Image.fromarray(np.ascontiguousarray(pixels.T)).convert("RGB"))


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces of the two files."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    for split, (file, end) in FILES.items():
        images, points, sides = f"Is{end}", f"phis{end}", f"bboxes{end}"
        with matlab.hdf5(folder / file) as held:
            if lacking := [name for name in (images, points, sides) if name not in held]:
                raise ValueError(f"{folder / file} lacks {', '.join(lacking)}")
            phis, sides_of = np.asarray(held[points]).T, np.asarray(held[sides]).T
            count = held[images].shape[1]
        if phis.shape != (count, 3 * POINTS) or sides_of.shape != (count, 4):
            shapes = f"{points} {phis.shape} and {sides} {sides_of.shape}"
            raise ValueError(f"{folder / file}: {3 * POINTS} and 4 numbers are expected of {count} faces, not {shapes}")
        for index in range(count):
            landmarks, covered = phis[index, : 2 * POINTS].reshape(2, POINTS).T - FIRST, phis[index, 2 * POINTS :]
            values = {
                "image": Cell(file, images, index),
                "landmarks": landmarks.astype(np.float32),
                "visible": (covered < 0.5).astype(int),
                "bbox": boxes.from_sides(*sides_of[index].tolist(), first=FIRST),
            }
            yield Sample(values, id=f"{split}/{index:04d}", split=split)
