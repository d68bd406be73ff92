r"""Write features of pictures.

facerep embed photos one.jpg --checkpoint runs/farl --out faces.npz
facerep embed --boxes faces.jsonl --checkpoint FaRL-Base-Patch16-LAIONFace20M-ep64.pth --out faces.parquet
facerep embed --dataset manifest/faces --split test --checkpoint runs/farl@20000 --out faces.npz

Words are images and folders, which are searched to their depths. --boxes names faces in images, as a manifest's
faces.jsonl does; --detect finds them; --dataset is a prepared set. --checkpoint is the workdir of a pre-training (or
WORKDIR@STEP), published weights (FILE[@LAYOUT]) or the workdir of an evaluation, whose encoder is taken, fine-tuned if
it was. Images are turned upright as their EXIF says, cut to their boxes or taken whole, resized to squares of the size
that the encoder was trained on, and normalised as it was; what is done is printed.

--features are names: pooled, one vector; tokens, one for each patch; cls, the class token; and mapN, the map that stage
N of the encoder leaves, from 0. --out is .npz, with `id` and an array for each feature, or .parquet, with a column for
each, flat, whose shape the schema's metadata has. Features are float32, and lie in memory until they are written.

Pictures that cannot be read are skipped, and listed in OUT.skipped.jsonl. The exit status is then 1; it is 0 if none
was, and 2, with nothing written, if all were.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from absl import flags

from facerep_jax.files import local_path, writable_folder, write
from facerep_jax.inference import choice
from facerep_jax.inference.model import POOLED, Model, Seen, Skipped

ABOUT = "facerep_jax"  # key of what a file says of its features
KINDS = (".npz", ".parquet")


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    choice.define_flags(flag_values)
    flags.DEFINE_string("out", None, "file for the features, .npz or .parquet", flag_values, required=True)
    flags.DEFINE_list("features", [POOLED], "pooled, tokens, cls, mapN", flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """The entry point; gives the exit status."""
    out = local_path("--out", flag_values.out)
    if out.suffix not in KINDS:
        raise ValueError(f"--out is a file {' or '.join(KINDS)}, not {out.name}")
    writable_folder("--out", out.parent)
    loaded = choice.loaded(flag_values)
    names = tuple(dict.fromkeys(flag_values.features))
    model = Model(loaded, devices=flag_values.devices, batch_size=flag_values.batch_size)
    model.check_names(names)
    faces, transforms, *_ = choice.chosen(flag_values, words, loaded)
    ids, rows, skipped = list[str](), {name: list[np.ndarray]() for name in names}, list[Skipped]()
    for each in model.run(faces, transforms, names=names):
        if isinstance(each, Seen):
            ids.append(each.face.id)
            for name in names:
                rows[name].append(each.outputs[name])
        else:
            skipped.append(each)
    listing = out.with_name(f"{out.name}.skipped.jsonl")
    if not ids:
        raise ValueError(f"none of {len(faces)} faces can be read; the first is {skipped[0].id}: {skipped[0].reason}")
    features = {name: np.stack(of) for name, of in rows.items()}
    about = {"checkpoint": loaded.name, "encoder": loaded.digest, "image_size": loaded.image_size}
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, partial(save_npz if out.suffix == ".npz" else save_parquet, ids=ids, features=features, about=about))
    listing.unlink(missing_ok=True)
    if skipped:
        write(listing, "".join(json.dumps(line) + "\n" for line in choice.lines_of(skipped)))
    shapes = ", ".join(f"{name} {' x '.join(map(str, x.shape[1:]))}" for name, x in features.items())
    print("; ".join(filter(None, (f"{out}: {len(ids)} faces, {shapes}", choice.told_of(skipped, listing)))))
    return int(bool(skipped))


def save_npz(path: Path, *, ids: list[str], features: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write `id`, the features, and what they are of as text in JSON; no array of it needs pickles to be read."""
    arrays: dict[str, Any] = {"id": np.array(ids), "about": np.array(json.dumps(about)), **features}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def save_parquet(path: Path, *, ids: list[str], features: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a column `id` and one for each feature, a list of fixed length; shapes are in the schema's metadata."""
    columns: dict[str, Any] = {"id": ids}
    for name, x in features.items():
        flat = pyarrow.array(x.reshape(-1))
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, x[0].size)
    shapes = {name: list(x.shape[1:]) for name, x in features.items()}
    table = pyarrow.table(columns).replace_schema_metadata({ABOUT: json.dumps({**about, "shapes": shapes})})
    pyarrow.parquet.write_table(table, path, compression="zstd")
