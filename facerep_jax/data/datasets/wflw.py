"""WFLW: 98 landmarks, and six conditions that make them hard.

WFLW_images.tar.gz and WFLW_annotations.tar.gz unpack to WFLW_images/ and WFLW_annotations/. Each line of
list_98pt_rect_attr_train_test/list_98pt_rect_attr_{train,test}.txt is a face: x and y of 98 landmarks, the detected box
(x_min y_min x_max y_max), six flags (pose, expression, illumination, make-up, occlusion, blur) and the image's path.
An image may have several faces, so a record's id is the line's number. The flags are attributes, whose ones in the test
split are the six published subsets: 326 large poses, 314 expressions, 698 illuminations, 206 make-ups, 736 occlusions
and 773 blurs.

`boxes=hrnet` puts the square around the landmarks in place of the detected box: the box of HRNet's csv files, which
FaRL crops by (rule read from HRNet's loader of COFW; that its csv files of WFLW follow it is inferred).
Pixels count from 0: FaRL and HRNet take the numbers as they are. Rests on mmpose's wflw.py and HRNet's transforms.py
(what a mirror swaps) and FaRL's scorers (outer corners of the eyes 60 and 72, failure above 0.1).
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
from facerep_jax.data import boxes, listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.mirrors import swapping
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="wflw",
    title="WFLW",
    tasks=("landmarks",),
    source="https://wywu.github.io/projects/LAB/WFLW.html",
    raw="the folder with WFLW_images and WFLW_annotations",
    counts={"train": 7_500, "test": 2_500},
    subsets={"pose": 326, "expression": 314, "illumination": 698, "make_up": 206, "occlusion": 736, "blur": 773},
    licence="research only; images are those of WIDER FACE",
    agreement="non-commercial use, by the terms on its page",
    citation="Wu et al., Look at Boundary: A Boundary-Aware Face Alignment Algorithm, CVPR 2018",
    arguments="boxes=detected (default) or boxes=hrnet, the square around the landmarks",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
LISTS = "WFLW_annotations/list_98pt_rect_attr_train_test"
POINTS = 98
CONDITIONS = ("pose", "expression", "illumination", "make_up", "occlusion", "blur")
PAIRS = (
    *zip(range(16), range(32, 16, -1), strict=True),  # contour
    *zip(range(33, 38), range(46, 41, -1), strict=True),  # brows, above
    *zip(range(38, 42), range(50, 46, -1), strict=True),  # brows, below
    *((55, 59), (56, 58)),  # nostrils
    *zip(range(60, 65), range(72, 67, -1), strict=True),  # eyes, above
    *zip(range(65, 68), range(75, 72, -1), strict=True),  # eyes, below
    *((76, 82), (77, 81), (78, 80), (83, 87), (84, 86)),  # lips, outer
    *((88, 92), (89, 91), (93, 95)),  # lips, inner
    (96, 97),  # pupils
)
META = {
    "attributes": CONDITIONS,
    "attribute_flip": tuple(range(len(CONDITIONS))),
    "landmarks": {
        "flip": swapping(POINTS, PAIRS),
        "normaliser": {"kind": "inter_ocular", "left": 60, "right": 72},
        "threshold": 0.1,
        "five_points": ((96,), (97,), (54,), (76,), (82,)),
    },
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces of the two lists."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, boxes="detected")
    if args.boxes not in ("detected", "hrnet"):
        raise ValueError(f"boxes must be detected or hrnet, not {args.boxes!r}")
    BENCHMARK.within(folder, "WFLW_images")
    return BENCHMARK.gather(folder, found(folder, args.boxes == "hrnet"), META)


def found(folder: Path, around: bool) -> Iterator[Sample]:
    """A sample for each line, with its box or that `around` its landmarks."""
    for split in ("train", "test"):
        path = folder / BENCHMARK.within(folder, f"{LISTS}/list_98pt_rect_attr_{split}.txt")
        for number, words in enumerate(listings.rows(path, 2 * POINTS + 4 + len(CONDITIONS) + 1), 1):
            *numbers, image = words
            place = f"{path} face {number}, "
            landmarks = listings.points(numbers[: 2 * POINTS], POINTS, place)
            flags = numbers[2 * POINTS + 4 :]
            if any(flag not in ("0", "1") for flag in flags):
                raise ValueError(f"{place}six flags, 0 or 1, are expected after the box, not {' '.join(flags)}")
            values = {
                "image": f"WFLW_images/{image}",
                "landmarks": landmarks,
                "bbox": boxes.square_around(landmarks) if around else listings.numbers(numbers[196:200], place),
                "attributes": {name: int(flag) for name, flag in zip(CONDITIONS, flags, strict=True)},
            }
            yield Sample(values, id=f"{split}/{number:05d}", split=split)
