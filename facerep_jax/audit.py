"""Find what a set to train on shares with sets to evaluate on: images that look alike, and people.

    facerep audit laion_face/default --against manifest/mine,generated_faces/demo --data_dir data --out audit

Images of the split `train` of the first set are compared with those of `validation` and `test` of the others, or with
all where a set has neither. A copy is found though it was resized, encoded anew, mirrored, or cropped by a tenth of
its sides. OUT/near_duplicates.jsonl lists each with what it is like, and OUT/ids.txt the ids, as
`facerep prepare laion_face:exclude_ids=OUT/ids.txt` takes them. People who stand in two splits of one set are named.

The exit status is 0 if nothing is shared, 1 if something is.
"""

import functools
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import UInt64
from tqdm import tqdm

from facerep_jax import files
from facerep_jax.data import processes
from facerep_jax.data.bucket import Folder
from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.perceptual_hash import ALIKE, grey_of, nearest_views, views_of
from facerep_jax.data.transforms import text_of

BLOCK = 256  # images that a process compares at a time
FEW = 8  # blocks from which on processes pay
NAMED = 5  # people whose names are printed


@dataclass(frozen=True)
class Held:
    """The images of a set to evaluate on."""

    names: tuple[str, ...]  # SET SPLIT ID
    views: UInt64[np.ndarray, "n v 4"]
    mirrored: UInt64[np.ndarray, "n v 4"]  # those of the mirror images


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Defines this command's flags."""
    words = functools.partial(flags.DEFINE_string, flag_values=flag_values)
    words("data_dir", "data", "folder of all prepared data sets")
    flags.DEFINE_list("against", None, "sets to evaluate on: A,B", required=True, flag_values=flag_values)
    words("out", None, "folder for near_duplicates.jsonl and ids.txt", required=True)
    flags.DEFINE_integer(
        "bits", ALIKE, "of 256, in which near-duplicates differ at most", 0, 128, flag_values=flag_values
    )


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Compares the sets, prints what they share, and returns the exit status."""
    if len(words) != 1:
        raise ValueError(f"one set to train on is expected, not {' '.join(words) or 'none'}: facerep audit TRAIN ...")
    out = files.local_path("--out", flag_values.out)
    files.writable_folder("--out", out)
    train = open_dataset(words[0], flag_values.data_dir)
    others = [open_dataset(name, flag_values.data_dir) for name in flag_values.against]
    held = [_held(other) for other in others]
    found = list(near_duplicates(train, held, flag_values.bits))
    out.mkdir(parents=True, exist_ok=True)
    files.write(out / "near_duplicates.jsonl", "".join(json.dumps(line) + "\n" for line in found))
    ids = dict.fromkeys(_listed_id(train, line["id"]) for line in found)
    files.write(out / "ids.txt", "".join(f"{name}\n" for name in ids))
    for other, images in zip(others, held, strict=True):
        known = set(images.names)
        leaked = {line["like"] for line in found} & known
        share = f"{len(leaked)} of {len(known)} images ({len(leaked) / max(len(known), 1):.1%}) of {other.name}"
        print(f"{share} have a near-duplicate in {train.name}")
    twice = {dataset.name: people_in_two_splits(dataset) for dataset in (train, *others)}
    for name, people in twice.items():
        if people:
            more = ", ..." if len(people) > NAMED else ""
            print(f"{len(people)} people are in two splits of {name}: {', '.join(people[:NAMED])}{more}")
    print(f"{len(ids)} ids to leave out: {out / 'ids.txt'}; which image is like which: {out / 'near_duplicates.jsonl'}")
    return int(bool(found) or any(twice.values()))


def near_duplicates(train: Dataset, held: Sequence[Held], bits: int) -> Iterator[dict[str, Any]]:
    """The images of `train` that look like one that is held out: `id`, `like` (set, split and id) and `bits`."""
    count = train.splits.get("train", 0)
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    compare = functools.partial(_alike, train=train, held=tuple(held), bits=bits)
    compared = processes.mapped(compare, blocks, few=FEW, chunk=1)
    for lines in tqdm(compared, "comparing", len(blocks), unit=f" x {BLOCK} images", leave=False, disable=None):
        yield from lines


def _alike(block: range, *, train: Dataset, held: tuple[Held, ...], bits: int) -> list[dict[str, Any]]:
    records = _source(train, "train")
    ids, views = _views(records, block)
    lines = []
    for other in held:
        for start in range(0, len(other.names), BLOCK):
            some = slice(start, start + BLOCK)
            least = np.minimum(*(nearest_views(views, each[some]) for each in (other.views, other.mirrored)))
            for i, j in np.argwhere(least <= bits).tolist():
                lines.append({"id": ids[i], "like": other.names[start + j], "bits": int(least[i, j])})
    return sorted(lines, key=lambda line: (ids.index(line["id"]), line["like"]))


def _held(dataset: Dataset) -> Held:
    splits = [split for split in dataset.splits if split != "train"] or [*dataset.splits]
    names, views, mirrored = [], [], []
    for split in splits:
        source = _source(dataset, split)
        for start in tqdm(range(0, len(source), BLOCK), f"reading {dataset.name}", leave=False, disable=None):
            block = range(start, min(start + BLOCK, len(source)))
            ids, found = _views(source, block)
            names += [f"{dataset.name} {split} {name}" for name in ids]
            views.append(found)
            mirrored.append(_views(source, block, mirror=True)[1])
    return Held(tuple(names), np.concatenate(views), np.concatenate(mirrored))


@functools.lru_cache(maxsize=1)
def _source_of(name: str, path: Folder, split: str) -> Any:
    return open_dataset(name, str(path.parents[2])).source(split).only(("id", "image"))


def _source(dataset: Dataset, split: str) -> Any:
    if dataset.plan is not None:  # it is drawn
        return dataset.source(split).only(("id", "image"))
    return _source_of(dataset.name, dataset.path, split)


def _views(source: Any, indices: range, *, mirror: bool = False) -> tuple[list[str], UInt64[np.ndarray, "n v 4"]]:
    """Ids of records, and the views of their images or of the mirror images of these."""
    ids, views = [], []
    for index in indices:
        record = source[index]
        grey = grey_of(record["image"])
        views.append(views_of(np.ascontiguousarray(grey[:, ::-1]) if mirror else grey))
        ids.append(text_of(record["id"]))
    return ids, np.array(views)


def people_in_two_splits(dataset: Dataset) -> list[str]:
    """The names of the people who stand in more than one split of a set; none if it knows no people."""
    if "identity" not in dataset.features:
        return []
    people = {}
    for split in dataset.splits:
        source: Any = dataset.source(split).only(("identity",))
        people[split] = {int(source[index]["identity"]) for index in range(len(source))} - {-1}
    twice = set().union(*(people[a] & people[b] for a, b in itertools.combinations(people, 2)))
    names = dataset.meta.get("identities", ())
    return sorted(str(names[label]) if label < len(names) else str(label) for label in twice)


def _listed_id(train: Dataset, name: str) -> str:
    """An id as a list of ids to leave out has it: of LAION's, the image's, of which a face's is `ID-NUMBER`."""
    match = re.fullmatch(r"(\d+)-\d+", name)
    return match[1] if match and train.name.startswith("laion_face/") else name
