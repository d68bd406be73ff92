"""LAION-Face (FaRL): image-text pairs with faces, from the archives that img2dataset wrote, at any size.

facerep prepare laion_face:detections=sample2detect,safe_ids=cleared.parquet --manual_dir pairs --data_dir data

docs/laion_face.md tells how to get the set, what it may be used for, and every argument.

Layout, of LAION-Face's download.sh and img2dataset: FOLDER/split_00000/00000.tar with KEY.jpg, KEY.txt and KEY.json
(url, caption, NSFW, similarity, LICENSE, SAMPLE_ID, width, ...) for each image that was downloaded; beside it
00000.parquet with a row for each link, its status and error_message. Other names of folders do as well.
"""

import functools
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from facerep_jax.config import parse_arg
from facerep_jax.data import coverage, detections, pairs, parquet, processes, sample_ids, tars
from facerep_jax.data.coverage import KEPT, LINK, RECORDS, SAMPLE
from facerep_jax.data.images import stored_image
from facerep_jax.data.pairs import Lists, Rules
from facerep_jax.data.parts import FEW, Part, Parts
from facerep_jax.data.perceptual_hash import FARTHEST, first_of_alike, grey_of, hash_of
from facerep_jax.data.records import Example, complete

NAME = "default"
RAW = "the folder that img2dataset wrote, with .tar files in webdataset's layout"
VERSION = "1.0.0"
WRITTEN = 1  # raise it when the same pairs are written otherwise: prepared parts then count as changed
SUBSETS = {"20M": (0, 2, 5, 8, 13, 15, 17, 18, 21, 22, 24, 25, 28)}  # LAION-Face's README
# What arguments are where they are not given. `cropped` is MCF's LAION-FACE-cropped (2309.03575), "more than 20 million
# face images" of the 20M subset: that squares of 256 pixels are stored and that all faces of an image are taken is
# inferred, from its loader and from its count; margin, border, least score and least size are our choice.
VARIANTS: dict[str, dict[str, Any]] = {
    "pairs": {},
    "cropped": dict(
        parts="20M", crop="square", faces="all", size=256, margin=0.5, border="black", score=0.95, face=64.0
    ),
}
OF_PART = re.compile(r"(?:split|part)_?(\d+)")  # a folder
BLOCKS, BLOCK = 64, 4096  # of a large file that enter its digest
META = {
    "licence": "list of ids CC BY 4.0; each image is its owner's",
    "agreement": "cite FaRL (2112.03109) and LAION-400M (2111.02114)",
    "research_only": True,
    "may_show_images": False,
}


