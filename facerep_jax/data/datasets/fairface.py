"""FairFace: age group, gender and race, balanced over seven groups.

fairface-img-margin025-trainval.zip (or margin125) unpacks to train/1.jpg and val/1.jpg; fairface_label_train.csv and
fairface_label_val.csv have the columns file, age, gender, race and service_test.

Each label is an attribute of 0 or 1: `female`, one per race, one per age group, and `service_test` (the subset on
which commercial services were compared). They are what annotators saw, not what people say of themselves. Rests on the
authors' README (names of the groups) and loaders of the tables.
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="fairface",
    title="FairFace",
    tasks=("attributes",),
    source="https://github.com/joojs/fairface (images of one margin, and both tables)",
    raw="the folder with train, val, fairface_label_train.csv and fairface_label_val.csv",
    counts={"train": 86_744, "validation": 10_954},
    licence="CC BY 4.0",
    agreement="",
    citation="Karkkainen and Joo, FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age, WACV 2021",
    research_only=False,
    may_show_images=True,
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
ATTRIBUTES = ("female", *RACES, *(f"age {age}" for age in AGES), "service_test")
META = {"attributes": ATTRIBUTES, "attribute_flip": tuple(range(len(ATTRIBUTES)))}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the two tables."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each row."""
    for part, split in (("train", "train"), ("val", "validation")):
        path = folder / BENCHMARK.within(folder, f"fairface_label_{part}.csv")
        for place, row in listings.table(path, "file", "age", "gender", "race", "service_test"):
            for column, known in (("age", AGES), ("gender", ("Male", "Female")), ("race", RACES)):
                if row[column] not in known:
                    raise ValueError(f"{place}{column} must be {', '.join(known)}, not {row[column]!r}")
            is_true = {"female": row["gender"] == "Female", "service_test": row["service_test"].lower() == "true"}
            is_true |= {race: race == row["race"] for race in RACES} | {f"age {age}": age == row["age"] for age in AGES}
            values = {"image": row["file"], "attributes": {name: int(is_true[name]) for name in ATTRIBUTES}}
            yield Sample(values, id=row["file"].rpartition(".")[0], split=split)
