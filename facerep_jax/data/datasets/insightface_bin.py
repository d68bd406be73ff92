"""Pairs of aligned images as insightface trades them: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW and others as NAME.bin.

A file is a pickle of the images' files and of whether each two of them are of one person; see `data.pickled`, which
runs nothing in it. `set=cfp_fp` says which file if there are several. The test split has two records per pair, of
112 x 112 pixels, in order; the table `pairs` has first, second (ids), same and fold (ten, of neighbouring pairs, from
0). Rests on insightface's verification.py (the two lists, ten folds without shuffling).
"""

from pathlib import Path

import numpy as np

from facerep_jax.config import parse_arg
from facerep_jax.data import people, pickled, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="insightface_bin",
    title="insightface's pairs",
    tasks=("recognition",),
    source="https://github.com/deepinsight/insightface/wiki/Dataset-Zoo",
    raw="the folder with NAME.bin, such as agedb_30.bin",
    counts={},
    licence="that of each set; research only",
    agreement="that of each set",
    citation="the set's paper: LFW, CFP, AgeDB (Moschoglou et al. 2017), CALFW, CPLFW",
    arguments="set=NAME of NAME.bin, needed if there are several",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FOLDS = 10
META = {"crop": "whole"}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of a file, and the table of its pairs."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, set="")
    names = sorted(path.stem for path in folder.glob("*.bin"))
    if not args.set and len(names) != 1:
        raise ValueError(f"say which file by set=NAME; {folder} holds {', '.join(names) or 'no .bin'}")
    file = BENCHMARK.within(folder, f"{args.set or names[0]}.bin")
    images, same = pickled.pairs((folder / file).resolve())
    ids = [f"{index:06d}" for index in range(len(images))]
    found = [Sample({"image": pickled.Pickled(file, i)}, id=name, split="test") for i, name in enumerate(ids)]
    table = people.Pairs(set(ids))
    for fold, members in enumerate(np.array_split(np.arange(len(same)), FOLDS)):
        for pair in members:
            table.add(ids[2 * pair], ids[2 * pair + 1], same=same[pair], fold=fold)
    return BENCHMARK.gather(folder, found, META, tables={"pairs": table.table})
