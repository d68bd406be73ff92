"""Sets of recognition as insightface trades them: MS1MV2, MS1MV3, Glint360K, CASIA-WebFace and others as train.rec.

RAW holds train.rec and train.idx, MXNet's RecordIO; see `data.recordio`. All images are for training, of 112 x 112
pixels, aligned by five points. A person's name is the number that the file gives; images without one (a number below 0)
have no identity. Rests on insightface's dataset.py (which records are images, what is a label).
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import recordio, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="insightface_rec",
    title="insightface's people",
    tasks=("recognition",),
    source="https://github.com/deepinsight/insightface/tree/master/recognition/_datasets_",
    raw="the folder with train.rec and train.idx",
    counts={},
    licence="that of each set; research only, and MS-Celeb-1M was withdrawn by its authors",
    agreement="that of each set",
    citation="the set's paper, and Deng et al., ArcFace, CVPR 2019",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
META = {"crop": "whole"}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the file."""
    folder = BENCHMARK.folder(arg, manual_dir)
    for file in ("train.rec", "train.idx"):
        BENCHMARK.within(folder, file)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    for key, label, image in recordio.labelled(folder, "train"):
        identity = str(int(label)) if label >= 0 else None
        yield Sample({"image": image, "identity": identity}, id=f"{key:08d}")
