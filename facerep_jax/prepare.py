"""Prepare a data set: write it as ArrayRecord files that training and evaluation read.

    facerep prepare manifest --manual_dir my_faces --name my_faces --data_dir data
    facerep prepare generated_faces:size=48,train=2000 --name demo --data_dir data

The first reads my_faces/faces.jsonl, one JSON object per line, and is then named manifest/my_faces in a config; the
second draws faces. What follows a colon are arguments of the data set. A data set of your own is a module on Python's
path: `facerep prepare my_package.my_set ...` prepares my_set/NAME.

A set appears under its name when it is complete, or not at all. If a set is prepared again from the same input, nothing
happens; from another input it is refused unless --overwrite is given. Images that cannot be decoded are left out,
counted, and listed in rejected.jsonl beside the records, and so are those whose box or points cannot be right. What is
odd, but possible, is printed as a warning. Files that are links out of the folder need --follow_links.

    facerep prepare manifest --manual_dir my_faces --name my_faces --data_dir data --detect

gives a box and five points to the faces that have no box, by a detector (pip install 'facerep_jax[detect]'), or by your
own, --detector MODULE:CLASS. --detect=all replaces the given boxes too. Where no face is found, the record has no box,
and is listed in without_face.jsonl. docs/detection.md tells more.
"""

import contextlib
import dataclasses
import functools
import io
import json
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import flags, logging

from facerep_jax import lock
from facerep_jax.data import beam, datasets, detections, detector, parts
from facerep_jax.data.library import Dataset, read_folder
from facerep_jax.data.parts import Parts
from facerep_jax.data.raw_set import Samples
from facerep_jax.data.records import Builder, Plan, write_tables
from facerep_jax.files import local_path

STAGING = ".preparing-"  # prefix of the folders of unfinished runs, in the data folder
PARTS = ".parts-"  # prefix of the folders with the parts of sets that are not complete, which the next run goes on with
REJECTED = "rejected.jsonl"
WITHOUT = "without_face.jsonl"
REASONS = 2  # beside that of the first rejected image, which are told with their numbers of images


