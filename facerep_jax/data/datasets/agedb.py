"""AgeDB: age and identity, in the names of the files.

AgeDB.zip unpacks to AgeDB/0_MariaCallas_35_f.jpg: a number, the name, the age in years and f or m. There is no
published split, so all are for training, unless `test=0.2,validation=0.1` take such shares of the people, by a hash of
the name. `age` is in years, gender an attribute as the set has it. The pairs that the field calls AgeDB-30 are traded
apart from it, as agedb_30.bin: see `insightface_bin`. Their folds in the authors' own .mat files are not read. Rests on
loaders of the names.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
from facerep_jax.data import samples, shares
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="agedb",
    title="AgeDB",
    tasks=("age", "recognition"),
    source="https://ibug.doc.ic.ac.uk/resources/agedb/ (on request)",
    raw="the folder AgeDB with NUMBER_NAME_AGE_GENDER.jpg",
    counts={"train": 16_488},
    licence="non-commercial research; images are of other owners",
    agreement="one asks for the password of the archive; not to be handed on",
    citation="Moschoglou et al., AgeDB: The First Manually Collected, In-the-Wild Age Database, CVPRW 2017",
    arguments="test=0 (default) and validation=0: shares of the people who are these splits",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FILE = re.compile(r"\d+_(?P<person>.+)_(?P<age>\d{1,3})_(?P<gender>[fm])")
META = {"attributes": ("female",), "attribute_flip": (0,)}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the folder."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, validation=0.0, test=0.0)
    shares.check(**args)
    benchmark = dataclasses.replace(BENCHMARK, counts={}) if any(args.values()) else BENCHMARK
    return benchmark.gather(folder, found(folder, **args), META)


def found(folder: Path, **of: float) -> Iterator[Sample]:
    """A sample for each image; `of` are the shares of the splits."""
    images = sorted(path for path in folder.glob("*.jpg"))
    if not images:
        raise FileNotFoundError(f"no *.jpg in {folder}; expected {BENCHMARK.raw}")
    for path in images:
        said = FILE.fullmatch(path.stem)
        if not said:
            raise ValueError(f"{path}: a name NUMBER_NAME_AGE_GENDER.jpg is expected")
        values = {
            "image": path.name,
            "identity": said["person"],
            "age": float(said["age"]),
            "attributes": {"female": int(said["gender"] == "f")},
        }
        yield Sample(values, id=path.stem, split=shares.split_of(said["person"], **of))
