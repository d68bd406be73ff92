"""VGGFace2: 3.3 million images of 9,131 people.

train/ (8,631 people) and test/ (500) each hold a folder per person, n000001/0001_01.jpg (image and face in it). The
folder bb_landmark has loose_bb_{train,test}.csv (NAME_ID, X, Y, W, H) and loose_landmark_{train,test}.csv (NAME_ID,
P1X, P1Y to P5X, P5Y): box and five points of each image, of MTCNN, without the suffix of its file. Without that folder,
records have neither.

Boxes count their first pixel as 0: inferred. Points are left eye, right eye, nose, left and right corner of the mouth,
as seen. The authors' own download is gone; copies are traded. Rests on the authors' README and loaders of the two
tables.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerep_jax.data import boxes, listings, people, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="vggface2",
    title="VGGFace2",
    tasks=("recognition",),
    source="https://www.robots.ox.ac.uk/~vgg/data/vgg_face2/ (withdrawn)",
    raw="the folder with train, test and, for boxes and points, bb_landmark",
    counts={"train": 3_141_890, "test": 169_396},
    licence="CC BY-NC 4.0 of the list; images are of other owners",
    agreement="non-commercial research",
    citation="Cao et al., VGGFace2: A Dataset for Recognising Faces across Pose and Age, FG 2018",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
SIDES = ("NAME_ID", "X", "Y", "W", "H")
AXES = ("NAME_ID", *(f"P{point}{axis}" for point in range(1, 6) for axis in "XY"))
META = {
    "landmarks": {
        "flip": (1, 0, 2, 4, 3),
        "normaliser": {"kind": "inter_ocular", "left": 0, "right": 1},
        "five_points": ((0,), (1,), (2,), (3,), (4,)),
    }
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of both folders."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    for split in ("train", "test"):
        BENCHMARK.within(folder, split)
        sides = _table(folder, f"loose_bb_{split}.csv", SIDES)
        points = _table(folder, f"loose_landmark_{split}.csv", AXES)
        for person, path in people.folders(folder, split):
            name = f"{person}/{Path(path).stem}"
            values = {
                "image": path,
                "identity": person,
                "bbox": boxes.from_sides(*sides[name]) if name in sides else None,
                "landmarks": np.reshape(points[name], (5, 2)) if name in points else None,
            }
            yield Sample(values, id=name, split=split)


def _table(folder: Path, name: str, columns: tuple[str, ...]) -> dict[str, list[float]]:
    """The numbers of each row by the first column; none if the folder of tables is not there."""
    if not (folder / "bb_landmark").is_dir():
        return {}
    path = folder / BENCHMARK.within(folder, f"bb_landmark/{name}")
    return {
        row[columns[0]]: listings.numbers([row[column] for column in columns[1:]], place).tolist()
        for place, row in listings.table(path, *columns, exactly=True)
    }
