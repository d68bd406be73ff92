"""LaPa: face parsing with 11 classes, and 106 landmarks.

LaPa.tar.gz unpacks to train/, val/ and test/, each with images/NAME.jpg, labels/NAME.png (a class id in each pixel) and
landmarks/NAME.txt (a line with 106, then a line with x and y of each landmark, in pixels of the image).

Classes 2 and 4 are the brow and the eye on the left of the image, as the order of the landmarks is; LaPa's own text
says left and right without saying whose. FaRL takes them for the image's, facer names the same ids by the person's
side. Rests on FaRL's loader (folders, the 106, class order, five points) and mmpose's lapa.py (which landmarks a mirror
swaps). The outer corners of the eyes, by which errors are divided, are 66 and 79: inferred from that table.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.mirrors import swapping
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="lapa",
    title="LaPa",
    tasks=("parsing", "landmarks"),
    source="https://github.com/JDAI-CV/lapa-dataset (LaPa.tar.gz)",
    raw="the folder LaPa with train, val and test",
    counts={"train": 18_176, "validation": 2_000, "test": 2_000},
    licence="non-commercial research; images are of other owners",
    agreement="by downloading one agrees to the terms on its page",
    citation="Liu et al., A New Dataset and Boundary-Attention Semantic Segmentation for Face Parsing, AAAI 2020",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FOLDERS = {"train": "train", "validation": "val", "test": "test"}
POINTS = 106

# Brows run along their upper edge and back along the lower one; the mirror image does so from its own outer end.
PAIRS = (
    *zip(range(16), range(32, 16, -1), strict=True),  # contour
    *zip(range(33, 38), range(46, 41, -1), strict=True),  # brows, above
    *zip(range(38, 42), range(50, 46, -1), strict=True),  # brows, below
    *zip(range(55, 60), range(65, 60, -1), strict=True),  # nose
    *zip(range(66, 71), range(79, 74, -1), strict=True),  # eyes, above
    *zip(range(71, 74), range(82, 79, -1), strict=True),  # eyes, below
    (74, 83),  # their centres
    *zip(range(84, 87), range(90, 87, -1), strict=True),  # lips: outer, above
    *zip(range(91, 93), range(95, 93, -1), strict=True),  # outer, below
    *zip(range(96, 98), range(100, 98, -1), strict=True),  # inner, above
    (101, 103),  # inner, below
    (104, 105),  # pupils
)
META = {
    "classes": (
        *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip"),
        *("inner_mouth", "lower_lip", "hair"),
    ),
    "mask_flip": swapping(11, [(2, 3), (4, 5)]),
    "landmarks": {
        "flip": swapping(POINTS, PAIRS),
        "normaliser": {"kind": "inter_ocular", "left": 66, "right": 79},
        "five_points": ((104,), (105,), (54,), (84,), (90,)),
    },
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces of the three folders."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image, in the order of their names."""
    for split, part in FOLDERS.items():
        images = folder / BENCHMARK.within(folder, f"{part}/images")
        for image in sorted(images.glob("*.jpg")):
            name = image.stem
            values = {
                "image": f"{part}/images/{image.name}",
                "mask": f"{part}/labels/{name}.png",
                "landmarks": landmarks_in(folder / part / "landmarks" / f"{name}.txt"),
            }
            yield Sample(values, id=f"{part}/{name}", split=split)


def landmarks_in(path: Path) -> Float32[np.ndarray, "106 2"]:
    """The landmarks of a file; ValueError if it is of another form."""
    (place, count), *rest = [*listings.lines(path)] or [(f"{path}: ", "nothing")]
    if count.strip() != str(POINTS):
        raise ValueError(f"{place}the number of landmarks, {POINTS}, is expected, not {count[:20]!r}")
    return listings.points([word for _, line in rest for word in line.split()], POINTS, f"{path}: ")
