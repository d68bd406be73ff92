"""A user's own faces, described by `faces.jsonl` (`facerep_jax.data.manifest` reads it)."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facerep_jax.data import features, images, manifest

NAME = "faces"
RAW = f"the folder with {manifest.RECORDS}"


def read(arg: str | None, manual_dir: Path | None) -> manifest.Manifest:
    """The manifest in `manual_dir`, its lines checked."""
    if arg is not None:
        raise ValueError(f"data set 'manifest' takes no arguments after the colon, but got {arg!r}")
    if manual_dir is None:
        raise ValueError(f"data set 'manifest' needs --manual_dir: {RAW}")
    return manifest.read(manual_dir)


def plan(raw: manifest.Manifest) -> features.Plan:
    """Looks at every file; what is broken is rejected, the rest will be written."""
    checked = manifest.check(raw)
    found = {"id", "image"}.union(*(record.values for record in checked.records))
    names = tuple(name for name in features.NAMES if name in found)
    sizes = dict(raw.sizes) | ({"vertices": checked.vertices} if checked.vertices else {})
    labels = {
        key: {name: label for label, name in enumerate(raw.meta.get(plural, ()))}
        for key, plural in (("identity", "identities"), ("expression", "expressions"))
    }
    splits: dict[str, list[manifest.Record]] = {}
    for record in checked.records:
        values = _numbered(record.values, labels, raw.meta)
        splits.setdefault(record.split, []).append(dataclasses.replace(record, values=values))
    made = f"{checked.converted} images stored as PNG: not an upright 8-bit RGB or grey JPEG or PNG"
    return features.Plan(
        records={split: splits[split] for split in features.SPLITS if split in splits},
        example=functools.partial(example, folder=raw.folder.resolve(), names=names, sizes=sizes),
        names=names,
        sizes=sizes,
        meta=raw.meta,
        lines=len(raw.records),
        rejected=tuple(map(dataclasses.asdict, checked.rejected)),
        notes=(made,) if checked.converted else (),
    )


def _numbered(
    values: Mapping[str, Any], labels: Mapping[str, Mapping[str, int]], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """A record's values with numbers where the manifest has names."""
    numbered = dict(values)
    for key, label in labels.items():
        if key in values:
            numbered[key] = label[values[key]]
    for key in ("attributes", "action_units"):
        if key in values:
            numbered[key] = np.array([values[key].get(name, np.nan) for name in meta[key]], np.float32)
    return numbered


def example(
    record: manifest.Record, *, folder: Path, names: Sequence[str], sizes: Mapping[str, int]
) -> tuple[str, features.Example]:
    """A record's key and what is written for it: its numbers, and the contents of its files."""
    values = dict(record.values, id=record.id)
    values["image"] = images.stored_image((folder / values["image"]).read_bytes())
    if "mask" in values:
        values["mask"] = images.stored_mask((folder / values["mask"]).read_bytes())
    if "vertices" in values:
        values["vertices"] = manifest.read_vertices(folder / values["vertices"])
    return record.id, features.complete(values, names, sizes)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes the records of a manifest; images that training can read pass through byte for byte."""

    name = "manifest"
    VERSION = tfds.core.Version("1.0.0")
    url_infos: ClassVar[dict[str, Any]] = {}  # none; TFDS's own look-up needs a package that it does not name

    def __init__(self, plan: features.Plan, *, beam: bool = False, **keywords: Any):
        self.plan, self.beam = plan, beam
        super().__init__(**keywords)

    def _info(self) -> tfds.core.DatasetInfo:
        return features.info(self, self.plan)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(records) for split, records in self.plan.records.items()}

    def _generate_examples(self, records: Sequence[manifest.Record]) -> Any:
        return features.generate(self.plan, records, beam=self.beam)
