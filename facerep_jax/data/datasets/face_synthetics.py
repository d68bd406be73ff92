"""Face Synthetics: rendered faces with 70 landmarks and masks of 19 classes.

dataset_100000.zip (or 1000, or 100) unpacks to 000000.png (512 x 512 pixels), 000000_seg.png (a class id in each pixel,
255 where it is to be ignored) and 000000_ldmks.txt (x and y of 70 landmarks, one on each line): iBUG's 68, then the two
pupils. Landmarks are projected from 3D, so those of the contour do not follow the outline of a turned face.

There is no published split, so all are for training. The authors' classes name sides as the person has them, right
before left, inferred from iBUG's order that they follow: their RIGHT_EYE is on the left of the image, and called
left_eye here. Coordinates are taken as they are. Rests on the authors' README (layout, classes, landmarks).
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.meta import IBUG_FLIP
from facerep_jax.data.mirrors import swapping
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="face_synthetics",
    title="Face Synthetics",
    tasks=("landmarks", "parsing"),
    source="https://github.com/microsoft/FaceSynthetics",
    raw="the folder with 000000.png, 000000_seg.png and 000000_ldmks.txt",
    counts={"train": 100_000},
    licence="Computational Use of Data Agreement 1.0, non-commercial research",
    agreement="a copy that is handed on is bound to the same agreement; no part of a product",
    citation="Wood et al., Fake It Till You Make It: Face Analysis in the Wild Using Synthetic Data Alone, ICCV 2021",
    may_show_images=True,
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
POINTS = 70
META = {
    "classes": (
        *("background", "skin", "nose", "left_eye", "right_eye", "left_brow", "right_brow", "left_ear", "right_ear"),
        *("inner_mouth", "upper_lip", "lower_lip", "neck", "hair", "beard", "clothing", "glasses", "headwear"),
        "facewear",
    ),
    "mask_flip": swapping(19, [(3, 4), (5, 6), (7, 8)]),
    "landmarks": {
        "flip": (*IBUG_FLIP, 69, 68),
        "normaliser": {"kind": "inter_ocular", "left": 36, "right": 45},
        "five_points": (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
    },
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the folder."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    images = sorted(path.name for path in folder.glob("*.png") if not path.stem.endswith("_seg"))
    if not images:
        raise FileNotFoundError(f"no NUMBER.png in {folder}; expected {BENCHMARK.raw}")
    for image in images:
        name = image.removesuffix(".png")
        path = folder / f"{name}_ldmks.txt"
        words = [word for row in listings.rows(path, 2) for word in row]
        values = {
            "image": image,
            "mask": f"{name}_seg.png",
            "landmarks": listings.points(words, POINTS, f"{path}: "),
        }
        yield Sample(values, id=name)
