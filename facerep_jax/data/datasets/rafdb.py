"""RAF-DB: seven basic expressions, in the wild.

The folder basic of the archive: EmoLabel/list_patition_label.txt (train_00001.jpg and a number from 1 to 7: surprise,
fear, disgust, happiness, sadness, anger, neutral) and Image/aligned/train_00001_aligned.jpg (100 x 100 pixels), or
Image/original/train_00001.jpg, which `images=original` takes.

Compound expressions, and the manual annotations of gender, race and age, are not read. Rests on several loaders of the
list, which agree; the order of the seven is the archive's own (its spelling "patition" too).
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.config import parse_arg
from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="rafdb",
    title="RAF-DB",
    tasks=("expression",),
    source="http://www.whdeng.cn/RAF/model1.html (on request)",
    raw="the folder basic with EmoLabel and Image",
    counts={"train": 12_271, "test": 3_068},
    licence="non-commercial research",
    agreement="signed by a permanent member of a university; not to be handed on",
    citation="Li, Deng and Du, Reliable Crowdsourcing and Deep Locality-Preserving Learning, CVPR 2017",
    arguments="images=aligned (default) or images=original",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # from 1 on
META = {"expressions": EXPRESSIONS, "crop": "whole"}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the list."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, images="aligned")
    if args.images not in ("aligned", "original"):
        raise ValueError(f"images must be aligned or original, not {args.images!r}")
    return BENCHMARK.gather(folder, found(folder, args.images), META)


def found(folder: Path, images: str) -> Iterator[Sample]:
    """A sample for each line."""
    path = folder / BENCHMARK.within(folder, "EmoLabel/list_patition_label.txt")
    for file, label in listings.rows(path, 2):
        name, split = file.removesuffix(".jpg"), file.partition("_")[0]
        if split not in ("train", "test") or label not in tuple("1234567"):
            raise ValueError(f"{path}: train_ or test_NUMBER.jpg and 1 to 7 are expected, not {file} {label}")
        image = f"Image/aligned/{name}_aligned.jpg" if images == "aligned" else f"Image/original/{file}"
        yield Sample({"image": image, "expression": EXPRESSIONS[int(label) - 1]}, id=name, split=split)
