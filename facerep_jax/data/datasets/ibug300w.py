"""300-W: 68 landmarks, in the form that HRNet gives them out.

The images of afw.zip, helen.zip, ibug.zip and lfpw.zip (afw/, helen/trainset/, ...), beside HRNet's tables:
face_landmarks_300w_train.csv, face_landmarks_300w_valid_common.csv and face_landmarks_300w_valid_challenge.csv, with
the columns image_name, scale, center_w, center_h and original_0_x, original_0_y to original_67_y. Images may lie in
images/ too, as HRNet has them.

The box is the square of 200 x scale pixels around the centre. Centre and landmarks are 2 pixels more than ours: FaRL
takes 2 off all of them, so that they count from 0. One image, ibug/image_092_01.jpg, has a blank in its file's name.
The test split is the common one (helen and lfpw, 554) and the challenging one (ibug, 135, attribute `challenging`).
Rests on FaRL's ibug300w.py and HRNet's face300w.py.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerep_jax.data import boxes, listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.meta import IBUG
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="ibug300w",
    title="300-W",
    tasks=("landmarks",),
    source="https://ibug.doc.ic.ac.uk/resources/300-W/ (afw, helen, ibug and lfpw), and the tables of"
    " https://github.com/HRNet/HRNet-Facial-Landmark-Detection",
    raw="the folder with afw, helen, ibug, lfpw and the face_landmarks_300w_*.csv of HRNet",
    counts={"train": 3_148, "test": 689},
    subsets={"challenging": 135},
    licence="research only; images are of other owners",
    agreement="non-commercial use, by the terms on its page",
    citation="Sagonas et al., 300 Faces In-The-Wild Challenge: Database and Results, IVC 2016",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
POINTS, SHIFT = 68, 2.0
COLUMNS = ("image_name", "scale", "center_w", "center_h")
AXES = tuple(f"original_{point}_{axis}" for point in range(POINTS) for axis in "xy")
TABLES = {"train": ("train", None), "valid_common": ("test", 0), "valid_challenge": ("test", 1)}
RENAMED = {"ibug/image_092_01.jpg": "ibug/image_092 _01.jpg"}
META = {"landmarks": IBUG, "attributes": ("challenging",), "attribute_flip": (0,)}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces of the three tables."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each row."""
    images = "images/" if (folder / "images").is_dir() else ""
    for name, (split, challenging) in TABLES.items():
        path = folder / BENCHMARK.within(folder, f"face_landmarks_300w_{name}.csv")
        for place, row in listings.table(path, *COLUMNS, *AXES, exactly=True):
            image = row["image_name"]
            if not (folder / images / image).exists():
                image = RENAMED.get(image, image)
            scale, x, y = listings.numbers([row[column] for column in COLUMNS[1:]], place).tolist()
            landmarks = listings.points([row[axis] for axis in AXES], POINTS, place) - np.float32(SHIFT)
            values = {
                "image": images + image,
                "landmarks": landmarks,
                "bbox": boxes.square(x - SHIFT, y - SHIFT, 100 * scale),
                "attributes": {"challenging": challenging},
            }
            yield Sample(values, id=row["image_name"].rpartition(".")[0], split=split)
