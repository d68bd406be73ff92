"""LFWA: CelebA's 40 attributes on LFW's faces.

lfw_att_40.mat holds AttrName (40 names), name (NAME\\NAME_0001.jpg of each image) and label (a row of 40 zeros and ones
for each), indices_train_test.mat holds indices_img_train and indices_img_test, which count from 1. Both are of MATLAB
7.3, that is HDF5, so h5py is needed: pip install 'facerep_jax[matlab]'. The images lie in lfw/, as LFW's do.

Published sizes are recalled. Rests on loaders of the two files (names of the variables, backslashes).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facerep_jax.data import matlab, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="lfwa",
    title="LFWA",
    tasks=("attributes",),
    source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (LFWA+)",
    raw="the folder with lfw_att_40.mat, indices_train_test.mat and lfw or lfw-deepfunneled",
    counts={"train": 6_263, "test": 6_880},
    licence="non-commercial research; images are of other owners",
    agreement="no copying, publishing or distribution of any part of it outside of one's own site",
    citation="Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
LABELS, INDICES, ATTRIBUTES = "lfw_att_40.mat", "indices_train_test.mat", 40

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the two files."""
    folder = BENCHMARK.folder(arg, manual_dir)
    with matlab.hdf5(folder / LABELS) as held:
        _check(held, folder / LABELS, "AttrName", "name", "label")
        names, images = (matlab.cells(held, key) for key in ("AttrName", "name"))
        labels = np.asarray(held["label"]).T  # transposed in the file
    with matlab.hdf5(folder / INDICES) as held:
        _check(held, folder / INDICES, "indices_img_train", "indices_img_test")
        splits = {split: np.asarray(held[f"indices_img_{split}"]).ravel().astype(int) for split in ("train", "test")}
    if len(names) != ATTRIBUTES or labels.shape != (len(images), ATTRIBUTES):
        raise ValueError(f"{folder / LABELS}: {ATTRIBUTES} labels of each image are expected, not {labels.shape}")
    meta = {"attributes": names, "attribute_flip": tuple(range(ATTRIBUTES)), "crop": "whole"}
    root = BENCHMARK.within(folder, "lfw", "lfw-deepfunneled", "lfw_funneled")
    return BENCHMARK.gather(folder, found(root, names, images, labels, splits), meta)


def _check(held: Any, path: Path, *names: str) -> None:
    if lacking := [name for name in names if name not in held]:
        raise ValueError(f"{path} lacks {', '.join(lacking)}")


def found(
    root: str, names: list[str], images: list[str], labels: np.ndarray, splits: dict[str, np.ndarray]
) -> Iterator[Sample]:
    """A sample for each image of the two splits."""
    for split, numbers in splits.items():
        for number in numbers:
            if not 1 <= number <= len(images):
                raise ValueError(f"{INDICES}: image {number} of {len(images)}")
            image = images[number - 1].replace("\\", "/")
            attributes = {name: int(label) for name, label in zip(names, labels[number - 1], strict=True)}
            yield Sample({"image": f"{root}/{image}", "attributes": attributes}, id=Path(image).stem, split=split)
