"""Face parsing with 106 landmarks, read from the folders in which LaPa is given out.

train/, val/ and test/ each hold images/NAME.jpg, labels/NAME.png (class ids) and landmarks/NAME.txt: a line with 106,
then x and y of a landmark on each line.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerep_jax.data import samples
from facerep_jax.data.samples import Sample, Samples

NAME = "default"
RAW = "the folder with train, val and test"
VERSION = "1.0.0"
POINTS = 106
FOLDERS = {"train": "train", "validation": "val", "test": "test"}

FLIP = (
    *range(32, -1, -1),  # contour
    *(*range(46, 41, -1), *range(50, 46, -1), *range(37, 32, -1), *range(41, 37, -1)),  # brows
    *(*range(51, 55), *range(65, 54, -1)),  # nose
    *(*range(75, 84), *range(66, 75)),  # eyes
    *(*range(90, 83, -1), *range(95, 90, -1), *range(100, 95, -1), *range(103, 100, -1)),  # lips
    *(105, 104),  # pupils
)
META = {
    "classes": (
        *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip"),
        *("inner_mouth", "lower_lip", "hair"),
    ),
    "mask_flip": (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10),
    "landmarks": {
        "flip": FLIP,
        "normaliser": {"kind": "inter_ocular", "left": 66, "right": 75},
        "five_points": ((104,), (105,), (54,), (84,), (90,)),
    },
    "licence": "LaPa: images of others, for non-commercial research",
    "agreement": "cite Liu et al., A New Dataset and Boundary-Attention Semantic Segmentation for Face Parsing (2020)",
    "research_only": True,
    "may_show_images": False,
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces in the three folders."""
    if arg is not None:
        raise ValueError(f"data set 'lapa_like' takes no arguments after the colon, but got {arg!r}")
    if manual_dir is None:
        raise ValueError(f"data set 'lapa_like' needs --manual_dir: {RAW}")
    return samples.gather(manual_dir, found(manual_dir), META)


def found(raw: Path) -> Iterator[Sample]:
    """The samples of all splits, in the order of their names."""
    for split, folder in FOLDERS.items():
        for image in sorted((raw / folder / "images").glob("*.jpg")):
            paths = {"image": f"{folder}/images/{image.name}", "mask": f"{folder}/labels/{image.stem}.png"}
            landmarks = landmarks_in(raw / folder / "landmarks" / f"{image.stem}.txt")
            yield Sample({**paths, "landmarks": landmarks}, id=f"{folder}/{image.stem}", split=split)


def landmarks_in(path: Path) -> np.ndarray:
    """The landmarks of a file."""
    count, *lines = path.read_text().split("\n")
    points = np.array([line.split() for line in lines if line], np.float32)
    if count != str(POINTS) or points.shape != (POINTS, 2):
        raise ValueError(f"{path}: a line with {POINTS} and as many of x and y are expected, not {points.shape}")
    return points
