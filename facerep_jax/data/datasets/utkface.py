"""UTKFace: age, gender and ethnicity, in the names of the files.

UTKFace.tar.gz (aligned and cropped) unpacks to UTKFace/AGE_GENDER_ETHNICITY_DATE.jpg.chip.jpg, or parts in the wild to
files AGE_GENDER_ETHNICITY_DATE.jpg. Gender is 0 for male and 1 for female, ethnicity 0 to 4: White, Black, Asian,
Indian, others. Some names lack one of both, and nobody can say which: both are then missing, and counted.

There is no published split, so all are for training, unless `test=0.2,validation=0.1` take such shares of the images,
by a hash of AGE_GENDER_ETHNICITY_DATE, which is the same for a face in the wild and aligned. People are not known, so
that one may be in several splits. `age` is in years; gender and ethnicity are attributes, as the set's annotators and
an algorithm saw them, not what people say of themselves. Rests on the description at susanqq.github.io/UTKFace
(recalled).
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
    name="utkface",
    title="UTKFace",
    tasks=("age", "attributes"),
    source="https://susanqq.github.io/UTKFace/",
    raw="the folder UTKFace, or those of the images in the wild",
    counts={},
    licence="non-commercial research; images are of their owners",
    agreement="by downloading one agrees to the terms on its page",
    citation="Zhang, Song and Qi, Age Progression/Regression by Conditional Adversarial Autoencoder, CVPR 2017",
    arguments="test=0 (default) and validation=0: shares of the images that are these splits",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FILE = re.compile(r"(?P<age>\d{1,3})_(?:(?P<gender>[01])_(?P<ethnicity>[0-4])|.*)_\d{8,20}")
ETHNICITIES = ("white", "black", "asian", "indian", "others")
ATTRIBUTES = ("female", *ETHNICITIES)
META = {"attributes": ATTRIBUTES, "attribute_flip": tuple(range(len(ATTRIBUTES)))}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the folder and of those in it."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, validation=0.0, test=0.0)
    shares.check(**args)
    found = [*images(folder, **args)]
    raw = BENCHMARK.gather(folder, found, META)
    lacking = sum(sample.values["attributes"] is None for sample in found)
    note = f"{lacking} files' names lack gender or ethnicity, which are then missing"
    return dataclasses.replace(raw, notes=(*raw.notes, *([note] if lacking else [])))


def images(folder: Path, **of: float) -> Iterator[Sample]:
    """A sample for each image; `of` are the shares of the splits."""
    for path in sorted(folder.rglob("*.jpg")):
        name = path.name.split(".")[0].removesuffix("jpg")
        said = FILE.fullmatch(name)
        if not said:
            raise ValueError(f"{path}: a name AGE_GENDER_ETHNICITY_DATE is expected")
        attributes = {}
        if said["gender"]:
            ethnicity = ETHNICITIES[int(said["ethnicity"])]
            attributes = {"female": int(said["gender"])} | {name: int(name == ethnicity) for name in ETHNICITIES}
        image = path.relative_to(folder).as_posix()
        values = {"image": image, "age": float(said["age"]), "attributes": attributes or None}
        yield Sample(values, id=image, split=shares.split_of(name, **of))
