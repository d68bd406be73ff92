"""DISFA: intensities of twelve action units in videos of 27 people.

ActionUnit_Labels/SN001/SN001_au1.txt has a line for each frame, its number from 1 and an intensity from 0 to 5, for
each of the units 1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25 and 26. The videos have to be cut into frames that count from 1:

    ffmpeg -i Videos_LeftCamera/LeftVideoSN001_comp.avi Frames/SN001/%05d.jpg

Detection is published for the units 1, 2, 4, 6, 9, 12, 25 and 26, present from intensity 2 on; estimation of
intensities for all twelve. `fold=1`, 2 or 3 says which nine people are the test split, as the field's three folds have
it; the other 18 are for training. A frame without labels is left out, and counted. Rests on loaders that agree on the
labels and folds; their frames count from 0 or from 1, ours are ffmpeg's.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.people import SUFFIXES
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="disfa",
    title="DISFA",
    tasks=("action units",),
    source="http://mohammadmahoor.com/disfa/ (on request)",
    raw="the folder with ActionUnit_Labels and Frames, which ffmpeg makes of the videos",
    counts={},
    licence="research",
    agreement="signed by the head of a laboratory; some people's images may be shown in publications, others not",
    citation="Mavadati et al., DISFA: A Spontaneous Facial Action Intensity Database, TAC 2013",
    arguments="fold=1 (default), 2 or 3: which nine people are for testing",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
TEST = {  # fold -> people of the test split, SN...
    1: (3, 29, 23, 25, 8, 5, 7, 17, 4),
    2: (13, 18, 11, 28, 12, 6, 31, 21, 24),
    3: (2, 10, 1, 26, 27, 32, 30, 9, 16),
}
META = {"action_units": tuple(f"AU{unit}" for unit in UNITS), "action_unit_flip": tuple(range(len(UNITS)))}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The labelled frames of all people."""
    folder, args, unlabelled = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, fold=1), [0]
    if args.fold not in TEST:
        raise ValueError(f"fold must be 1, 2 or 3, not {args.fold}")
    test = {f"SN{person:03d}" for person in TEST[args.fold]}
    raw = BENCHMARK.gather(folder, found(folder, test, unlabelled), META)
    note = f"{unlabelled[0]} frames left out that have no labels"
    return dataclasses.replace(raw, notes=(*raw.notes, *([note] if unlabelled[0] else [])))


def found(folder: Path, test: set[str], unlabelled: list[int]) -> Iterator[Sample]:
    """A sample for each frame with labels; `unlabelled` counts the others."""
    known = {f"SN{person:03d}" for people in TEST.values() for person in people}
    for person in sorted(path.name for path in (folder / BENCHMARK.within(folder, "ActionUnit_Labels")).iterdir()):
        if person not in known:
            raise ValueError(f"{folder / 'ActionUnit_Labels' / person}: no such person; SN001 to SN032 are known")
        labels = {f"AU{unit}": _intensities(folder, person, unit) for unit in UNITS}
        frames = sorted((folder / BENCHMARK.within(folder, f"Frames/{person}")).iterdir())
        for path in (path for path in frames if path.suffix.lower() in SUFFIXES):
            if not path.stem.isdigit():
                raise ValueError(f"{path}: a frame's number is expected")
            number = int(path.stem)
            if any(number not in of for of in labels.values()):
                unlabelled[0] += 1
                continue
            values = {
                "image": path.relative_to(folder).as_posix(),
                "identity": person,
                "frame": number,
                "action_units": {unit: of[number] for unit, of in labels.items()},
            }
            yield Sample(values, id=f"{person}/{number:05d}", split="test" if person in test else "train")


def _intensities(folder: Path, person: str, unit: int) -> dict[int, int]:
    """Frame -> intensity of a unit."""
    path = folder / BENCHMARK.within(folder, f"ActionUnit_Labels/{person}/{person}_au{unit}.txt")
    found = {}
    for frame, intensity in listings.rows(path, 2, separator=","):
        if not frame.isdigit() or intensity not in tuple("012345"):
            raise ValueError(f"{path}: a frame and an intensity from 0 to 5 are expected, not {frame},{intensity}")
        found[int(frame)] = int(intensity)
    return found
