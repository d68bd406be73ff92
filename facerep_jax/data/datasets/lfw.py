"""LFW: who is who, 6,000 pairs in ten folds.

lfw.tgz (or its aligned forms) unpacks to lfw/NAME/NAME_0001.jpg; pairs.txt has to be put beside that folder. Its first
line is the number of folds and of pairs of a kind in each: 10 and 300. Then, fold by fold, 300 lines with a name and
two numbers, a pair of one person, and 300 with a name and a number twice, one of two.

All 13,233 images are the test split; the table `pairs` has first, second (ids), same and fold (from 0). Rests on the
description at vis-www.cs.umass.edu/lfw (no longer there, recalled) and on scikit-learn's reader.
"""

from pathlib import Path

from facerep_jax.data import listings, people, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.records import Table
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="lfw",
    title="LFW",
    tasks=("recognition",),
    source="http://vis-www.cs.umass.edu/lfw/ (lfw.tgz and pairs.txt)",
    raw="the folder with pairs.txt and lfw, lfw_funneled or lfw-deepfunneled",
    counts={"test": 13_233},
    licence="none stated; images are news photographs of other owners",
    agreement="research; not to be taken for a proof that a product works",
    citation="Huang et al., Labeled Faces in the Wild: A Database for Studying Face Recognition, 2007",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
META = {"crop": "whole"}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """All images, and the table of pairs."""
    folder = BENCHMARK.folder(arg, manual_dir)
    images = BENCHMARK.within(folder, "lfw", "lfw_funneled", "lfw-deepfunneled")
    found = [
        Sample({"image": path, "identity": person}, id=Path(path).stem, split="test")
        for person, path in people.folders(folder, images)
    ]
    path = folder / BENCHMARK.within(folder, "pairs.txt")
    tables = {"pairs": pairs(path, {sample.id for sample in found})}
    return BENCHMARK.gather(folder, found, META, tables=tables)


def pairs(path: Path, known: set[str]) -> Table:
    """The table of pairs that a text lists."""
    listed = [*listings.lines(path)]
    head = listed[0][1].split() if listed else []
    if len(head) != 2 or not all(word.isdigit() for word in head):
        raise ValueError(f"{path}: the number of folds and of pairs are expected in its first line")
    folds, count = map(int, head)
    if len(listed) != 1 + 2 * folds * count:
        raise ValueError(f"{path}: {2 * folds * count} pairs are expected, not {len(listed) - 1}")
    table = people.Pairs(known)
    for number, (place, line) in enumerate(listed[1:]):
        words, same = line.split(), number % (2 * count) < count
        if len(words) != (3 if same else 4):
            raise ValueError(f"{place}a pair of {'one person' if same else 'two people'} is expected, not {line!r}")
        two = (words[0], words[1]), (words[0] if same else words[2], words[-1])
        if not all(index.isdigit() for _, index in two):
            raise ValueError(f"{place}numbers of images are expected, not {line!r}")
        first, second = (f"{name}_{int(index):04d}" for name, index in two)
        table.add(first, second, same=same, fold=number // (2 * count), place=place)
    return table.table
