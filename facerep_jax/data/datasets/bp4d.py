"""BP4D: action units in videos of 41 people, frame by frame.

2D+3D/F001/T1/0001.jpg are the frames of the eight tasks of each person. Whether a unit is there is in
AUCoding/F001_T1.csv: a first row with the units' numbers, then a row for each coded frame with its number in the first
column, and 0, 1 or 9 (not coded) in that of each unit. Intensities, 0 to 5 or 9, are in
AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv and so on: frame and intensity, without a header. Later copies call these
folders AUCoding/AU_OCC and AUCoding/AU_INT.

`labels=occurrence` (the default) takes the units 1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23 and 24 as 0 or 1,
`labels=intensity` 6, 10, 12, 14 and 17 as 0 to 5. `fold=1`, 2 or 3 says which people are the test split, as the field's
three folds have it; `fold=fera` tests on people of even numbers, the development set of FERA 2015, whose own test set
of others is not part of BP4D. Coded frames without an image are left out, and counted. Rests on the readers of
TadasBaltrusaitis/FERA-2015 (both tables, its people) and on lists of the three folds that agree.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="bp4d",
    title="BP4D",
    tasks=("action units",),
    source="https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html (on request)",
    raw="the folder with 2D+3D, AUCoding and AU-Intensity-Codes3.0",
    counts={},
    licence="research only",
    agreement="signed by a university; some people's images may be shown in publications, others not",
    citation="Zhang et al., BP4D-Spontaneous: A High-Resolution Spontaneous 3D Dynamic Facial Expression Database, IVC"
    " 2014",
    arguments="labels=occurrence (default) or labels=intensity; fold=1 (default), 2, 3 or fera: who is for testing",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
UNITS = {"occurrence": (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24), "intensity": (6, 10, 12, 14, 17)}
HIGHEST = {"occurrence": 1, "intensity": 5}
UNKNOWN = 9
FOLDS = {  # people of the test split
    "1": {"F": (7, 15, 6, 19, 12, 4, 21, 17, 14), "M": (6, 9, 3, 15)},
    "2": {"F": (3, 5, 22, 13, 20, 11), "M": (11, 10, 2, 18, 17, 16, 13, 5)},
    "3": {"F": (1, 18, 8, 2, 10, 9, 16, 23), "M": (7, 4, 12, 1, 14, 8)},
}
TEST = {fold: {f"{sex}{n:03d}" for sex, of in people.items() for n in of} for fold, people in FOLDS.items()}
PEOPLE = set().union(*TEST.values())
TEST["fera"] = {person for person in PEOPLE if int(person[1:]) % 2 == 0}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The coded frames of all people."""
    folder, missing = BENCHMARK.folder(arg, manual_dir), [0]
    args = parse_arg(arg, labels="occurrence", fold="1")
    for name, known in (("labels", UNITS), ("fold", TEST)):
        if args[name] not in known:
            raise ValueError(f"{name} must be {', '.join(known)}, not {args[name]!r}")
    units = tuple(f"AU{unit}" for unit in UNITS[args.labels])
    meta = {"action_units": units, "action_unit_flip": tuple(range(len(units)))}
    raw = BENCHMARK.gather(folder, found(folder, args.labels, TEST[args.fold], missing), meta)
    note = f"{missing[0]} coded frames left out that have no image"
    return dataclasses.replace(raw, notes=(*raw.notes, *([note] if missing[0] else [])))


def found(folder: Path, labels: str, test: set[str], missing: list[int]) -> Iterator[Sample]:
    """A sample for each coded frame with an image; `missing` counts the others."""
    videos = folder / BENCHMARK.within(folder, "2D+3D")
    for person in sorted(path.name for path in videos.iterdir() if path.is_dir()):
        if person not in PEOPLE:
            raise ValueError(f"{videos / person}: no such person; F001 to F023 and M001 to M018 are known")
        for task in sorted(path.name for path in (videos / person).iterdir() if path.is_dir()):
            frames = {
                int(path.stem): path.name for path in (videos / person / task).glob("*.jpg") if path.stem.isdigit()
            }
            coded = (occurrences if labels == "occurrence" else intensities)(folder, f"{person}_{task}")
            for number, units in coded.items():
                if number not in frames:
                    missing[0] += 1
                    continue
                values = {
                    "image": f"2D+3D/{person}/{task}/{frames[number]}",
                    "identity": person,
                    "session": int(task.removeprefix("T")),
                    "frame": number,
                    "action_units": units,
                }
                yield Sample(values, id=f"{person}/{task}/{number:04d}", split="test" if person in test else "train")


def occurrences(folder: Path, video: str) -> dict[int, dict[str, int]]:
    """Frame -> unit -> whether it is there, of the units that are coded."""
    path = folder / BENCHMARK.within(folder, f"AUCoding/{video}.csv", f"AUCoding/AU_OCC/{video}.csv")
    rows = [[word.strip() for word in line.split(",")] for _, line in listings.lines(path)]
    head, *coded = rows or [[]]
    if lacking := [unit for unit in UNITS["occurrence"] if str(unit) not in head[1:]]:
        raise ValueError(f"{path}: the units' numbers are expected in its first row, but {lacking[0]} is not there")
    columns = {f"AU{unit}": head.index(str(unit), 1) for unit in UNITS["occurrence"]}
    return {
        _number(path, row[0]): _known(path, {name: row[column] for name, column in columns.items()}, "occurrence")
        for row in coded
    }


def intensities(folder: Path, video: str) -> dict[int, dict[str, int]]:
    """Frame -> unit -> intensity, of the units that are coded."""
    coded: dict[int, dict[str, int]] = {}
    for unit in UNITS["intensity"]:
        name = f"AU{unit:02d}/{video}_AU{unit:02d}.csv"
        path = folder / BENCHMARK.within(folder, f"AU-Intensity-Codes3.0/{name}", f"AUCoding/AU_INT/{name}")
        for frame, intensity in listings.rows(path, 2, separator=","):
            coded.setdefault(_number(path, frame), {}).update(_known(path, {f"AU{unit}": intensity}, "intensity"))
    return coded


def _number(path: Path, word: str) -> int:
    if not word.isdigit():
        raise ValueError(f"{path}: the number of a frame is expected, not {word!r}")
    return int(word)


def _known(path: Path, labels: dict[str, str], kind: str) -> dict[str, int]:
    """The labels as numbers, without those that are not coded."""
    allowed = {str(label) for label in (*range(HIGHEST[kind] + 1), UNKNOWN)}
    for name, label in labels.items():
        if label not in allowed:
            raise ValueError(f"{path}: {name} must be 0 to {HIGHEST[kind]} or {UNKNOWN}, not {label!r}")
    return {name: int(label) for name, label in labels.items() if int(label) != UNKNOWN}