class _WhichBoxes(flags.EnumParser):
    """`--detect` alone is `--detect=missing`."""

    def parse(self, argument: str) -> str:
        return super().parse(detector.BOXES[0] if argument == "true" else argument)


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Defines this command's flags."""
    words = functools.partial(flags.DEFINE_string, default=None, flag_values=flag_values)
    words("data_dir", help="folder of all prepared data sets", required=True)
    words("name", help="what the prepared set is called; it is then read as DATASET/NAME")
    words("manual_dir", help="folder of the raw set, for data sets that need one")
    words("beam_options", help=beam.HELP)
    share = "fraction of rejected images above which nothing is written"
    flags.DEFINE_float("max_rejected", 0.01, share, flag_values=flag_values)
    links = "read files that are links out of the folder of the raw set"
    flags.DEFINE_bool("follow_links", False, links, flag_values=flag_values)
    detect = "find faces: boxes that are missing (--detect), or all, in place of given ones too (--detect=all)"
    which = flags.Flag(_WhichBoxes([*detector.BOXES]), flags.ArgumentSerializer(), "detect", None, detect, boolean=True)
    flags.DEFINE_flag(which, flag_values)
    words("detector", help=f"MODULE:CLASS of the detector; {detector.DEFAULT} if --detect alone is given")
    several = "which of several faces that are detected in an image; largest if not given"
    flags.DEFINE_enum("faces", None, [*detections.CHOICES], several, flag_values=flag_values)
    flags.DEFINE_bool("overwrite", False, "replace a set that was prepared from another input", flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> None:
    """Prepares the data set that the one word names, and prints what was done."""
    if len(words) != 1:
        given = " ".join(words) or "none"
        raise ValueError(f"one DATASET[:ARGUMENTS] is expected, not {given}; facerep datasets lists them")
    if not 0 <= flag_values.max_rejected <= 1:
        raise ValueError(f"--max_rejected must be a fraction between 0 and 1, not {flag_values.max_rejected}")
    family, colon, arg = words[0].partition(":")
    module = datasets.load(family)
    name = f"{datasets.family_of(family)}/{_checked_name(flag_values.name or module.NAME)}"
    data_dir = local_path("--data_dir", flag_values.data_dir, needs="folders that are renamed at once")
    manual_dir = local_path("--manual_dir", flag_values.manual_dir) if flag_values.manual_dir else None
    beam_options = beam.options_of(flag_values.beam_options)

    raw = module.read(arg if colon else None, manual_dir)
    if (link := getattr(raw, "link", "")) and not flag_values.follow_links:
        raise ValueError(f"{link}; give --follow_links to read it")
    request, without = _detection(flag_values, family, raw), list[dict[str, Any]]()
    digest = request.digest(raw.digest) if request else raw.digest
    final = data_dir / name / module.VERSION
    if _is_current(name, final, digest, flag_values.overwrite):
        print("Prepared already, from the same input.")
    else:
        with _staging(data_dir, name) as stage:
            if request:
                raw, without = detector.detected(raw, request)
            plan = module.plan(raw)
            if isinstance(plan, Parts):
                folder, notes = _write_parts(module, plan, digest, name, final, stage, beam_options)
            else:
                _check_rejected(plan, flag_values.max_rejected, final.parent.with_suffix(f".{REJECTED}"))
                folder, notes = _write(module, plan, digest, name, stage, beam_options), plan.notes
                _write_listing(without, folder / WITHOUT)
            # Another process may have prepared it since the first look.
            if not _is_current(name, final, digest, flag_values.overwrite):
                _publish(folder, final, stage)
        for note in notes:
            print(note)
        if without:
            print(f"no face found in {len(without)}, see {final / WITHOUT}; the first is {without[0]['image']}")
        if isinstance(plan, Parts):
            shutil.rmtree(_unfinished(data_dir, name))
        elif plan.rejected:
            share = f"{len(plan.rejected)} of {plan.lines} images rejected, see {final / REJECTED}"
            print(f"{share}; {_reasons(plan)}")
    print(_summary(read_folder(name, final)))


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(f"--name must be a letter followed by letters, digits, _ or -, not {name!r}")
    return name


def _detection(flag_values: flags.FlagValues, family: str, raw: Any) -> detector.Request | None:
    """What is to be detected; None if nothing is."""
    given: dict[str, Any] = {key: flag_values[key].value for key in ("detector", "faces") if flag_values[key].present}
    if not flag_values.detect:
        if given:
            raise ValueError(f"--{min(given)} needs --detect")
        return None
    if not isinstance(raw, Samples):
        raise ValueError(f"--detect is for sets whose images are files of their own, which {family!r} is not")
    return detector.Request(boxes=flag_values.detect, **given)


def _is_current(name: str, final: Path, digest: str, overwrite: bool) -> bool:
    """Whether the set is there, whole, and made from this input; ValueError if it is not and must not be replaced."""
    if not final.exists():
        return False
    try:
        current = read_folder(name, final).digest == digest
    except ValueError:
        if not overwrite:
            raise
        return False
    if not current and not overwrite:
        raise ValueError(
            f"{final} was prepared from another input, or by another version of this program; "
            "give --overwrite to replace it, or another --name"
        )
    return current


def _check_rejected(plan: Plan, limit: float, listing: Path) -> None:
    """Raises ValueError if too many images are rejected, or all, and writes their list to `listing`."""
    listing.unlink(missing_ok=True)
    count = len(plan.rejected)
    if count > limit * plan.lines or not plan.records:
        listing.parent.mkdir(parents=True, exist_ok=True)
        _write_listing(plan.rejected, listing)
        raise ValueError(
            f"{count} of {plan.lines} images are rejected, --max_rejected allows a fraction of {limit:g}; "
            f"{_reasons(plan)}; all are listed in {listing}"
        )


def _reasons(plan: Plan) -> str:
    """Why images were rejected: the first of them, how many are like it, and what is wrong with most of the others."""
    first = plan.rejected[0]
    place = f" (line {first['line']})" if "line" in first else ""
    counts = Counter(rejection["reason"] for rejection in plan.rejected)
    alike = counts.pop(first["reason"]) - 1
    more = [f"{alike} more for the same reason"] if alike else []
    more += [f"{count} for another reason: {reason}" for reason, count in counts.most_common(REASONS)]
    return "; ".join((f"the first is {first['image']}{place}: {first['reason']}", *more))


def _write_listing(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a JSON object on each line; no file if there are none."""
    if lines:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write(module: datasets.DataSet, plan: Plan, digest: str, name: str, stage: Path, beam_options: Any) -> Path:
    """Writes everything below `stage`; returns the folder of the version. OSError if the disk is full, for instance."""
    counts = {split: len(records) for split, records in plan.records.items()}
    meta = {**plan.meta, "digest": digest, "version": module.VERSION, "counts": counts}
    family, _, own = name.partition("/")
    with _quiet_tfds():
        builder = Builder(
            dataclasses.replace(plan, meta=meta),
            family=family,
            name=own,
            version=module.VERSION,
            beam=beam_options is not None,
            data_dir=stage,
        )
        download = tfds.download.DownloadConfig(beam_options=beam_options, try_download_gcs=False)
        try:
            builder.download_and_prepare(download_config=download)
        except RuntimeError as error:  # of ArrayRecord, which knows no OSError
            if not (reason := re.search(r"\(\) failed: (.*?); writing ", str(error))):
                raise
            raise OSError(f"{name} could not be written: {reason[1]}") from error
    folder = Path(builder.data_dir)
    write_tables(plan, folder)
    _write_listing(plan.rejected, folder / REJECTED)
    return folder


def _write_parts(
    module: datasets.DataSet, plan: Parts, digest: str, name: str, final: Path, stage: Path, beam_options: Any
) -> tuple[Path, tuple[str, ...]]:
    """The like for a set in parts, and what the user should hear. Parts that are done stay in a folder of their own."""
    family, _, own = name.partition("/")
    work, folder = _unfinished(final.parents[2], name), stage / family / own / module.VERSION
    work.mkdir(exist_ok=True)
    folder.mkdir(parents=True)
    with _quiet_tfds():
        told = parts.write(plan, work, final, beam_options)
        counts = sum((Counter(part["counts"]) for part in told), Counter())
        if not any(part["records"] for part in told):
            raise ValueError(f"nothing would be written to {work}; {'; '.join(plan.report(counts, work))}")
        parts.assemble(plan, told, work, folder, family, digest=digest, version=module.VERSION)
    return folder, plan.report(counts, folder)


def _unfinished(data_dir: Path, name: str) -> Path:
    """The folder of the parts of a set that is not complete."""
    return data_dir / (PARTS + name.replace("/", "-"))


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Without what TFDS prints about downloads, logs about custom configurations, and its own progress bars."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _staging(data_dir: Path, name: str) -> Iterator[Path]:
    """A hidden folder for one set, locked while it is used; what killed runs left behind is removed first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for leftover in data_dir.glob(f"{STAGING}*"):
        if held := _taken(leftover):
            _remove(leftover, held)
    stage = data_dir / (STAGING + name.replace("/", "-"))
    stage.mkdir(exist_ok=True)
    if (held := _taken(stage, patient=True)) is None:
        raise ValueError(f"{name} is being prepared by another process, in {stage}")
    try:
        if left := {path.name for path in stage.iterdir()} - {lock.NAME, lock.LEASE_NAME}:
            raise ValueError(f"{stage} cannot be emptied and holds {min(left)}; remove it")
        yield stage
    finally:
        _remove(stage, held)


def _taken(folder: Path, *, patient: bool = False) -> contextlib.ExitStack | None:
    """The lock of a folder as `lock.take` gives it; None too if the folder was just removed or is somebody else's."""
    try:
        return lock.take(folder, patient=patient)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _remove(stage: Path, held: contextlib.ExitStack) -> None:
    """Removes a locked folder, or as much of it as can be: what is left is said, and removed by the next `prepare`.

    It is renamed first, so that nobody takes it for a fresh one half-way, and removed once the lock's file is closed:
    network file systems keep what is open.
    """
    doomed = stage.with_name(f"{STAGING}{uuid.uuid4().hex}")
    try:
        with held:
            stage.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        if left := [path for path in (stage, doomed) if path.exists()]:
            logging.warning("%s cannot be removed now (%s); the next `facerep prepare` tries again", left[0], error)


def _publish(folder: Path, final: Path, stage: Path) -> None:
    """Moves a complete set under its final name; at every moment there is the old one, the new one, or none."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        final.rename(stage / "replaced")
    folder.rename(final)


def _summary(dataset: Dataset) -> str:
    total, splits = sum(dataset.splits.values()), ", ".join(f"{name} {count}" for name, count in dataset.splits.items())
    return f"{dataset.name}: {total} faces in {dataset.path} ({splits})\nfeatures: {', '.join(dataset.features)}"
