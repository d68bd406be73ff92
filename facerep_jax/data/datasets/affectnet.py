"""AffectNet: expression, valence and arousal, in the wild.

The manually annotated part: training.csv and validation.csv with the columns subDirectory_filePath, face_x, face_y,
face_width, face_height, facial_landmarks (x;y of 68 points), expression, valence and arousal, beside
Manually_Annotated_Images/. Expressions are 0 to 10: neutral, happiness, sadness, surprise, fear, disgust, anger,
contempt, none, uncertain, non-face. Valence and arousal are from -1 to 1, and -2 where they are not known.

An image whose expression is `none` has valence and arousal alone; uncertain ones and those without a face are left out,
and counted. The set's own test images were not given out: the field reports results of validation.csv, which is
therefore the split `test`. Landmarks are iBUG's, of an algorithm; boxes count their first pixel as 0: inferred.
Published sizes, of images with valence and arousal, are recalled. Rests on loaders of the tables.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import boxes, listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.meta import IBUG
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="affectnet",
    title="AffectNet",
    tasks=("valence", "arousal", "expression"),
    source="http://mohammadmahoor.com/affectnet/ (on request)",
    raw="the folder with training.csv, validation.csv and Manually_Annotated_Images",
    counts={"train": 320_739, "test": 4_500},
    licence="research; images are of other owners",
    agreement="signed by the head of a laboratory; not to be handed on",
    citation="Mollahosseini et al., AffectNet: A Database for Facial Expression, Valence, and Arousal, TAC 2017",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
NONE, LEFT_OUT = 8, (9, 10)  # uncertain, non-face
UNKNOWN, POINTS = -2, 68
SIDES = ("face_x", "face_y", "face_width", "face_height")
LABELS = ("expression", "valence", "arousal")
META = {"expressions": EXPRESSIONS, "landmarks": IBUG}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the two tables that show a face."""
    folder, skipped = BENCHMARK.folder(arg, manual_dir), [0]
    raw = BENCHMARK.gather(folder, found(folder, skipped), META)
    note = f"{skipped[0]} images left out that are uncertain or show no face"
    return dataclasses.replace(raw, notes=(*raw.notes, *([note] if skipped[0] else [])))


def found(folder: Path, skipped: list[int]) -> Iterator[Sample]:
    """A sample for each row that shows a face; `skipped` counts the others."""
    for name, split in (("training", "train"), ("validation", "test")):
        path = folder / BENCHMARK.within(folder, f"{name}.csv")
        for place, row in listings.table(path, "subDirectory_filePath", *SIDES, "facial_landmarks", *LABELS):
            number, valence, arousal = listings.numbers([row[label] for label in LABELS], place).tolist()
            if number not in range(11):
                raise ValueError(f"{place}expression must be 0 to 10, not {row['expression']!r}")
            if number in LEFT_OUT:
                skipped[0] += 1
                continue
            image = row["subDirectory_filePath"]
            values = {
                "image": f"Manually_Annotated_Images/{image}",
                "bbox": boxes.from_sides(*listings.numbers([row[side] for side in SIDES], place).tolist()),
                "landmarks": listings.points(row["facial_landmarks"].split(";"), POINTS, place),
                "expression": EXPRESSIONS[int(number)] if number < NONE else None,
                "valence": valence if valence != UNKNOWN else None,
                "arousal": arousal if arousal != UNKNOWN else None,
            }
            yield Sample(values, id=f"{name}/{image}", split=split)
