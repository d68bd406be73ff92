"""From the faces of a raw set to the records that are written: what every data set with files of its own shares.

A data set's module says which samples there are, by `gather`; `plan` looks at their files and does the rest. A value
that is wrong is an error (ValueError, FileNotFoundError) of one line that names the sample, the value and what would be
right. A broken image is not, nor a box or a point that cannot be of its image: large sets have some. The sample is left
out, and listed.

An image that is rotated by its EXIF is turned upright; landmarks, boxes and masks are those of the upright image.
"""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facerep_jax.data import paths
from facerep_jax.data.features import ALONE, NAMES, SPLITS, Numbers, check_more
from facerep_jax.data.images import size_of, stored_image, stored_mask
from facerep_jax.data.inspection import check, mask_rules, read_vertices
from facerep_jax.data.meta import IBUG, IBUG_FLIP, at, check_flip, check_keys, check_points, checked_meta
from facerep_jax.data.paths import Part, contents, files_of
from facerep_jax.data.raw_set import Packed, Sample, Samples
from facerep_jax.data.records import Example, Plan, complete
from facerep_jax.data.values import PATHS, kinds_with, split, text
from facerep_jax.suggestions import nearest

LABELS = {"identity": "identities", "expression": "expressions"}  # values that are names -> where meta lists them
FLIPS = {"attributes": "attribute_flip", "action_units": "action_unit_flip"}  # values by name -> flip of the names


def gather(folder: Path, samples: Iterable[Sample], meta: Mapping[str, Any], **described: Any) -> Samples:
    """The samples of a raw set with their values checked, and with all of its meta that follows from them.

    Args:
        folder: of the raw set.
        samples: in the order of the listing, or in another that does not change.
        meta: see `meta.checked_meta`; tuples may stand for lists.
        described: fields of `Samples`: `listing`, `meta_file` and `described_by`, for errors and digest; `more`,
            features that the vocabulary lacks; `tables`, which may name samples that are left out later.

    Raises:
        ValueError, FileNotFoundError: the first thing that is wrong.
    """
    raw = Samples(folder, (), json.loads(json.dumps(dict(meta))), {}, **described)
    check_more(raw.more)
    with at(raw.place_of_meta):
        checked_meta(raw.meta)
    kinds, root = kinds_with(raw.more), folder.resolve()
    points: tuple[int, str] | None = None  # how many landmarks, and what says so
    if flip := raw.meta.get("landmarks", {}).get("flip"):
        points = len(flip), f"landmarks.flip of {raw.meta_file or 'meta'}"
    found: dict[str, Sample] = {}
    link = ""
    for given in samples:
        place = raw.place(given)
        with at(place):
            values, leads_out = _checked_values(given.values, kinds, root, raw)
            name = given.id or str(given.values["image"])
            sample = Sample(Packed(values), text(name), split(given.split), given.line)
            if other := found.get(sample.id):
                twin = f"that of line {other.line} too" if raw.listing else "that of another sample"
                raise ValueError(f"id: {sample.id!r} is {twin}; ids must be unique")
            points = _check_counts(sample, points)
        found[sample.id] = sample
        link = link or (leads_out and place + leads_out)
    if not found:
        raise ValueError(f"{folder / raw.listing} is empty; at least one sample is expected")
    return _completed(dataclasses.replace(raw, samples=tuple(found.values()), link=link), points)


def _checked_values(
    given: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]], root: Path, raw: Samples
) -> tuple[dict[str, Any], str]:
    """The values of a sample as they are kept, without those that are None; and which is a link out of the folder."""
    meta_file, link = raw.meta_file or "meta", ""
    values = {}
    for key, value in given.items():
        check_keys((key,), kinds)
        if value is None:
            continue
        with at(f"{key}: "):
            values[key] = kinds[key](value)
            if key in PATHS:
                for file in files_of(values[key]):
                    found, leads_to = paths.find(root, file, raw.listing)
                    values[key] = values[key] if isinstance(values[key], Part) else found
                    if leads_to:
                        link = link or f"{key}: {file!r} is a link to {leads_to}, outside of the folder"
            elif key in FLIPS and key in raw.meta:
                _check_names(value, raw.meta[key], f"{key} of {meta_file}")
            elif key == "expression" and "expressions" in raw.meta:
                _check_names([value], raw.meta["expressions"], f"expressions of {meta_file}")
    if "image" not in values:
        raise ValueError(f"key 'image' is missing: the image's path, relative to {raw.listing or root}")
    if "mask" in values and "classes" not in raw.meta:
        raise ValueError(f"mask: {meta_file} must name the mask's `classes` in order")
    return values, link


