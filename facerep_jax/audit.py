"""Find what a set to train on shares with sets to evaluate on: images that look alike, and people.

    facerep audit laion_face/default --against manifest/mine,generated_faces/demo --data_dir data --out audit
    facerep audit laion_face/default --against manifest/mine --data_dir data --out audit --checkpoint runs/farl

Images of the split `train` of the first set are compared with those of `validation` and `test` of the others, or with
all where a set has neither. A copy is found though it was resized, encoded anew, mirrored, or cropped by a tenth of
its sides. OUT/near_duplicates.jsonl lists each with what it is like, and OUT/ids.txt the ids, as
`facerep prepare laion_face:exclude_ids=OUT/ids.txt` takes them. People who stand in two splits of one set are named.

With --checkpoint, as `facerep embed` takes it, pictures are compared by features of an encoder too, which find stronger
crops, frames and turned pictures, if the encoder is good for it: that is tried on planted copies, and printed. --cosine
says from which cosine on two pictures are copies; without it, that is found from the images held out.

The exit status is 0 if nothing is shared, 1 if something is.
"""

import functools
import itertools
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from facerep_jax import files
from facerep_jax.data import beam, near_duplicates
from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.near_duplicates import TRAIN, Held
from facerep_jax.data.perceptual_hash import ALIKE
from facerep_jax.data.planted import SLIGHT
from facerep_jax.inference import loading
from facerep_jax.inference import near_duplicates as embedded
from facerep_jax.inference.near_duplicates import FEWEST, Embedder
from facerep_jax.train import hardware
from facerep_jax.train.handover import PARAMS

