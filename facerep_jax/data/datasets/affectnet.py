"""AffectNet: expression, valence and arousal, in the wild.

The manually annotated part: training.csv and validation.csv with the columns subDirectory_filePath, face_x, face_y,
face_width, face_height, facial_landmarks (x;y of 68 points), expression, valence and arousal, beside
Manually_Annotated_Images/. Expressions are 0 to 10: neutral, happiness, sadness, surprise, fear, disgust, anger,
contempt, none, uncertain, non-face. Valence and arousal are from -1 to 1, and -2 where they are not known.

An image whose expression is `none` has valence and arousal alone; uncertain ones and those without a face are left out,
and counted. The set's own test images were not given out: the field reports results of validation.csv, which is
therefore the split `test`. Landmarks are iBUG's, of an algorithm; boxes count their first pixel as 0: inferred.
Published sizes, of images with valence and arousal, are recalled. Rests on loaders of the tables.

With `clean` test images whose expression does not go with their valence and arousal are left out, and counted: neutral
at an intensity √(valence² + arousal²) of 0.2 or more, others at 0.2 or less (disgust 0.3), happiness that is not
pleasant, sadness, fear, disgust and contempt that are not unpleasant, surprise, fear and anger that are calm. Source:
emonet, of FRL's authors, which also leaves out images from a list of its own that was not given out. Images without
one of the three labels are left out too.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
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
    arguments="clean: leave out test images whose labels contradict each other",
    citation="Mollahosseini et al., AffectNet: A Database for Facial Expression, Valence, and Arousal, TAC 2017",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
NONE, LEFT_OUT = 8, (9, 10)  # uncertain, non-face
UNKNOWN, POINTS = -2, 68
SIDES = ("face_x", "face_y", "face_width", "face_height")
LABELS = ("expression", "valence", "arousal")
PLEASANT = {"happiness": 1, "sadness": -1, "disgust": -1, "contempt": -1}  # sign of the valence
EXCITED = ("surprise", "anger")  # whose arousal is above 0
WEAK, STRONGER = 0.2, 0.3  # intensities
META = {"expressions": EXPRESSIONS, "landmarks": IBUG}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the two tables that show a face."""
    folder, skipped = BENCHMARK.folder(arg, manual_dir), Counter[str]()
    clean = parse_arg(arg, clean=False).clean
    raw = BENCHMARK.gather(folder, found(folder, skipped, clean), META)
    notes = (f"{count} {what}" for what, count in skipped.items())
    return dataclasses.replace(raw, notes=(*raw.notes, *notes))


def found(folder: Path, skipped: Counter[str], clean: bool) -> Iterator[Sample]:
    """A sample for each row that shows a face, and, if test images are to be clean, is `agreed`; others are counted."""
    for name, split in (("training", "train"), ("validation", "test")):
        path = folder / BENCHMARK.within(folder, f"{name}.csv")
        for place, row in listings.table(path, "subDirectory_filePath", *SIDES, "facial_landmarks", *LABELS):
            number, valence, arousal = listings.numbers([row[label] for label in LABELS], place).tolist()
            if number not in range(11):
                raise ValueError(f"{place}expression must be 0 to 10, not {row['expression']!r}")
            if number in LEFT_OUT:
                skipped["images left out that are uncertain or show no face"] += 1
                continue
            if clean and split == "test" and (number == NONE or not agreed(EXPRESSIONS[int(number)], valence, arousal)):
                skipped["test images left out whose expression, valence and arousal contradict each other"] += 1
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


def agreed(expression: str, valence: float, arousal: float) -> bool:
    """Whether an expression goes with valence and arousal, by the rules of emonet; not so if one is not known."""
    if UNKNOWN in (valence, arousal):
        return False
    intensity = math.hypot(valence, arousal)
    if expression == "neutral":
        return intensity < WEAK
    if expression == "fear":  # alone may be at 0 of one
        return valence <= 0 and arousal >= 0 and intensity > WEAK
    pleasant = PLEASANT.get(expression, 0) * valence > 0 or expression not in PLEASANT
    excited = arousal > 0 or expression not in EXCITED
    return pleasant and excited and intensity > (STRONGER if expression == "disgust" else WEAK)