def _check_names(names: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not among the {where}; {nearest(name, known)}")


def _check_counts(sample: Sample, points: tuple[int, str] | None) -> tuple[int, str] | None:
    """Landmarks, landmarks_3d and visible have one count in all samples: (count, what says so)."""
    for key in ("landmarks", "landmarks_3d", "visible"):
        if key in sample.values:
            found = len(sample.values[key])
            points = points or (found, f"line {sample.line}" if sample.line else sample.id)
            if found != points[0]:
                raise ValueError(f"{key}: {found} points, but {points[1]} has {points[0]}")
    return points


def _completed(raw: Samples, points: tuple[int, str] | None) -> Samples:
    """The samples with everything in their meta that follows from them."""
    meta, sizes = dict(raw.meta), {}
    if points:
        sizes["landmarks"] = points[0]
        if points[0] == len(IBUG_FLIP):
            meta.setdefault("landmarks", IBUG)
        with at(f"{raw.place_of_meta}landmarks: "):
            check_points(meta.get("landmarks", {}), points[0])
    for key, flip in FLIPS.items():
        used = {name for sample in raw.samples for name in sample.values.get(key, ())}
        if used:
            names = meta.setdefault(key, sorted(used))
            sizes[key] = len(names)
            if flip in meta:
                with at(f"{raw.place_of_meta}{flip}: "):
                    check_flip(meta[flip], len(names))
    for key, names_key in LABELS.items():
        used = {sample.values[key] for sample in raw.samples if key in sample.values}
        if used:
            meta.setdefault(names_key, sorted(used))
    return dataclasses.replace(raw, meta=meta, sizes=sizes)


def plan(raw: Samples) -> Plan:
    """Looks at every file of the samples: those that are rejected are left out, the others will be written."""
    checked = check(raw)
    found = {"id", "image"}.union(*(sample.values for sample in checked.samples))
    names = tuple(name for name in (*NAMES, *raw.more) if name in found)
    sizes = dict(raw.sizes) | ({"vertices": checked.vertices} if checked.vertices else {})
    labels = {
        key: {name: label for label, name in enumerate(raw.meta.get(names_key, ()))}
        for key, names_key in LABELS.items()
    }
    splits: dict[str, list[Sample]] = {}
    for sample in checked.samples:
        values = Packed(_numbered(sample.values, labels, raw.meta))
        splits.setdefault(sample.split, []).append(dataclasses.replace(sample, values=values))
    rejected = [dataclasses.asdict(rejection) for rejection in checked.rejected]
    shared = dict(folder=raw.folder.resolve(), names=names, sizes=sizes, more=raw.more, **mask_rules(raw.meta))
    meta = {key: value for key, value in raw.meta.items() if key != "mask_values"}  # records hold class ids
    return Plan(
        records={split: splits[split] for split in SPLITS if split in splits},
        example=functools.partial(example, **shared),
        names=names,
        sizes=sizes,
        meta={
            **meta,
            **_alone(splits),
            "absent": {split: _absent(samples, names) for split, samples in splits.items()},
        },
        lines=len(raw.samples),
        rejected=tuple({key: value for key, value in line.items() if key != "line" or value} for line in rejected),
        notes=(*raw.notes, *checked.notes, *_unsaid(raw, names)),
        more=raw.more,
        tables=raw.tables,
    )


def _unsaid(raw: Samples, names: Sequence[str]) -> Iterator[str]:
    """What follows from what the meta does not say, and the user should hear."""
    if "landmarks" in names and "normaliser" not in raw.meta.get("landmarks", {}):
        count, file = raw.sizes["landmarks"], raw.meta_file or "meta"
        yield f"{count} landmarks without landmarks.normaliser in {file}: errors are divided by the box"


def _alone(splits: Mapping[str, Sequence[Sample]]) -> dict[str, int]:
    """How many identities have one image in the training split, as a key of the meta if any have."""
    identities = (sample.values["identity"] for sample in splits.get("train", ()) if "identity" in sample.values)
    found = sum(count == 1 for count in Counter(identities).values())
    return {ALONE: found} if found else {}


def _absent(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, int]:
    """How many samples lack each feature, of the features that some lack."""
    given = Counter(name for sample in samples for name in sample.values)
    return {name: len(samples) - given[name] for name in names if name != "id" and given[name] < len(samples)}


def _numbered(
    values: Mapping[str, Any], labels: Mapping[str, Mapping[str, int]], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a sample, numbers in place of names."""
    numbered = dict(values.items())
    for key, label in labels.items():
        if key in values:
            numbered[key] = label[values[key]]
    for key in FLIPS:
        if key in values:
            numbered[key] = np.array([values[key].get(name, np.nan) for name in meta[key]], np.float32)
    return numbered


def example(
    sample: Sample,
    *,
    folder: Path,
    names: Sequence[str],
    sizes: Mapping[str, int],
    more: Numbers,
    **mask_rules: Any,
) -> tuple[str, Example]:
    """The key of a sample and what is written for it: its numbers, and the contents of its files."""
    values = {**dict(sample.values.items()), "id": sample.id}
    values["image"] = stored_image(contents(folder, values["image"]), sample.direct)
    if "mask" in values:
        size = size_of(values["image"])
        values["mask"] = stored_mask(contents(folder, values["mask"]), size=size, **mask_rules)
    if "vertices" in values:
        values["vertices"] = read_vertices(folder / values["vertices"])
    return sample.id, complete(values, names, sizes, more)