NAMED = 5  # people whose names are printed
POOR = 0.9  # share of slightly changed copies below which an encoder is warned of
OF_ENCODERS = ("cosine", "weights", "size", "dtype", "devices")  # flags that need --checkpoint


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Defines this command's flags."""
    words = functools.partial(flags.DEFINE_string, flag_values=flag_values)
    numbers = functools.partial(flags.DEFINE_integer, flag_values=flag_values)
    words("data_dir", "data", "folder of all prepared data sets")
    flags.DEFINE_list("against", None, "sets to evaluate on: A,B", required=True, flag_values=flag_values)
    words("out", None, "folder for near_duplicates.jsonl and ids.txt", required=True)
    numbers("bits", ALIKE, "of 256, in which hashes of near-duplicates differ at most", 0, 128)
    words("beam_options", None, f"compare hashes otherwise than by processes: {beam.HELP}")
    words("checkpoint", None, "of an encoder that compares too: a WORKDIR[@STEP], or FILE[@LAYOUT] of weights")
    least = "from which on features are those of near-duplicates; if not given, it is found from what is held out"
    flags.DEFINE_float("cosine", None, least, 0, 1, flag_values=flag_values)
    words("weights", PARAMS, "of a pre-training: params, ema, or a teacher's name")
    words("dtype", "auto", "of matrix products: auto, float32 or bfloat16")
    numbers("size", 0, "pixels of a side of what the encoder sees, 0 for the checkpoint's", 0)
    numbers("devices", 0, "that compute, 0 for all", 0)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Compares the sets, prints what they share, and returns the exit status."""
    if len(words) != 1:
        raise ValueError(f"one set to train on is expected, not {' '.join(words) or 'none'}: facerep audit TRAIN ...")
    out = files.local_path("--out", flag_values.out)
    files.writable_folder("--out", out)
    bits, beam_options = flag_values.bits, beam.options_of(flag_values.beam_options)
    train = open_dataset(words[0], flag_values.data_dir)
    others = [open_dataset(name, flag_values.data_dir) for name in dict.fromkeys(flag_values.against)]
    embedder = embedder_of(flag_values)
    held = near_duplicates.held_out(others)
    lines = dict[tuple[int, int], dict[str, Any]]()
    if embedder:  # first, since it may fail, or turn out to be of no use
        vectors = embedded.held_vectors(embedder, others)
        least = least_cosine(flag_values.cosine, train, held, vectors, bits)
        told_of_copies(*embedded.recalls(embedder, others, held, vectors, least=least, bits=bits))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".audit-", dir=out.absolute()) as folder:
        for each in near_duplicates.near_duplicates(train, held, bits, Path(folder), beam_options):
            line = {"id": each.id, "like": held.names[each.row], "by": "hash", "bits": each.bits}
            lines[each.record, each.row] = line
    if embedder:
        for near in embedded.near_duplicates(embedder, train, vectors, least):
            new = {"id": near.id, "like": held.names[near.row], "by": "embedding"}
            lines.setdefault((near.record, near.row), new)["cosine"] = round(near.cosine, 4)
    found = [lines[pair] for pair in sorted(lines)]
    return told_of(found, train, others, held, out)


def embedder_of(flag_values: flags.FlagValues) -> Embedder | None:
    """The encoder that `--checkpoint` names; None if it is not given."""
    if not flag_values.checkpoint:
        if given := [name for name in OF_ENCODERS if flag_values[name].present]:
            raise ValueError(f"--{given[0]} needs --checkpoint")
        return None
    hardware.check()
    hardware.check_dtype(flag_values.dtype)
    settings: Any = dict(weights=flag_values.weights, dtype=flag_values.dtype, size=flag_values.size)
    embedder = Embedder(loading.load(flag_values.checkpoint, **settings), flag_values.devices)
    print(f"{embedder.name}: whole pictures as squares of {embedder.size} x {embedder.size} pixels")
    return embedder


def least_cosine(given: float | None, train: Dataset, held: Held, vectors: np.ndarray, bits: int) -> float:
    """The cosine from which on two images are copies, as given or as the data says; what it rests on is printed.

    Raises:
        ValueError: it is not given, and too few images are held out that have another one than copies of theirs.
    """
    nearest, others = embedded.nearest_others(vectors, held, bits), len(held.names) - 1
    which = f"another of {others} that is no copy by its hash nor known to show the same person"
    if given is not None:
        print(f"copies have a cosine of {given:g} or more, as --cosine says")
        if len(nearest):
            print(f"{(nearest >= given).mean():.1%} of {len(nearest)} images held out reach it with {which}")
        return given
    if len(nearest) < FEWEST:
        raise ValueError(
            f"{len(nearest)} images held out have {which}: from {FEWEST} on they tell from which cosine on two are "
            "copies; give --cosine"
        )
    count = train.splits.get(TRAIN, 0)
    least = embedded.least_cosine(nearest, others, count)
    seen = f"{embedded.SHARE:.0%} of {len(nearest)} images held out reach {least.seen:.4f} with {which}"
    more = f"; raised, as there are {count:,} to train on" if least.cosine > least.seen + 1e-6 else ""
    print(f"copies have a cosine of {least.cosine:.4f} or more: {seen}{more}")
    return least.cosine


def told_of_copies(recalls: Mapping[str, tuple[float, float]], images: int) -> None:
    """Prints which share of planted copies is found, and warns of an encoder that misses slight ones."""
    print(f"of copies of {images} images held out, found by   hash  embedding")
    for kind, (hashed, embedding) in recalls.items():
        print(f"  {kind:40s} {hashed:8.1%} {embedding:10.1%}")
    kind = min(SLIGHT, key=lambda kind: recalls[kind][1])
    if (share := recalls[kind][1]) < POOR:
        print(
            f"warning: this encoder does not tell copies from other faces: it finds {share:.1%} of those that are "
            f"{kind}; what it does not find may be there all the same, so choose another one"
        )


def told_of(
    found: Sequence[Mapping[str, Any]], train: Dataset, others: Sequence[Dataset], held: Held, out: Path
) -> int:
    """Writes and prints what is shared; the exit status."""
    files.write(out / "near_duplicates.jsonl", "".join(json.dumps(line) + "\n" for line in found))
    ids = dict.fromkeys(_listed_id(train, line["id"]) for line in found)
    files.write(out / "ids.txt", "".join(f"{name}\n" for name in ids))
    leaked = {line["like"] for line in found}
    for number, other in enumerate(others):
        names = [held.names[row] for row in np.flatnonzero(held.sets == number)]
        count = len(leaked.intersection(names))
        share = f"{count} of {len(names)} images ({count / max(len(names), 1):.1%}) of {other.name}"
        print(f"{share} have a near-duplicate in {train.name}")
    twice = {dataset.name: people_in_two_splits(dataset) for dataset in (train, *others)}
    for name, people in twice.items():
        if people:
            more = ", ..." if len(people) > NAMED else ""
            print(f"{len(people)} people are in two splits of {name}: {', '.join(people[:NAMED])}{more}")
    print(f"{len(ids)} ids to leave out: {out / 'ids.txt'}; which image is like which: {out / 'near_duplicates.jsonl'}")
    return int(bool(found) or any(twice.values()))


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
