"""A large data set, written part by part: each part has a file of records of its own, published beside its counts.

Parts are made by processes of one machine, or by Apache Beam on many. What a run that was killed has finished is kept
in a folder of its own, and the next run makes what is left. When all parts are there, their files become one data set
of TFDS, by its metadata alone. Memory is that of one example per process, whatever the size of the set.

A part is known by the digest of all that its records depend on. So a set to which parts are added, or of which some
have changed, takes over those that have not.
"""

import functools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm import tqdm

from facerep_jax import files
from facerep_jax.data import beam, processes
from facerep_jax.data.features import NO_MORE, Numbers, features_dict
from facerep_jax.data.records import Example

SUFFIX = ".array_record"
LISTING = "parts.jsonl"  # beside the records: which part each file is
SPLIT = "train"
FEW = 3  # parts from which on processes pay
FULL = re.compile(r"\(\) failed: (.*?); writing ")  # what ArrayRecord says of a disk that is full


@dataclass(frozen=True)
class Part:
    """What is written as one file of records."""

    name: str  # such as the path of an archive
    digest: str  # of all that its records depend on, 64 hexadecimal digits
    task: Any  # what `Parts.examples` takes; picklable


Listed = tuple[Part, ...]
Examples = Callable[[Any, Counter[str]], Iterator[Example]]


@dataclass(frozen=True)
class Parts:
    """All that is written for a data set in parts, as its module planned it."""

    listed: Callable[[Path], Listed]  # the parts in order; may keep what it finds out in the folder that it is given
    examples: Examples  # of a part, in order; counts by what became of each thing it looked at; at module level
    names: tuple[str, ...]  # of the features, those of `more` included
    sizes: Mapping[str, int]  # of the words in features' shapes
    meta: Mapping[str, Any]
    report: Callable[[Counter[str], Path], tuple[str, ...]]  # writes what the counts say, and what the user should hear
    more: Numbers = field(default_factory=lambda: NO_MORE)

    @property
    def features(self) -> tfds.features.FeaturesDict:
        """Those of TFDS."""
        return features_dict(self.names, self.sizes, self.more)


def write(plan: Parts, work: Path, previous: Path, beam_options: Any = None) -> list[dict[str, Any]]:
    """Makes the parts that are not in `work` yet; returns what is known of each: name, digest, counts and bytes.

    Args:
        work: the folder that unfinished sets are kept in, which only this process uses.
        previous: of the set as it was prepared before, if it was: its parts are taken over where they are the same.
    """
    for leftover in work.glob("*.tmp"):
        leftover.unlink()
    listed = plan.listed(work)
    _take_over(previous, listed, work)
    todo = [part for part in listed if not _told(work, part).exists()]
    features = functools.partial(features_dict, plan.names, dict(plan.sizes), dict(plan.more))
    make = functools.partial(write_part, work=work, features=features, examples=plan.examples)
    if beam_options is None:
        made = processes.mapped(make, todo, few=FEW, chunk=1)
        done = len(listed) - len(todo)
        for _ in tqdm(made, "parts", len(listed), initial=done, unit=" parts", leave=False, disable=None):
            pass
    elif todo:
        beam.run(make, todo, beam_options)
    return [files.read_object(_told(work, part)) for part in listed]


def write_part(part: Part, *, work: Path, features: Callable[[], Any], examples: Examples) -> None:
    """Writes the records of a part, and then, as the sign that it is complete, what is known of it."""
    written, counts = features(), Counter[str]()
    serializer = tfds.core.example_serializer.ExampleSerializer(written.get_serialized_info())
    unfinished, records, size = work / f"{part.digest}.{os.getpid()}.tmp", 0, 0
    try:
        writer = ArrayRecordWriter(str(unfinished), "group_size:1")
        for example in examples(part.task, counts):
            record = serializer.serialize_example(written.encode_example(example))
            writer.write(record)
            records, size = records + 1, size + len(record)
        writer.close()
    except RuntimeError as error:  # of ArrayRecord, which knows no OSError
        if not (reason := FULL.search(str(error))):
            raise
        raise OSError(f"{part.name} could not be written: {reason[1]}") from error
    if records:
        unfinished.rename(work / f"{part.digest}{SUFFIX}")
    else:
        unfinished.unlink()
    told = {"name": part.name, "digest": part.digest, "records": records, "bytes": size, "counts": dict(counts)}
    files.write(_told(work, part), json.dumps(told))


def _told(work: Path, part: Part) -> Path:
    return work / f"{part.digest}.json"


def _take_over(previous: Path, listed: Listed, work: Path) -> None:
    """Takes the parts that are wanted from a set that is prepared already."""
    if not (previous / LISTING).is_file():
        return
    wanted = {part.digest for part in listed}
    for line in (previous / LISTING).read_text().splitlines():
        told = json.loads(line)
        file = told.pop("file")
        target = work / f"{told['digest']}{SUFFIX}"
        if told["digest"] in wanted and not target.exists() and (file is None or (previous / file).is_file()):
            if file is not None:
                _link(previous / file, target)
            files.write(work / f"{told['digest']}.json", json.dumps(told))


def _link(source: Path, target: Path) -> None:
    """Gives a file a second name, or, where the file system has none, copies it."""
    try:
        os.link(source, target)
    except OSError:
        unfinished = target.with_suffix(".tmp")
        shutil.copyfile(source, unfinished)
        unfinished.rename(target)


def assemble(plan: Parts, told: list[dict[str, Any]], work: Path, folder: Path, name: str, **meta: Any) -> None:
    """Makes a data set of parts that are complete: its files, its metadata and its report, in an empty folder.

    Args:
        told: what `write` returned.
        folder: its name is the version.
        name: of the data set's family, which TFDS puts into the names of files.
        meta: what is added to the plan's.
    """
    full = [part for part in told if part["records"]]
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split=SPLIT, filetype_suffix=SUFFIX.lstrip(".")
    )
    file_of = {}
    for number, part in enumerate(full):
        path = Path(template.sharded_filepath(shard_index=number, num_shards=len(full)))
        _link(work / f"{part['digest']}{SUFFIX}", path)
        file_of[part["digest"]] = path.name
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[part["records"] for part in full],
        num_bytes=sum(part["bytes"] for part in full),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=plan.features,
        split_infos=[split],
        check_data=False,
        metadata=tfds.core.MetadataDict({**plan.meta, **meta, "counts": {SPLIT: sum(p["records"] for p in full)}}),
    )
    lines = (json.dumps({**part, "file": file_of.get(part["digest"])}) + "\n" for part in told)
    files.write(folder / LISTING, "".join(lines))
