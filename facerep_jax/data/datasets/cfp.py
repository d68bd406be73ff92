"""CFP: faces from the front and in profile, ten folds of 700 pairs of each kind.

cfp-dataset.zip unpacks to Data/Images/001/frontal/01.jpg (500 people, ten frontal and four profile images each) and
Protocol/. Pair_list_F.txt and Pair_list_P.txt number the frontal and the profile images from 1 (a number, and a path
that ends in 001/frontal/01.jpg); Split/FP/01/same.txt and diff.txt to Split/FP/10/ have pairs of numbers, "1,1": of
the first list and the second one. Split/FF has pairs of the first list alone.

All 7,000 images are the test split. The table `pairs` is the frontal-profile protocol, CFP-FP, `pairs_ff` the other:
first, second (ids), same and fold (from 0). Images are photographs, not aligned. Rests on several loaders of the two
lists and of the splits, which agree.
"""

from pathlib import Path

from facerep_jax.data import listings, people, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.records import Table
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="cfp",
    title="CFP",
    tasks=("recognition",),
    source="http://www.cfpw.io/ (cfp-dataset.zip)",
    raw="the folder cfp-dataset with Data and Protocol",
    counts={"test": 7_000},
    licence="none stated; images are of other owners",
    agreement="",
    citation="Sengupta et al., Frontal to Profile Face Verification in the Wild, WACV 2016",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FOLDS = 10
IMAGES = "Data/Images"

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """All images that the two lists number, and the tables of pairs."""
    folder = BENCHMARK.folder(arg, manual_dir)
    frontal, profile = (_numbered(folder, f"Pair_list_{side}.txt") for side in "FP")
    ids = [*frontal.values(), *profile.values()]
    found = [
        Sample({"image": f"{IMAGES}/{name}.jpg", "identity": name.split("/")[0]}, id=name, split="test") for name in ids
    ]
    tables = {"pairs": pairs(folder, "FP", frontal, profile), "pairs_ff": pairs(folder, "FF", frontal, frontal)}
    return BENCHMARK.gather(folder, found, tables=tables)


def _numbered(folder: Path, name: str) -> dict[str, str]:
    """Number -> id, such as 001/frontal/01, of the images in a list."""
    path = folder / BENCHMARK.within(folder, f"Protocol/{name}")
    found = {}
    for number, image in listings.rows(path, 2):
        parts = image.replace("\\", "/").removesuffix(".jpg").split("/")
        if not number.isdigit() or len(parts) < 3:
            raise ValueError(f"{path}: a number and a path PERSON/KIND/IMAGE.jpg are expected, not {number} {image}")
        found[number] = "/".join(parts[-3:])
    return found


def pairs(folder: Path, protocol: str, first: dict[str, str], second: dict[str, str]) -> Table:
    """The table of the ten folds of a protocol."""
    table = people.Pairs({*first.values(), *second.values()})
    for fold in range(FOLDS):
        for name, same in (("same", True), ("diff", False)):
            path = folder / BENCHMARK.within(folder, f"Protocol/Split/{protocol}/{fold + 1:02d}/{name}.txt")
            for one, other in listings.rows(path, 2, separator=","):
                if one not in first or other not in second:
                    raise ValueError(f"{path}: no images of numbers {one} and {other} in the lists")
                table.add(first[one], second[other], same=same, fold=fold)
    return table.table
