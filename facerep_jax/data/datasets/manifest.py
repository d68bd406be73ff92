"""A user's own faces: `faces.jsonl`, one JSON object per line, and optionally `faces.meta.json`; read strictly."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from facerep_jax.data import samples
from facerep_jax.data.meta import at, check_keys, read_meta, shown, strict_json
from facerep_jax.data.samples import Sample, Samples
from facerep_jax.data.values import KINDS, split, text

RECORDS, META = "faces.jsonl", "faces.meta.json"
KEYS = ("id", "split", *KINDS)
NAME = "faces"
RAW = f"the folder with {RECORDS}"
VERSION = "1.0.0"

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The faces that the manifest in `manual_dir` lists, their values checked."""
    if arg is not None:
        raise ValueError(f"data set 'manifest' takes no arguments after the colon, but got {arg!r}")
    if manual_dir is None:
        raise ValueError(f"data set 'manifest' needs --manual_dir: {RAW}")
    path = manual_dir / RECORDS
    if not path.is_file():
        raise FileNotFoundError(f"no {RECORDS} in {manual_dir}")
    meta = read_meta(manual_dir / META)
    files = tuple(name for name in (RECORDS, META) if (manual_dir / name).is_file())
    return samples.gather(manual_dir, lines(path), meta, listing=RECORDS, meta_file=META, described_by=files)


def lines(path: Path) -> Iterator[Sample]:
    """The samples of a manifest, one for each line that is not blank, in whatever Unicode and line ends it is saved."""
    with open(path, "rb") as file:
        encoding = json.detect_encoding(file.read(4))
    with open(path, encoding=encoding, errors="surrogateescape") as file:
        for number in itertools.count(1):
            with at(f"{path} line {number}, "):
                line = file.readline()
                bare = line.lstrip("\ufeff")  # a byte order mark, once more where one file follows another
                sample = parsed(bare, number) if bare.strip() else None
            if not line:
                return
            if sample:
                yield sample


def parsed(line: str, number: int) -> Sample:
    """The sample of a line."""
    try:
        given = strict_json(line)
    except ValueError as error:
        several = line.strip() in ("[", "{") or line.startswith("[{")
        raise ValueError(f"{error}; each line must hold one whole object" if several else str(error)) from None
    if not isinstance(given, dict):
        raise ValueError(f"a JSON object is expected, not {shown(given)}")
    check_keys(given, KEYS)
    named = {key: given.pop(key) for key in ("id", "split") if key in given}
    for key, check in (("id", text), ("split", split)):
        if named.get(key) is None:
            named.pop(key, None)
        else:
            with at(f"{key}: "):
                check(named[key])
    return Sample(given, line=number, **named)
