"""DigiFace-1M: rendered faces of 110,000 made-up people.

Each archive unpacks to folders of people, PERSON/IMAGE.png (112 x 112 pixels): subjects_0-1999_72_imgs.zip and four
more have 72 images of each of 10,000 people, subjects_100000-133332_5_imgs.zip and two more five of each of 99,999.
RAW holds a folder per archive, named as it is; a person's number is the same nowhere else. Any of the archives will do.

There is no published split, so all are for training. Published numbers of images are the authors' "720K" and "500K",
made exact by the names of the archives.
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import people, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="digiface",
    title="DigiFace-1M",
    tasks=("recognition",),
    source="https://github.com/microsoft/DigiFace1M",
    raw="a folder per archive, such as subjects_0-1999_72_imgs, with a folder per person",
    counts={"train": 1_219_995},
    licence="research use of data agreement, non-commercial (recalled)",
    agreement="by downloading one agrees to the terms on its page",
    citation="Bae et al., DigiFace-1M: 1 Million Digital Face Images for Face Recognition, WACV 2023",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
META = {"crop": "whole"}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of all archives."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    archives = sorted(path.name for path in folder.glob("subjects_*_imgs") if path.is_dir())
    if not archives:
        raise FileNotFoundError(f"no subjects_*_imgs in {folder}; expected {BENCHMARK.raw}")
    for archive in archives:
        for person, path in people.folders(folder, archive):
            yield Sample({"image": path, "identity": person}, id=f"{person}/{Path(path).stem}")
