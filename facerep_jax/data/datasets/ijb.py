"""IJB-B and IJB-C: templates of several images, pairs of them and galleries, in the form that insightface gives out.

The folder IJBB or IJBC of IJB_release.tar: loose_crop/1.jpg and so on, meta/ijbb_face_tid_mid.txt (image, template,
media: images of one video have the same), meta/ijbb_name_5pts_score.txt (image, x and y of five points, the detector's
score) and meta/ijbb_template_pair_label.txt (two templates, 1 if they are of one person); for IJB-C, ijbc_ in place of
ijbb_.

For 1:N search, NIST's lists may lie beside them: meta/ijbb_1N_gallery_S1.csv, ijbb_1N_gallery_S2.csv and
ijbb_1N_probe_mixed.csv, or for IJB-C ijbc_1N_gallery_G1.csv, ijbc_1N_gallery_G2.csv and ijbc_1N_probe_mixed.csv, with
the columns TEMPLATE_ID and SUBJECT_ID and a row for each image. All three, or none.

All images are the test split. `template` and `media` are integers, `face_score` is from 0 to 1; the five points are
left eye, right eye, nose, left and right corner of the mouth, as seen, in pixels of the loose crop, by which
evaluations align faces to insightface's template. The table `template_pairs` has first, second (templates) and same;
with NIST's lists there are `gallery`, with template, person and gallery (1 or 2), and `probes`, with template and
person. Rests on insightface's ijb evaluation (IJB_11.py, IJB_1N.py) and ports of it, and on bob.bio.face's ijbc for
names and columns of the lists.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.csv

from facerep_jax.data import listings, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.records import Table
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="ijb",
    title="IJB-B and IJB-C",
    tasks=("recognition",),
    source="https://github.com/deepinsight/insightface/tree/master/recognition/_evaluation_/ijb (IJB_release.tar), by"
    " NIST's terms",
    raw="the folder IJBB or IJBC with loose_crop and meta",
    counts={},
    licence="NIST's; images are under Creative Commons licences of their own",
    agreement="one asks NIST for access; research on recognition alone",
    citation="Whitelam et al., IARPA Janus Benchmark-B, CVPRW 2017; Maze et al., IARPA Janus Benchmark-C, ICB 2018",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
SETS = {"ijbb": 227_630, "ijbc": 469_375}  # -> images
GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}  # of different persons
MORE = {"template": (np.int32, ()), "media": (np.int32, ()), "face_score": (np.float32, ())}
META = {
    "crop": "aligned",
    "landmarks": {
        "flip": (1, 0, 2, 4, 3),
        "normaliser": {"kind": "inter_ocular", "left": 0, "right": 1},
        "five_points": ((0,), (1,), (2,), (3,), (4,)),
    },
}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of a set, and the table of pairs of its templates."""
    folder = BENCHMARK.folder(arg, manual_dir)
    faces = BENCHMARK.within(folder, *(f"meta/{name}_face_tid_mid.txt" for name in SETS))
    name = faces.removeprefix("meta/").partition("_")[0]
    points, pairs = (f"meta/{name}_{kind}.txt" for kind in ("name_5pts_score", "template_pair_label"))
    found = []
    listed = zip(listings.rows(folder / faces, 3), listings.rows(folder / points, 12), strict=True)
    for (image, template, media), (again, *numbers) in listed:
        if image != again or not (template.isdigit() and media.isdigit()):
            raise ValueError(f"{folder / faces}: {image} {template} {media} does not belong to {again} of {points}")
        values = {
            "image": f"loose_crop/{image}",
            "template": int(template),
            "media": int(media),
            "landmarks": listings.points(numbers[:10], 5, f"{image}: "),
            "face_score": float(listings.numbers(numbers[10:], f"{image}: ")[0]),
        }
        found.append(Sample(values, id=image.removesuffix(".jpg"), split="test"))
    known = {sample.values["template"] for sample in found}
    tables = {"template_pairs": template_pairs(folder / pairs, known)}
    lists = [f"meta/{name}_1N_{each}.csv" for each in (*(f"gallery_{of}" for of in GALLERIES[name]), "probe_mixed")]
    if any((folder / each).exists() for each in lists):
        tables |= searches(folder, lists, known)
    else:
        lists = []
    benchmark = dataclasses.replace(BENCHMARK, counts={"test": SETS[name]})
    files = (faces, points, pairs, *lists)
    return benchmark.gather(folder, found, META, more=MORE, tables=tables, described_by=files)


def searches(folder: Path, lists: Sequence[str], known: set[int]) -> dict[str, Table]:
    """The tables of 1:N search, `gallery` and `probes`, from the lists of two galleries and of the probes."""
    *galleries, probes = ([*persons(folder / each, known).items()] for each in lists)
    stored = [(*entry, number) for number, entries in enumerate(galleries, 1) for entry in entries]
    columns = zip(("template", "person", "gallery"), np.array(stored, np.int32).T, strict=True)
    wanted = zip(("template", "person"), np.array(probes, np.int32).T, strict=True)
    return {"gallery": dict(columns), "probes": dict(wanted)}


def persons(path: Path, known: set[int]) -> dict[int, int]:
    """The person of each template of a list that has a row for each image.

    Raises:
        ValueError: a row has no numbers, a template is of two persons or without an image, or there are none.
    """
    found: dict[int, int] = {}
    for place, row in listings.table(path, "TEMPLATE_ID", "SUBJECT_ID"):
        if not (row["TEMPLATE_ID"].isdigit() and row["SUBJECT_ID"].isdigit()):
            raise ValueError(f"{place}numbers are expected, not {row['TEMPLATE_ID']!r} and {row['SUBJECT_ID']!r}")
        template, person = int(row["TEMPLATE_ID"]), int(row["SUBJECT_ID"])
        if template not in known:
            raise ValueError(f"{place}template {template} has no image")
        if found.setdefault(template, person) != person:
            raise ValueError(f"{place}template {template} is of person {found[template]} above, not {person}")
    if not found:
        raise ValueError(f"{path} lists no templates")
    return found


def template_pairs(path: Path, known: set[int]) -> Table:
    """The table of pairs: IJB-C has 15 million, which a loop would take minutes for."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    names = ["first", "second", "same"]
    try:
        held = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(delimiter=" "),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.int32())),
        )
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: two templates and 0 or 1 are expected: {' '.join(str(error).split())}") from None
    first, second, same = (held[name].to_numpy() for name in names)
    if not set(np.unique(same)) <= {0, 1}:
        raise ValueError(f"{path}: the third number must be 0 or 1, not {same[~np.isin(same, (0, 1))][0]}")
    if unknown := ({*np.unique(first)} | {*np.unique(second)}) - known:
        raise ValueError(f"{path}: template {min(unknown)} has no image")
    return {"first": first, "second": second, "same": same.astype(bool)}
