"""CelebA: 40 attributes, five landmarks and who it is.

The authors' folders: Img/img_align_celeba/000001.jpg (aligned, 178 x 218 pixels) or Img/img_celeba/000001.jpg (in the
wild), Anno/list_attr_celeba.txt (a line with the number of images, one with the names, then a name and 40 times -1 or
1), Anno/list_landmarks_align_celeba.txt or Anno/list_landmarks_celeba.txt (the same form: left eye, right eye, nose,
left and right corner of the mouth), Anno/list_bbox_celeba.txt (x_1, y_1, width, height, of the images in the wild),
Anno/identity_CelebA.txt (name and number) and Eval/list_eval_partition.txt (name and 0, 1 or 2). All may lie in one
folder as well, as torchvision has them.

`images=align` (the default) or `images=wild`. Left and right are the image's. Coordinates are taken as they are, and
boxes count their first pixel as 0: nobody says. A box without a side is not known. Rests on torchvision's and
datumaro's loaders (file names, headers, x y width height).
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
from facerep_jax.data import boxes, listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="celeba",
    title="CelebA",
    tasks=("attributes", "recognition", "landmarks"),
    source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    raw="the folder with Img, Anno and Eval",
    counts={"train": 162_770, "validation": 19_867, "test": 19_962},
    licence="non-commercial research; images are of other owners",
    agreement="no copying, publishing or distribution of any part of it outside of one's own site",
    citation="Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
    arguments="images=align (default) or images=wild, those in the wild with boxes",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
SPLITS = {"0": "train", "1": "validation", "2": "test"}
ATTRIBUTES = 40
LANDMARKS = {
    "flip": (1, 0, 2, 4, 3),
    "normaliser": {"kind": "inter_ocular", "left": 0, "right": 1},
    "five_points": ((0,), (1,), (2,), (3,), (4,)),
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """All images, aligned or in the wild."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, images="align")
    if args.images not in ("align", "wild"):
        raise ValueError(f"images must be align or wild, not {args.images!r}")
    names = attribute_names(file(folder, "Anno", "list_attr_celeba.txt"))
    meta = {"attributes": names, "attribute_flip": tuple(range(len(names))), "landmarks": LANDMARKS}
    return BENCHMARK.gather(folder, found(folder, names, args.images == "wild"), meta)


def file(folder: Path, within: str, name: str) -> Path:
    """A file of the authors' folder `within`, or beside the others."""
    return folder / BENCHMARK.within(folder, f"{within}/{name}", name)


def attribute_names(path: Path) -> tuple[str, ...]:
    """The names in the second line of the list of attributes."""
    head = [line.split() for _, line in zip(range(2), (text for _, text in listings.lines(path)), strict=False)]
    if len(head) < 2 or len(head[0]) != 1 or len(head[1]) != ATTRIBUTES:
        raise ValueError(f"{path}: the number of images and {ATTRIBUTES} names are expected in its first two lines")
    return tuple(head[1])


def found(folder: Path, names: tuple[str, ...], wild: bool) -> Iterator[Sample]:
    """A sample for each image of the partition."""
    kind, middle = ("img_celeba", "") if wild else ("img_align_celeba", "align_")
    images = BENCHMARK.within(folder, f"Img/{kind}", kind)

    def listed(name: str, columns: int, skip: int = 2, within: str = "Anno") -> dict[str, list[str]]:
        return {row[0]: row[1:] for row in listings.rows(file(folder, within, name), columns, skip=skip)}

    attributes = listed("list_attr_celeba.txt", 1 + ATTRIBUTES)
    points = listed(f"list_landmarks_{middle}celeba.txt", 11)
    people = listed("identity_CelebA.txt", 2, skip=0)
    sides = listed("list_bbox_celeba.txt", 5) if wild else {}
    for image, (part,) in listed("list_eval_partition.txt", 2, 0, "Eval").items():
        lacking = [name for name, of in (("attributes", attributes), ("landmarks", points)) if image not in of]
        if lacking or part not in SPLITS or (wild and image not in sides):
            raise ValueError(f"{image} has no {(*lacking, 'split or box')[0]} in the lists of {folder}")
        if any(flag not in ("-1", "1") for flag in attributes[image]):
            raise ValueError(f"{image}: attributes must be -1 or 1, as list_attr_celeba.txt has them")
        values = {
            "image": f"{images}/{image}",
            "landmarks": listings.points(points[image], 5, f"{image}: "),
            "bbox": boxes.from_sides(*listings.numbers(sides[image], f"{image}: ").tolist()) if wild else None,
            "identity": people[image][0] if image in people else None,
            "attributes": {name: int(flag == "1") for name, flag in zip(names, attributes[image], strict=True)},
        }
        yield Sample(values, id=image.rpartition(".")[0], split=SPLITS[part])