@dataclass(frozen=True)
class Request:
    """What is to be prepared."""

    folder: Path
    archives: tuple[str, ...]  # paths in the folder, sorted
    faces: tuple[Path, ...]
    safe: tuple[Path, ...] | None
    excluded: tuple[Path, ...]
    rules: Rules
    alike: int  # bits in which hashes of near-duplicates differ; -1 if these are kept
    link: str  # the first archive that is a link out of the folder, in words

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over all that the result depends on; large files are sampled."""
        given = [*map(file_digest, [*self.faces, *(self.safe or ()), *self.excluded])]
        archives = [(name, file_digest(self.folder / name)) for name in self.archives]
        return digest_of(
            [archives, len(self.faces), self.safe and len(self.safe), given, asdict(self.rules), self.alike]
        )


@dataclass(frozen=True)
class Task:
    """An archive, and what is to be done with it."""

    path: Path
    folder: str  # that of the archive in the set's
    rules: Rules
    lists: Lists
    left_out: frozenset[int] = frozenset()  # samples by number that are near-duplicates


def read(arg: str | None, manual_dir: Path | None) -> Request:
    """The archives in `manual_dir`, and the lists that the arguments name."""
    defaults = {field.name: field.default for field in fields(Rules)}
    lists = {"detections": "", "safe_ids": "", "no_safety_list": False, "exclude_ids": "", "parts": "", "alike": -1}
    variant = parse_arg(arg, **defaults, **lists, variant="pairs").variant
    if variant not in VARIANTS:
        raise ValueError(f"variant must be {' or '.join(VARIANTS)}, not {variant!r}")
    given = parse_arg(arg, **{**defaults, **lists, **VARIANTS[variant]}, variant="")
    rules = Rules(**{name: given[name] for name in defaults})
    if manual_dir is None:
        raise ValueError(f"data set 'laion_face' needs --manual_dir: {RAW}")
    if not given.safe_ids and not given.no_safety_list:
        raise ValueError(
            "a list of the ids that are cleared for use is needed, such as those of Re-LAION: "
            "laion_face:safe_ids=FILES; or say that you use none: laion_face:no_safety_list"
        )
    if given.safe_ids and given.no_safety_list:
        raise ValueError("safe_ids and no_safety_list exclude each other")
    if (rules.crop != "whole" or rules.score or rules.face) and not given.detections:
        raise ValueError("crop, score and face need detections=FILES, LAION-Face's sample2detect_{0..31}.pth")
    if not -1 <= given.alike <= FARTHEST:
        raise ValueError(f"alike must be between 0 and {FARTHEST} bits, or -1 to keep near-duplicates")
    archives, link = _archives(manual_dir, _parts(given.parts))
    return Request(
        manual_dir,
        archives,
        tuple(sample_ids.files_of("detections", given.detections)) if given.detections else (),
        tuple(sample_ids.files_of("safe_ids", given.safe_ids)) if given.safe_ids else None,
        tuple(sample_ids.files_of("exclude_ids", given.exclude_ids)) if given.exclude_ids else (),
        rules,
        given.alike,
        link,
    )


def _parts(given: str) -> tuple[int, ...]:
    """The parts that are wanted; none for all."""
    if given in SUBSETS or not given:
        return SUBSETS.get(given, ())
    if not re.fullmatch(r"\d+([, ]+\d+)*", given):
        raise ValueError(f"parts must be {' or '.join(SUBSETS)}, or numbers such as parts='0,2,5', not {given!r}")
    return tuple(map(int, re.findall(r"\d+", given)))


def _archives(folder: Path, parts: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """The archives of a folder that are of the parts, sorted; and the first that a link leads out to, in words."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; expected {RAW}")
    root, found, link, seen = os.path.realpath(folder), [], "", set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if real in seen:  # a link to a folder above
            folders[:] = []
            continue
        seen.add(real)
        for name in sorted(names):
            path = os.path.join(place, name)
            if name.endswith(".tar") and os.path.isfile(path):
                found.append(os.path.relpath(path, folder))
                target = os.path.realpath(path)
                if not link and os.path.commonpath([root, target]) != root:
                    link = f"{path} is a link to {target}, outside of the folder"
    if parts:
        of = {name: [int(n) for n in OF_PART.findall(os.path.dirname(name))] for name in found}
        found = [name for name in found if set(of[name]) & set(parts)]
        there = {number for name in found for number in of[name]}
        if missing := [number for number in parts if number not in there]:
            raise FileNotFoundError(
                f"no .tar of part {missing[0]} in {folder}, in a folder such as split_{missing[0]:05d}"
            )
    if not found:
        raise FileNotFoundError(f"no .tar file in {folder}; expected {RAW}")
    return tuple(sorted(found)), link


def plan(raw: Request) -> Parts:
    """Which parts there are, which takes a look at every image first if near-duplicates are left out."""
    face = ("bbox", "landmarks") if raw.faces else ()
    more = {name: kind for name, kind in pairs.MORE.items() if raw.faces or name != "score"}
    return Parts(
        listed=functools.partial(_listed, raw),
        examples=functools.partial(examples, names=("id", "image", "caption", *face, *more)),
        names=("id", "image", "caption", *face, *more),
        sizes={"landmarks": 5} if raw.faces else {},
        meta={**META, **(pairs.META if raw.faces else {})},
        report=coverage.report,
        more=more,
    )


def _listed(raw: Request, work: Path) -> tuple[Part, ...]:
    """The parts, one for each archive; keeps sorted lists, and hashes of images, in the folder `work`."""
    lists = _lists(raw, work)
    known = digest_of([WRITTEN, asdict(raw.rules), *([p and p.name for p in (lists.safe, lists.excluded)]),
                       [path.name for path in lists.faces]])  # fmt: skip
    tasks, keys = [], []
    for name in raw.archives:
        tasks.append(Task(raw.folder / name, os.path.dirname(name), raw.rules, lists))
        keys.append(digest_of([known, name, file_digest(raw.folder / name)]))
    left_out = _near_duplicates(tasks, keys, raw.alike, work) if raw.alike >= 0 else [frozenset[int]()] * len(tasks)
    return tuple(
        Part(name, digest_of([key, sorted(out)]), Task(task.path, task.folder, task.rules, task.lists, out))
        for name, task, key, out in zip(raw.archives, tasks, keys, left_out, strict=True)
    )


