"""AFLW-19: 19 landmarks on AFLW's faces at all poses.

AFLWinfo_release.mat beside AFLW's images, of which aflw-images-{0,2,3}.tar.gz unpack to data/flickr/{0,2,3}/ (or
flickr/ alone). The file has for 24,386 faces: `nameList` (0/image00002.jpg), `data` (19 x, then 19 y), `bbox` (left,
right, top, bottom), `mask_new` (1 where a landmark is seen) and `ra`, an order of the faces that counts from 1: its
first 20,000 are for training, the others the full test set. Those of the latter of which all landmarks are seen are the
frontal subset (1,314; attribute `frontal`).

All landmarks count, seen or not, as FaRL has it; `visible` says which are. Errors are published divided by the diagonal
of the box, by sqrt(w h) and, by FaRL, by the distance of the outer corners of the eyes, 6 and 11. Numbers are taken as
they are. Rests on FaRL's aflw.py (the file's contents, splits) and scorer, and on mmpose's aflw.py (what a mirror
swaps).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerep_jax.data import matlab, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.mirrors import swapping
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="aflw19",
    title="AFLW-19",
    tasks=("landmarks",),
    source="https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw/ (images, on request) and"
    " http://mmlab.ie.cuhk.edu.hk/projects/compositional/AFLWinfo_release.mat",
    raw="the folder with AFLWinfo_release.mat and data/flickr",
    counts={"train": 20_000, "test": 4_386},
    subsets={"frontal": 1_314},
    licence="research only; images are of their photographers on Flickr",
    agreement="one asks for access, and may not hand it on",
    citation="Koestinger et al., Annotated Facial Landmarks in the Wild, ICCVW 2011; Zhu et al., Unconstrained Face"
    " Alignment via Cascaded Compositional Learning, CVPR 2016",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
POINTS, TRAIN = 19, 20_000
FILE = "AFLWinfo_release.mat"
PAIRS = ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17))
META = {
    "attributes": ("frontal",),
    "attribute_flip": (0,),
    "landmarks": {
        "flip": swapping(POINTS, PAIRS),
        "normaliser": {"kind": "diagonal", "left": 6, "right": 11},
        "five_points": ((7,), (10,), (13,), (15,), (17,)),
    },
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces of the file, in its order `ra`."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each face, the first 20,000 of them for training."""
    images = BENCHMARK.within(folder, "data/flickr", "flickr")
    held = matlab.load(folder / FILE, "nameList", "data", "bbox", "mask_new", "ra")
    names, order = matlab.texts(held["nameList"]), held["ra"].ravel().astype(int) - 1
    count = len(names)
    for key, width in (("data", 2 * POINTS), ("bbox", 4), ("mask_new", POINTS)):
        if held[key].shape != (count, width):
            raise ValueError(f"{folder / FILE}: {key} must be {count} x {width}, not {held[key].shape}")
    if sorted(order) != list(range(count)):
        raise ValueError(f"{folder / FILE}: ra must be an order of 1 to {count}")
    for place, face in enumerate(order):
        left, right, top, bottom = held["bbox"][face].astype(float)
        seen = held["mask_new"][face].astype(int)
        values = {
            "image": f"{images}/{names[face]}",
            "landmarks": held["data"][face].reshape(2, POINTS).T.astype(np.float32),
            "visible": seen,
            "bbox": (left, top, right, bottom),
            "attributes": {"frontal": int(seen.all())},
        }
        yield Sample(values, id=f"{face:05d}", split="train" if place < TRAIN else "test")
