"""CelebAMask-HQ: face parsing with 19 classes.

CelebAMask-HQ.zip unpacks to CelebA-HQ-img/K.jpg (1024 x 1024 pixels, K from 0), to
CelebAMask-HQ-mask-anno/G/KKKKK_PART.png (G = K // 2000; 512 x 512, white where the part is, no file for a part that is
not seen) and to CelebA-HQ-to-CelebA-mapping.txt (a header, then K, an index and the name of the image in CelebA).
Splits are CelebA's: list_eval_partition.txt (name and 0, 1 or 2) has to be put beside them.

Parts are painted one over the other in FaRL's order, which is that of the class ids: neck first, necklace last. Masks
are stored at the size of the image, each of their pixels as four. Files say left and right from the person's own view:
in the four masks that the authors' repository shows, l_eye, l_brow and l_ear lie on the right of the image. Class names
are the image's. Rests on FaRL's loader (order, splits, folders) and on the authors' g_mask.py (file names).
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.images import png
from facerep_jax.data.mirrors import swapping
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="celebamask_hq",
    title="CelebAMask-HQ",
    tasks=("parsing",),
    source="https://github.com/switchablenorms/CelebAMask-HQ, and list_eval_partition.txt of CelebA",
    raw="the folder CelebAMask-HQ with CelebA-HQ-img, CelebAMask-HQ-mask-anno and list_eval_partition.txt of CelebA",
    counts={"train": 24_183, "validation": 2_993, "test": 2_824},
    licence="non-commercial research and education",
    agreement="no copying, publishing or distribution of any part of it outside of one's own site",
    citation="Lee et al., MaskGAN: Towards Diverse and Interactive Facial Image Manipulation, CVPR 2020",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
SPLITS = {"0": "train", "1": "validation", "2": "test"}
# As files call them, in the order in which they are painted, and as the image has them.
PARTS = (
    *("neck", "skin", "cloth", "l_ear", "r_ear", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "l_lip"),
    *("u_lip", "hair", "eye_g", "hat", "ear_r", "neck_l"),
)
CLASSES = (
    *("background", "neck", "skin", "cloth", "right_ear", "left_ear", "right_brow", "left_brow", "right_eye"),
    *("left_eye", "nose", "inner_mouth", "lower_lip", "upper_lip", "hair", "eyeglasses", "hat", "earring", "necklace"),
)
META = {
    "classes": CLASSES,
    "mask_flip": swapping(len(CLASSES), [(4, 5), (6, 7), (8, 9)]),
    "crop": "whole",  # aligned by its authors
}

plan = samples.plan


@dataclasses.dataclass(frozen=True)
class Painted:
    """A mask that is painted from the masks of parts, each over those before it."""

    parts: tuple[tuple[int, str], ...]  # class and file

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file for _, file in self.parts)

    def read(self, folder: Path) -> bytes:
        ids = np.zeros((0, 0), np.uint8)
        for class_id, file in self.parts:
            with Image.open(folder / file) as image:
                part = np.asarray(image.convert("L")) > 0
            ids = ids if ids.size else np.zeros(part.shape, np.uint8)
            if part.shape != ids.shape:
                raise ValueError(f"{file} is {part.shape[1]} x {part.shape[0]} pixels, those before it {ids.shape[1]}")
            ids[part] = class_id
        return png(Image.fromarray(ids))


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces that the mapping lists, in the splits of CelebA."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each line of the mapping."""
    within = BENCHMARK.within
    mapping = folder / within(folder, "CelebA-HQ-to-CelebA-mapping.txt")
    partition = dict(listings.rows(folder / within(folder, "list_eval_partition.txt"), 2))
    groups: dict[int, set[str]] = {}  # number of a folder of parts -> its files
    for number, _, original in listings.rows(mapping, 3, skip=1):
        if not number.isdigit():
            raise ValueError(f"{mapping}: a number of an image is expected, not {number!r}")
        if partition.get(original) not in SPLITS:
            raise ValueError(f"{original} of {mapping} is not in list_eval_partition.txt with 0, 1 or 2")
        group, stem = int(number) // 2000, f"{int(number):05d}"
        masks = f"CelebAMask-HQ-mask-anno/{group}"
        if group not in groups:
            groups[group] = set(os.listdir(folder / within(folder, masks)))
        names = [(class_id, f"{stem}_{part}.png") for class_id, part in enumerate(PARTS, 1)]
        parts = tuple((class_id, f"{masks}/{name}") for class_id, name in names if name in groups[group])
        if not parts:
            raise FileNotFoundError(f"no {stem}_*.png in {folder / masks}")
        values = {"image": f"CelebA-HQ-img/{number}.jpg", "mask": Painted(parts)}
        yield Sample(values, id=number, split=SPLITS[partition[original]])