def _lists(raw: Request, work: Path) -> Lists:
    """The lists of ids and faces as sorted files, which processes share and which need no memory."""

    def ids(paths: Sequence[Path] | None) -> Path | None:
        if not paths:
            return None
        path = work / f"ids-{digest_of([file_digest(path) for path in paths])[:32]}.npy"
        if not path.exists():
            unfinished = path.with_name(f"{path.stem}.tmp.npy")
            np.save(unfinished, sample_ids.read(paths))
            unfinished.rename(path)
        return path

    stems = [work / f"faces-{file_digest(path)[:32]}" for path in raw.faces]
    indexing = processes.mapped(_index, list(zip(raw.faces, stems, strict=True)), few=FEW, chunk=1)
    for _ in indexing:
        pass
    return Lists(ids(raw.safe), ids(raw.excluded), tuple(stems))


def _index(source_and_stem: tuple[Path, Path]) -> None:
    detections.index(*source_and_stem)


def _near_duplicates(tasks: Sequence[Task], keys: Sequence[str], alike: int, work: Path) -> list[frozenset[int]]:
    """For each archive, which of its samples look like an earlier one, of it or of an archive before it."""
    paths = [work / f"hashes-{key[:32]}.npy" for key in keys]
    todo = [pair for pair in zip(tasks, paths, strict=True) if not pair[1].exists()]
    for _ in processes.mapped(_hash, todo, few=FEW, chunk=1):
        pass
    tables = [np.load(path) for path in paths]
    kept = first_of_alike(np.concatenate([table["hash"] for table in tables]), alike)
    ends = np.cumsum([len(table) for table in tables])[:-1]
    return [
        frozenset(table["number"][~mask].tolist()) for table, mask in zip(tables, np.split(kept, ends), strict=True)
    ]


def _hash(task_and_path: tuple[Task, Path]) -> None:
    """Writes the hashes of the images of an archive that are kept."""
    task, path = task_and_path
    rows = []
    for number, sample in enumerate(tars.samples(task.path)):
        try:
            pair = pairs.judged(sample, task.rules, task.lists, task.folder)
        except pairs.Left:
            continue
        rows.append((number, hash_of(grey_of(stored_image(pair.image, pair.look.direct)))))
    unfinished = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npy")
    np.save(unfinished, np.array(rows, [("number", np.int64), ("hash", np.uint64)]))
    unfinished.rename(path)


def examples(task: Task, counts: Counter[str], *, names: tuple[str, ...]) -> Iterator[Example]:
    """The records of an archive, and counts of what became of each link and each sample."""
    _count_links(task.path.with_suffix(".parquet"), counts)
    more = {name: kind for name, kind in pairs.MORE.items() if name in names}
    for number, sample in enumerate(tars.samples(task.path)):
        try:
            pair = pairs.judged(sample, task.rules, task.lists, task.folder)
            if number in task.left_out:
                raise pairs.Left("near-duplicate of another")
            found = list(pairs.records(pair, task.rules))
        except pairs.Left as left:
            counts[SAMPLE + coverage.shortened(str(left))] += 1
            continue
        counts[SAMPLE + KEPT] += 1
        for values in found:
            counts[RECORDS] += 1
            yield complete(values, names, {"landmarks": 5}, more)


def _count_links(path: Path, counts: Counter[str]) -> None:
    """Counts the rows of img2dataset's table by what became of their links; none if there is no such table."""
    if not path.is_file():
        return
    try:
        for columns in parquet.batches(path, ["status", "error_message"], 1 << 16):
            table = pyarrow.table([parquet.cut(column, 400) for column in columns], ["status", "error"])
            for row in table.group_by(["status", "error"]).aggregate([([], "count_all")]).to_pylist():
                reason = KEPT if row["status"] == "success" else row["error"] or row["status"] or "no status"
                counts[LINK + coverage.shortened(str(reason))] += row["count_all"]
    except (OSError, ValueError, pyarrow.ArrowException):
        counts[LINK + "a table that cannot be read"] += 1


def file_digest(path: Path) -> str:
    """SHA-256 of a file's size and, if it is large, of 64 blocks that are spread over it: archives have terabytes."""
    size = path.stat().st_size
    total = hashlib.sha256(f"{size}\n".encode())
    with open(path, "rb") as file:
        if size <= BLOCKS * BLOCK:
            total.update(file.read())
        else:
            for number in range(BLOCKS):
                file.seek((size - BLOCK) * number // (BLOCKS - 1))
                total.update(file.read(BLOCK))
    return total.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
