"""Any set with one folder of images per person, such as CASIA-WebFace, WebFace260M or MS-Celeb as folders.

RAW holds a folder per person, NAME/IMAGE.jpg, all of which are for training; or the folders train, val and test, each
with a folder per person. Images may be JPEG, PNG, WebP or BMP. Nothing is known of the licence of what they hold, so
their images are not shown; a manifest says more, see `manifest`.
"""

from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import people, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="identity_folders",
    title="Folders of people",
    tasks=("recognition",),
    source="whoever gives the set out",
    raw="a folder per person, or train, val and test with a folder per person",
    counts={},
    licence="that of the set",
    agreement="",
    citation="the set's paper",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FOLDERS = {"train": "train", "val": "validation", "test": "test"}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of all folders."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder))


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    inside = {path.name for path in folder.iterdir() if path.is_dir()}
    split = inside <= set(FOLDERS)
    for part in sorted(inside) if split else [""]:
        for person, path in people.folders(folder, part):
            yield Sample({"image": path, "identity": person}, id=path, split=FOLDERS.get(part, "train"))
